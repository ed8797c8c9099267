//! A flight of what the store has: the first use of a blob in a process verifies it, as disks damage files.
//!
//! Readers read while that goes on, as they do while a blob arrives, and the last byte of each reply waits for the digest.
//! So a reply about a part of the blob waits for all of it.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::source::{FlightFault, SourceError};
use super::state::{Flight, FlightPhase};
use crate::store::StoredBlob;

/// Verifies the store's blob, unless this process has done so. Returns the flight's last phase.
pub(super) async fn serve_stored<E: SourceError>(
    flight: &Flight<E>,
    stored: StoredBlob,
) -> Result<FlightPhase<E>, FlightFault<E>> {
    let (file, digest, length) = (Arc::clone(stored.file()), stored.digest(), stored.length());
    let _ = flight.stored.set(stored.clone());
    // What is empty is complete before its first byte is read, and the caller has looked at it.
    if !stored.is_verified() && length > 0 {
        flight.state.send_modify(|state| {
            state.length = Some(length);
            state.phase = FlightPhase::Spooling { spool: Arc::clone(&file), available: length };
        });
        let verify = spawn_blocking(move || stored.is_right()).await;
        if !verify.map_err(|_| FlightFault::Abandoned)?? {
            return Err(FlightFault::Damaged);
        }
    }
    Ok(FlightPhase::Verified { file, digest, length })
}
