//! A flight of what the store has: the first use of a blob in a process verifies it, as disks damage files.
//!
//! Readers read while that goes on, as they do while a blob arrives, and the last byte of each reply waits for the digest.
//! So a reply about a part of the blob waits for all of it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::CHUNK;
use super::reader::read_into;
use super::source::{FlightFault, SourceError};
use super::state::{Flight, FlightPhase};
use crate::digest::{Digest, DigestHasher};
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
        match digest_of(Arc::clone(&file), length).await {
            Ok(got) if got == digest => stored.verified(),
            end => {
                let removed = spawn_blocking(move || stored.discard()).await;
                removed.map_err(|_| FlightFault::Abandoned)?;
                return Err(end.map_or_else(FlightFault::Disk, |_| FlightFault::Damaged));
            }
        }
    }
    Ok(FlightPhase::Verified { file, digest, length })
}

/// The digest of a file, of which at most [`CHUNK`] bytes are in memory.
async fn digest_of(file: Arc<File>, length: u64) -> io::Result<Digest> {
    let (mut hasher, mut buffer, mut position) = (DigestHasher::default(), Vec::with_capacity(CHUNK as usize), 0);
    while position < length {
        let file = Arc::clone(&file);
        let step = spawn_blocking(move || {
            buffer.clear();
            read_into(&file, &mut buffer, position)?;
            hasher.update(&buffer);
            Ok::<_, io::Error>((hasher, buffer))
        });
        (hasher, buffer) = step.await.map_err(io::Error::other)??;
        position += buffer.len() as u64;
    }
    Ok(hasher.finish())
}
