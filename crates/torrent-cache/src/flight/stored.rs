//! A flight of a blob that the store has. The first flight of a blob in a process verifies the file, because disks
//! damage files.
//!
//! Readers read while the file is verified, as they do while a blob arrives. The last byte of each reply waits for the
//! digest of the whole file, even if the reply is about a part.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::source::{FlightFault, SourceError};
use super::state::{Flight, FlightPhase};
use crate::store::StoredBlob;

/// Verifies the store's file, unless this process has verified it before. Returns the flight's last phase.
pub(super) async fn serve_stored<E: SourceError>(
    flight: &Flight<E>,
    stored: StoredBlob,
) -> Result<FlightPhase<E>, FlightFault<E>> {
    let (file, digest, length) = (Arc::clone(stored.file()), stored.digest(), stored.length());
    let _ = flight.stored.set(stored.clone());
    // An empty reply is complete at once. The caller has already made sure that an empty file is right.
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
