//! A flight of a blob that hosts share. Its pieces come from peers and from the upstream, in any order.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::time::{Instant, sleep};

use super::CHUNK;
use super::resuming::ResumingBody;
use super::source::{BlobSource, FlightFault, SourceError};
use super::state::{Flight, FlightPhase};
use super::transfer::{Transferred, blocking, unwanted};
use crate::content::ContentName;
use crate::sharing::{OwnLease, PieceFeeder, SMALLEST, ShareSession, ShareStart, Sharing};
use crate::store::{BlobStore, IncomingBlob};
use crate::swarm::{PieceShape, SharedContent, SwarmEnded, SwarmMembership};
use crate::swarm_tracker::{SHARED_PIECE_LENGTH, ShareKey};

/// How often a host asks the tracker for the length of a blob that another host has begun to fetch.
const SIZE_POLL: Duration = Duration::from_millis(50);
/// How long the host asks the tracker for the length.
const FOR_SIZE: Duration = Duration::from_secs(3);
/// How long a step waits for more bytes from a slow upstream or swarm, because each step costs changes of threads.
const GATHER: Duration = Duration::from_millis(12);
/// The most bytes that are read and dropped to get to a later place. This takes less time than another request.
const FEW_PIECES: u64 = 2 * SHARED_PIECE_LENGTH as u64;
/// An upstream counts as slow if it sends fewer bytes than this at a time.
const FEW: usize = 128 * 1024;

/// The outcome of fetching a blob with other hosts.
pub(super) enum SharedTransfer<E> {
    /// The blob was fetched with other hosts, or that fetch has failed.
    Shared(Box<(Transferred<E>, ShareSession)>),
    /// The blob is to be fetched without other hosts. While a lease is held, other hosts see it and do not wait for
    /// pieces.
    Alone(Option<OwnLease>),
}

/// Fetches a blob with the other hosts of the network, if the tracker answers and the blob is long enough.
pub(super) async fn transfer_shared<S: BlobSource + Clone>(
    flight: &Flight<S::Error>,
    sharing: &Arc<Sharing>,
    upstream: &str,
    store: &BlobStore,
    source: &S,
) -> Result<SharedTransfer<S::Error>, FlightFault<S::Error>> {
    let ContentName::Blob(digest) = flight.name else { return Ok(SharedTransfer::Alone(None)) };
    let key = ShareKey::new(upstream, digest);
    let Some(start) = start(sharing, &key).await else { return Ok(SharedTransfer::Alone(None)) };
    let mut body = ResumingBody::new(source.clone(), 0, start.length());
    if start.length().is_none() {
        body.open().await?;
    } else if !source.is_admitted(&flight.name).await {
        // The blob is fetched without other hosts, so that the client gets the upstream's own refusal.
        return Ok(SharedTransfer::Alone(None));
    }
    let Some(length) = body.length().filter(|length| *length >= SMALLEST) else {
        let lease = start.alone(body.length()).await;
        body.give_back();
        return Ok(SharedTransfer::Alone(lease));
    };
    let (Some(incoming), Some(shape)) =
        (begin(flight, store, length).await?, PieceShape::new(length, SHARED_PIECE_LENGTH))
    else {
        body.give_back();
        return Ok(SharedTransfer::Alone(None));
    };
    let hashes = start.hashes();
    let content = Arc::new(SharedContent::new(incoming.file(), shape, hashes));
    let Some(session) = ShareSession::begin(sharing, key, &start, &content).await else {
        body.give_back();
        return Ok(SharedTransfer::Alone(None));
    };
    let _ = flight.shared.set(Arc::clone(&content));
    flight.state.send_modify(|state| {
        state.length = Some(length);
        state.phase = FlightPhase::Spooling { spool: incoming.file(), available: 0 };
    });
    let mut feeder = UpstreamFeeder {
        source: source.clone(),
        content: Arc::clone(&content),
        body,
        rest: Bytes::new(),
        gathered: usize::MAX,
        fault: None,
    };
    let fetch = async {
        let fetched = tokio::select! {
            fetched = session.fetch(start, &mut feeder) => fetched,
            () = unwanted(flight) => Err(FlightFault::Unwanted),
        };
        if fetched.is_err() {
            content.fail();
        }
        fetched
    };
    let (fetched, adopted) = tokio::join!(fetch, adopt(flight, &content, incoming));
    let (incoming, adopted) = adopted?;
    let written = if fetched.is_err() { Ok(()) } else { adopted };
    Ok(SharedTransfer::Shared(Box::new((Transferred { incoming, received: fetched, written }, session))))
}

/// Asks the tracker how the blob is shared, until the blob's length is known or this host leads. `None`: fetch alone.
async fn start(sharing: &Arc<Sharing>, key: &ShareKey) -> Option<ShareStart> {
    let begun = Instant::now();
    while begun.elapsed() < FOR_SIZE {
        let start = sharing.begin(key).await?;
        if start.length().is_some() || matches!(start, ShareStart::Lead(_)) {
            return Some(start);
        }
        // The leader does not know the length yet, because it waits for the upstream's reply.
        sleep(SIZE_POLL).await;
    }
    None
}

/// Makes room for the whole blob, because its pieces come in any order. Returns `None` if there is no room.
async fn begin<E: SourceError>(
    flight: &Flight<E>,
    store: &BlobStore,
    length: u64,
) -> Result<Option<IncomingBlob>, FlightFault<E>> {
    let (store, name) = (store.clone(), flight.name);
    let begun = blocking(move || {
        let mut incoming = store.begin(&name, Some(length))?;
        incoming.reserve()?;
        Ok::<_, io::Error>(incoming)
    });
    Ok(begun.await?.inspect_err(|error| log::info!("{name}: not shared: {error}")).ok())
}

/// Verifies the bytes up to the first gap, for the readers. Ends when the blob is complete or no more pieces come.
/// Returns the spool, and whether the disk works.
async fn adopt<E: SourceError>(
    flight: &Flight<E>,
    content: &SharedContent,
    mut incoming: IncomingBlob,
) -> Result<(IncomingBlob, io::Result<()>), FlightFault<E>> {
    let mut progress = content.progress();
    loop {
        let now = *progress.borrow_and_update();
        if incoming.written() < now.prefix {
            let adopt = move || {
                let adopted = incoming.adopt(now.prefix);
                (incoming, adopted)
            };
            let (returned, adopted) = blocking(adopt).await?;
            incoming = returned;
            if adopted.is_err() {
                content.fail();
                return Ok((incoming, adopted));
            }
            flight.spooled(incoming.written());
            // The first bytes are adopted at once, because a client waits for them. Later bytes are adopted many at a
            // time.
            if incoming.written() > u64::from(CHUNK) && progress.borrow().prefix < content.shape().length {
                sleep(GATHER).await;
            }
        } else if now.prefix == content.shape().length {
            return Ok((incoming, Ok(())));
        } else if now.has_failed {
            return Ok((incoming, Err(io::Error::other("a piece could not be written"))));
        } else if progress.changed().await.is_err() {
            return Err(FlightFault::Abandoned);
        }
    }
}

struct UpstreamFeeder<S: BlobSource> {
    source: S,
    content: Arc<SharedContent>,
    body: ResumingBody<S>,
    /// Bytes that were read from the body, and that no piece has taken yet.
    rest: Bytes,
    /// How many bytes the last call of `next` read from the body.
    gathered: usize,
    /// The failure of the body, which is reported after the bytes that came before it.
    fault: Option<FlightFault<S::Error>>,
}

impl<S: BlobSource + Clone> PieceFeeder for UpstreamFeeder<S> {
    type Fault = FlightFault<S::Error>;

    async fn feed(&mut self, swarm: &SwarmMembership, anything: bool) -> Result<(), Self::Fault> {
        while let Some(offset) = swarm.claim(anything).await.map_err(|SwarmEnded| FlightFault::Abandoned)? {
            self.piece(offset).await.inspect_err(|_| self.content.give_up_claim())?;
        }
        Ok(())
    }
}

impl<S: BlobSource + Clone> UpstreamFeeder<S> {
    /// Fetches the claimed piece, from its first missing byte on.
    async fn piece(&mut self, offset: u64) -> Result<(), FlightFault<S::Error>> {
        self.go_to(offset).await?;
        let piece = self.content.shape().piece_at(offset);
        while !self.content.has(piece) {
            let bytes = self.next().await?;
            let place = self.body.position() - bytes.len() as u64;
            let (content, taken) = (Arc::clone(&self.content), bytes.clone());
            match blocking(move || content.append(place, &taken)).await? {
                // A peer has delivered the piece meanwhile.
                Ok(0) => {
                    self.rest = bytes;
                    break;
                }
                Ok(taken) => self.rest = bytes.slice(taken..),
                Err(error) => {
                    log::warn!("a piece from the upstream could not be written: {error}");
                    self.content.fail();
                    // Waits until this future is dropped. The fetch ends because the content has failed.
                    pending::<()>().await;
                }
            }
        }
        Ok(())
    }

    /// Goes to this place in the blob. Reads and drops the bytes before it if they are few, or if the upstream ignores
    /// ranges. Otherwise asks the upstream for the bytes from this place on.
    async fn go_to(&mut self, offset: u64) -> Result<(), FlightFault<S::Error>> {
        let place = self.body.position() - self.rest.len() as u64;
        let gap = offset.checked_sub(place).filter(|gap| *gap <= FEW_PIECES || self.body.ignores_ranges());
        let Some(mut gap) = gap.filter(|gap| *gap == 0 || self.body.is_open()) else {
            self.rest = Bytes::new();
            self.body = ResumingBody::new(self.source.clone(), offset, Some(self.content.shape().length));
            return Ok(());
        };
        while gap > 0 {
            let mut bytes = self.next().await?;
            let known = bytes.len().min(usize::try_from(gap).unwrap_or(usize::MAX));
            self.rest = bytes.split_off(known);
            gap -= known as u64;
        }
        Ok(())
    }

    /// Returns what has arrived, from one byte up to [`CHUNK`]: all of it, because each call costs changes of threads.
    async fn next(&mut self) -> Result<Bytes, FlightFault<S::Error>> {
        if !self.rest.is_empty() {
            return Ok(std::mem::take(&mut self.rest));
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let length = self.content.shape().length;
        let too_short = |got| FlightFault::TooShort { length, got };
        let first = self.body.next().await?.ok_or_else(|| too_short(self.body.position()))?;
        if self.gathered < FEW {
            sleep(GATHER).await;
        }
        let mut all = BytesMut::from(first);
        while all.len() < CHUNK as usize {
            match self.body.next().now_or_never() {
                Some(Ok(Some(bytes))) => all.extend_from_slice(&bytes),
                Some(Err(fault)) => {
                    self.fault = Some(fault);
                    break;
                }
                Some(Ok(None)) | None => break,
            }
        }
        self.gathered = all.len();
        Ok(all.freeze())
    }
}
