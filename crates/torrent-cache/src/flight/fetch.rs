//! The task of a flight: from the upstream into the store.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::CHUNK;
use super::resuming::ResumingBody;
use super::source::{BlobSource, FlightFault, SourceError};
use super::state::{Flight, FlightPhase, UncachedBlob};
use crate::digest::Digest;
use crate::store::{BlobStore, CommitError, IncomingBlob};

/// Bytes on their way to the disk, with their share of the task's memory.
type Chunk = (Bytes, OwnedSemaphorePermit);

/// Why a blob did not come into the spool whole.
enum Interruption<E> {
    Source(FlightFault<E>),
    Disk(IncomingBlob, io::Error),
}

/// Fetches the blob, unless the store has it. Returns the flight's last phase.
pub(super) async fn fetch<S: BlobSource>(
    flight: &Flight<S::Error>,
    store: &BlobStore,
    source: S,
) -> FlightPhase<S::Error> {
    match fetch_into(flight, store, source).await {
        Ok(phase) => phase,
        Err(fault) => FlightPhase::Failed(Arc::new(fault)),
    }
}

async fn fetch_into<S: BlobSource>(
    flight: &Flight<S::Error>,
    store: &BlobStore,
    source: S,
) -> Result<FlightPhase<S::Error>, FlightFault<S::Error>> {
    let digest = flight.digest;
    let place = store.clone();
    // A flight may have ended between the client's look into the store and its joining.
    if let Some(stored) = blocking(move || place.find(&digest)).await?.unwrap_or_default() {
        let phase = FlightPhase::Verified { file: Arc::clone(stored.file()), length: stored.length() };
        let _ = flight.stored.set(stored);
        return Ok(phase);
    }
    let mut body = ResumingBody::new(source, 0, None);
    body.open().await?;
    let length = body.length();
    flight.state.send_modify(|state| state.length = length);
    let place = store.clone();
    let incoming = match blocking(move || place.begin(&digest, length)).await? {
        Ok(incoming) => incoming,
        Err(error) => {
            log::info!("{digest}: not cached: {error}");
            return uncached(digest, length, UncachedBlob::default());
        }
    };
    // An empty reply is complete before its first byte is read, so it waits for the digest.
    if length != Some(0) {
        flight.set_phase(FlightPhase::Spooling { spool: incoming.file(), available: 0 });
    }
    match transfer(flight, body, incoming).await {
        Ok(incoming) => store_blob(flight, incoming).await,
        Err(Interruption::Source(fault)) => Err(fault),
        Err(Interruption::Disk(incoming, error)) => {
            let from = incoming.written();
            log::warn!("{digest}: not cached from byte {from} on: {error}");
            let spool = Some(incoming.file());
            uncached(digest, length, UncachedBlob { spool, from, hasher: incoming.hasher().clone() })
        }
    }
}

fn uncached<E>(digest: Digest, length: Option<u64>, blob: UncachedBlob) -> Result<FlightPhase<E>, FlightFault<E>> {
    let got = Digest::of(b"");
    if length == Some(0) && got != digest {
        return Err(FlightFault::WrongDigest { expected: digest, got });
    }
    Ok(FlightPhase::Uncached(blob))
}

/// Receives and writes at the same time.
async fn transfer<S: BlobSource>(
    flight: &Flight<S::Error>,
    body: ResumingBody<S>,
    incoming: IncomingBlob,
) -> Result<IncomingBlob, Interruption<S::Error>> {
    let (sender, receiver) = unbounded_channel();
    // Whatever fails first ends the other.
    let ((), incoming) = tokio::try_join!(receive(body, sender), write(flight, receiver, incoming))?;
    Ok(incoming)
}

/// Passes on what the upstream sends, as long as less than [`CHUNK`] bytes wait for the disk.
async fn receive<S: BlobSource>(
    mut body: ResumingBody<S>,
    chunks: UnboundedSender<Chunk>,
) -> Result<(), Interruption<S::Error>> {
    let memory = Arc::new(Semaphore::new(CHUNK as usize));
    while let Some(bytes) = body.next().await.map_err(Interruption::Source)? {
        let share = u32::try_from(bytes.len()).unwrap_or(CHUNK).min(CHUNK);
        let permit = Arc::clone(&memory).acquire_many_owned(share).await;
        let Some(()) = permit.ok().and_then(|permit| chunks.send((bytes, permit)).ok()) else { break };
    }
    Ok(())
}

/// Writes all that has arrived at once, so that a fast upstream costs few changes of threads.
async fn write<E: SourceError>(
    flight: &Flight<E>,
    mut chunks: UnboundedReceiver<Chunk>,
    mut incoming: IncomingBlob,
) -> Result<IncomingBlob, Interruption<E>> {
    while let Some(first) = chunks.recv().await {
        let mut batch = vec![first];
        while let Ok(chunk) = chunks.try_recv() {
            batch.push(chunk);
        }
        let append = move || {
            let written = batch.iter().try_for_each(|(bytes, _)| incoming.append(bytes));
            (incoming, written)
        };
        let (returned, written) = blocking(append).await.map_err(Interruption::Source)?;
        incoming = returned;
        if let Err(error) = written {
            return Err(Interruption::Disk(incoming, error));
        }
        let now_available = incoming.written();
        flight.state.send_modify(|state| {
            if let FlightPhase::Spooling { available, .. } = &mut state.phase {
                *available = now_available;
            }
        });
    }
    Ok(incoming)
}

/// Readers get the last byte as soon as the digest is right. They do not wait for the disk.
async fn store_blob<E: SourceError>(
    flight: &Flight<E>,
    incoming: IncomingBlob,
) -> Result<FlightPhase<E>, FlightFault<E>> {
    let verified = match incoming.verify() {
        Ok(verified) => verified,
        Err(CommitError::WrongDigest { expected, got }) => return Err(FlightFault::WrongDigest { expected, got }),
        Err(CommitError::Disk(error)) => return Err(error.into()),
    };
    let (file, length) = (verified.file(), verified.length());
    flight.set_phase(FlightPhase::Verified { file: Arc::clone(&file), length });
    match blocking(move || verified.commit()).await? {
        Ok(stored) => {
            let _ = flight.stored.set(stored);
        }
        Err(error) => log::warn!("{}: served but not stored: {error}", flight.digest),
    }
    Ok(FlightPhase::Verified { file, length })
}

async fn blocking<T: Send + 'static, E>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FlightFault<E>> {
    spawn_blocking(work).await.map_err(|_| FlightFault::Abandoned)
}
