//! The task of a flight: from the upstream into the store.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CHUNK;
use super::resuming::ResumingBody;
use super::shared::{SharedTransfer, transfer_shared};
use super::source::{BlobSource, FlightFault, SourceError};
use super::state::{Flight, FlightPhase, UncachedBlob};
use super::stored::serve_stored;
use super::transfer::{Transferred, blocking, unwanted};
use crate::content::{ContentName, ContentVerifier};
use crate::digest::Digest;
use crate::sharing::Sharing;
use crate::store::{BlobStore, IncomingBlob, StoredBlob};
use crate::swarm_tracker::ShareKey;

/// The most fetches at the same time. Each has a connection to an upstream, a file and about 1 MiB of memory. A fetch
/// can outlive its client, so the limit on clients' connections does not bound fetches.
pub(super) const MAX_FETCHES: usize = 128;

/// Bytes on their way to the disk. The permit is their share of the task's memory.
type Chunk = (Bytes, OwnedSemaphorePermit);

/// What the flights of a process share.
#[derive(Clone)]
pub(super) struct FetchContext {
    pub(super) store: BlobStore,
    /// The other hosts of the network, if blobs are shared with them.
    pub(super) sharing: Option<Arc<Sharing>>,
    /// A permit for each fetch that may run at the same time.
    pub(super) fetches: Arc<Semaphore>,
}

/// Fetches the blob, unless the store has it and the source may use that copy. Returns the flight's last phase.
pub(super) async fn fetch<S: BlobSource + Clone>(
    flight: &Flight<S::Error>,
    upstream: &str,
    source: &S,
    context: &FetchContext,
) -> FlightPhase<S::Error> {
    match fetch_into(flight, upstream, source, context).await {
        Ok(phase) => phase,
        Err(fault) => FlightPhase::Failed(Arc::new(fault)),
    }
}

async fn fetch_into<S: BlobSource + Clone>(
    flight: &Flight<S::Error>,
    upstream: &str,
    source: &S,
    context: &FetchContext,
) -> Result<FlightPhase<S::Error>, FlightFault<S::Error>> {
    let FetchContext { store, sharing, fetches } = context;
    let name = flight.name;
    // Another flight may have stored the blob after the client looked into the store.
    if let Some(digest) = source.stored_digest(&name).await {
        let place = store.clone();
        let find = move || place.find(&digest).unwrap_or_default().filter(|stored| !discard_if_cut(stored));
        if let Some(stored) = blocking(find).await? {
            let (digest, length) = (stored.digest(), stored.length());
            let end = serve_stored(flight, stored).await;
            if end.is_ok() {
                offer(sharing.as_ref(), upstream, digest, length);
            }
            return end;
        }
    }
    let Ok(_fetch) = fetches.try_acquire() else { return Err(FlightFault::TooMany) };
    // The lease is held to the end. Other hosts see the blob's length in it, so they do not wait: see
    // `ShareStart::alone`.
    let _lease = match sharing {
        None => None,
        Some(sharing) => match transfer_shared(flight, sharing, upstream, store, source).await? {
            SharedTransfer::Alone(lease) => lease,
            SharedTransfer::Shared(shared) => {
                let (transferred, session) = *shared;
                let end = end(flight, source, transferred).await;
                match &end {
                    Ok(FlightPhase::Verified { digest, .. }) if flight.stored.get().is_some() => {
                        session.stored(*digest);
                    }
                    Err(fault) if fault.is_other_content() => session.was_wrong(),
                    _ => {}
                }
                return end;
            }
        },
    };
    let mut body = ResumingBody::new(source.clone(), 0, None);
    body.open().await?;
    let length = body.length();
    flight.state.send_modify(|state| state.length = length);
    let place = store.clone();
    let incoming = match blocking(move || place.begin(&name, length)).await? {
        Ok(incoming) => incoming,
        Err(error) => {
            log::info!("{name}: not cached: {error}");
            body.give_back();
            return uncached(length, UncachedBlob { spool: None, from: 0, verifier: ContentVerifier::new(&name) });
        }
    };
    // An empty reply is complete at once, so an empty blob opens only after it is verified.
    if length != Some(0) {
        flight.set_phase(FlightPhase::Spooling { spool: incoming.file(), available: 0 });
    }
    let transferred = transfer(flight, body, incoming).await?;
    let end = end(flight, source, transferred).await;
    if let (Ok(FlightPhase::Verified { digest, length, .. }), ContentName::Blob(_)) = (&end, name) {
        offer(sharing.as_ref(), upstream, *digest, *length);
    }
    end
}

/// Offers a blob to other hosts. Called for a blob from the store, and for a blob that was fetched without other hosts.
fn offer(sharing: Option<&Arc<Sharing>>, upstream: &str, digest: Digest, length: u64) {
    if let Some(sharing) = sharing {
        sharing.offer(ShareKey::new(upstream, digest), digest, length);
    }
}

/// Stores a complete blob. If the disk failed, or the fault concerns only one client, each reader fetches the rest
/// itself.
async fn end<S: BlobSource>(
    flight: &Flight<S::Error>,
    source: &S,
    transferred: Transferred<S::Error>,
) -> Result<FlightPhase<S::Error>, FlightFault<S::Error>> {
    let Transferred { incoming, received, written } = transferred;
    let (name, length) = (flight.name, flight.length());
    if let Err(error) = written {
        log::warn!("{name}: not cached from byte {} on: {error}", incoming.written());
        return uncached(length, given_up(incoming).await?);
    }
    if let Err(fault) = received {
        let blob = given_up(incoming).await?;
        if !fault.concerns_one_client() {
            return Err(fault);
        }
        log::info!("{name}: not cached from byte {} on: {fault}", blob.from);
        source.landed(Err(&fault)).await;
        return uncached(length, blob);
    }
    store_blob(flight, incoming).await
}

/// Discards a file that has lost all its bytes. Readers would not notice, because an empty reply is complete at once.
fn discard_if_cut(stored: &StoredBlob) -> bool {
    let is_cut = stored.length() == 0 && stored.digest() != Digest::of(b"");
    if is_cut {
        stored.discard();
    }
    is_cut
}

/// Removes an incomplete file. Readers that have it open can still read it.
async fn given_up<E>(incoming: IncomingBlob) -> Result<UncachedBlob, FlightFault<E>> {
    let (spool, from, verifier) = (Some(incoming.file()), incoming.written(), incoming.verifier().clone());
    blocking(move || drop(incoming)).await?;
    Ok(UncachedBlob { spool, from, verifier })
}

fn uncached<E>(length: Option<u64>, blob: UncachedBlob) -> Result<FlightPhase<E>, FlightFault<E>> {
    if length == Some(0) {
        blob.verifier.clone().finish()?;
    }
    Ok(FlightPhase::Uncached(Arc::new(blob)))
}

/// Receives from the upstream and writes to the disk at the same time.
async fn transfer<S: BlobSource>(
    flight: &Flight<S::Error>,
    body: ResumingBody<S>,
    incoming: IncomingBlob,
) -> Result<Transferred<S::Error>, FlightFault<S::Error>> {
    let (sender, chunks) = unbounded_channel();
    let (received, written) = tokio::join!(receive(body, sender, unwanted(flight)), write(flight, chunks, incoming));
    let (incoming, written) = written?;
    Ok(Transferred { incoming, received, written })
}

/// Passes on what the upstream sends. Waits while [`CHUNK`] bytes wait for the disk, and ends when the disk fails.
async fn receive<S: BlobSource>(
    mut body: ResumingBody<S>,
    chunks: UnboundedSender<Chunk>,
    unwanted: impl Future<Output = ()>,
) -> Result<(), FlightFault<S::Error>> {
    let mut unwanted = pin!(unwanted);
    let memory = Arc::new(Semaphore::new(CHUNK as usize));
    loop {
        let next = tokio::select! {
            next = body.next() => next?,
            () = chunks.closed() => None,
            () = &mut unwanted => return Err(FlightFault::Unwanted),
        };
        let Some(bytes) = next else { return Ok(()) };
        let share = u32::try_from(bytes.len()).unwrap_or(CHUNK).min(CHUNK);
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&memory).acquire_many_owned(share).await else { return Ok(()) };
        if chunks.send((bytes, permit)).is_err() {
            return Ok(());
        }
    }
}

/// Writes to the spool. Chunks that arrived together are written together, because each write changes threads. Returns
/// the spool, and whether the disk took everything.
async fn write<E: SourceError>(
    flight: &Flight<E>,
    mut chunks: UnboundedReceiver<Chunk>,
    mut incoming: IncomingBlob,
) -> Result<(IncomingBlob, io::Result<()>), FlightFault<E>> {
    while let Some(first) = chunks.recv().await {
        let mut batch = vec![first];
        while let Ok(chunk) = chunks.try_recv() {
            batch.push(chunk);
        }
        let append = move || {
            let written = batch.iter().try_for_each(|(bytes, _)| incoming.append(bytes));
            (incoming, written)
        };
        let (returned, written) = blocking(append).await?;
        incoming = returned;
        if written.is_err() {
            return Ok((incoming, written));
        }
        flight.spooled(incoming.written());
    }
    Ok((incoming, Ok(())))
}

/// Verifies the blob, so that readers get its last byte. Then commits the blob to the store. Readers do not wait for
/// that.
async fn store_blob<E: SourceError>(
    flight: &Flight<E>,
    incoming: IncomingBlob,
) -> Result<FlightPhase<E>, FlightFault<E>> {
    let verified = blocking(move || incoming.verify()).await??;
    let (file, digest, length) = (verified.file(), verified.digest(), verified.length());
    flight.set_phase(FlightPhase::Verified { file: Arc::clone(&file), digest, length });
    match blocking(move || verified.commit()).await? {
        Ok(stored) => {
            let _ = flight.stored.set(stored);
        }
        Err(error) => log::warn!("{}: served but not stored: {error}", flight.name),
    }
    Ok(FlightPhase::Verified { file, digest, length })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::flight::tests::{BodyStep, FakeSource, opened};

    #[tokio::test]
    async fn a_slow_disk_holds_the_upstream_back() {
        let source =
            FakeSource::new(|_, _| opened(0, None, (0..100).map(|_| BodyStep::Send(Bytes::from(vec![0; 300_000])))));
        let (sender, mut receiver) = unbounded_channel();
        let mut receive = std::pin::pin!(receive(ResumingBody::new(source, 0, None), sender, std::future::pending()));
        let waiting = async {
            let mut count = 0;
            while count < 3 {
                count += usize::from(receiver.try_recv().map(std::mem::forget).is_ok());
                tokio::task::yield_now().await;
            }
            // Three chunks are in memory. A fourth chunk would exceed `CHUNK`.
            for _ in 0..100 {
                tokio::task::yield_now().await;
                assert!(receiver.try_recv().is_err());
            }
        };
        tokio::select! {
            _ = &mut receive => panic!("all was received"),
            () = waiting => {}
        }
    }
}
