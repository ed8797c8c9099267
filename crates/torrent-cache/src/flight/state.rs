//! A flight as its task and its readers see it.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio::time::Instant;

use super::source::{FlightFault, SourceError};
use crate::content::{ContentName, ContentVerifier};
use crate::digest::Digest;
use crate::store::StoredBlob;
use crate::swarm::SharedContent;

/// What a flight fetches, and from where: one upstream can fail while another works.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlightKey {
    /// The upstream, as any text that differs from the texts of other upstreams.
    pub upstream: Arc<str>,
    /// The content.
    pub name: ContentName,
}

/// One fetch of one blob.
pub struct Flight<E> {
    pub(super) name: ContentName,
    pub(super) state: watch::Sender<FlightState<E>>,
    /// Keeps the blob from being evicted while a client reads it through this flight.
    pub(super) stored: OnceLock<StoredBlob>,
    /// The content that this host and other hosts put together. Empty if the blob is fetched without the swarm.
    pub(super) shared: OnceLock<Arc<SharedContent>>,
    pub(super) begun: Instant,
}

pub(super) struct FlightState<E> {
    /// The blob's length, once it is known.
    pub(super) length: Option<u64>,
    pub(super) phase: FlightPhase<E>,
}

pub(super) enum FlightPhase<E> {
    /// Readers cannot read yet, for example because the upstream has not replied.
    Opening,
    /// Bytes arrive, or the store's file is being verified. Readers can read the first `available` bytes.
    Spooling { spool: Arc<File>, available: u64 },
    /// The blob is complete and right.
    Verified { file: Arc<File>, digest: Digest, length: u64 },
    /// The store does not take the blob, or the flight ended early. Readers read the rest from their own sources.
    Uncached(Arc<UncachedBlob>),
    /// The flight failed, and so do its readers.
    Failed(Arc<FlightFault<E>>),
}

/// The beginning of a blob that the store could not take whole.
pub(super) struct UncachedBlob {
    /// The file with these bytes; `None` if nothing was stored.
    pub(super) spool: Option<Arc<File>>,
    /// How many bytes are in the spool.
    pub(super) from: u64,
    /// The verifier after exactly these bytes.
    pub(super) verifier: ContentVerifier,
}

/// What a reader does next.
pub(super) enum ReaderStep<E> {
    /// Reads from the file, from the reader's position to `to`.
    Read {
        file: Arc<File>,
        to: u64,
    },
    /// Reads the rest from the reader's own source.
    PassThrough(Arc<UncachedBlob>),
    End,
    Fail(Arc<FlightFault<E>>),
}

impl<E> Flight<E> {
    pub(super) fn new(name: ContentName) -> Self {
        let state = FlightState { length: None, phase: FlightPhase::Opening };
        Self {
            name,
            state: watch::Sender::new(state),
            stored: OnceLock::new(),
            shared: OnceLock::new(),
            begun: Instant::now(),
        }
    }

    /// Returns the blob's length, if the upstream tells it or the blob is complete.
    pub fn length(&self) -> Option<u64> {
        self.state.borrow().length
    }

    /// Returns whether other hosts may deliver some of the blob.
    pub fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// Returns whether readers read the rest from their own sources. If so, the server should answer a range with the
    /// whole blob.
    pub fn is_uncached(&self) -> bool {
        matches!(self.state.borrow().phase, FlightPhase::Uncached(_))
    }

    /// Returns whether there is no reader, and less than half of the blob is there or its length is unknown.
    pub(super) fn is_unwanted(&self) -> bool {
        let state = self.state.borrow();
        let available = match state.phase {
            FlightPhase::Spooling { available, .. } => available,
            _ => 0,
        };
        self.state.receiver_count() == 0 && state.length.is_none_or(|length| available < length.div_ceil(2))
    }

    /// Notes that readers can read so many bytes of the spool now.
    pub(super) fn spooled(&self, now_available: u64) {
        self.state.send_modify(|state| {
            if let FlightPhase::Spooling { available, .. } = &mut state.phase {
                *available = now_available;
            }
        });
    }

    pub(super) fn set_phase(&self, phase: FlightPhase<E>) {
        self.state.send_modify(|state| {
            if let FlightPhase::Verified { length, .. } = phase {
                state.length = Some(length);
            }
            state.phase = phase;
        });
    }
}

impl<E: SourceError> Flight<E> {
    /// Waits until bytes can be read. Returns the fault if the flight fails before that.
    pub(super) async fn opened(&self) -> Result<(), Arc<FlightFault<E>>> {
        let mut changes = self.state.subscribe();
        // This does not fail, because the sender lives as long as `self`.
        let state = changes.wait_for(|state| !matches!(state.phase, FlightPhase::Opening)).await;
        match state.map_err(|_| Arc::new(FlightFault::Abandoned))?.phase {
            FlightPhase::Failed(ref fault) => Err(Arc::clone(fault)),
            _ => Ok(()),
        }
    }
}

impl<E> FlightState<E> {
    /// Returns what a reader of the bytes from `position` to `end` does next; `None`: the reader waits. `end` can be
    /// absent or too large if the length was unknown when the reader began.
    pub(super) fn step(&self, position: u64, end: Option<u64>) -> Option<ReaderStep<E>> {
        let end = end.unwrap_or(u64::MAX).min(self.length.unwrap_or(u64::MAX));
        // Before the blob is verified, a reader gets neither the last byte that it wants, nor the last byte that has
        // arrived. That byte may be the blob's last.
        let read = |file: &Arc<File>, available: u64| {
            let to = available.min(end).saturating_sub(1);
            (position < to).then(|| ReaderStep::Read { file: Arc::clone(file), to })
        };
        match &self.phase {
            FlightPhase::Opening => None,
            FlightPhase::Spooling { spool, available } => {
                // If the length is known and the reader wants more than has arrived, the last byte that has arrived
                // is not the blob's last byte.
                let is_known = self.length.is_some();
                read(spool, available.saturating_add(u64::from(is_known && *available < end)))
            }
            FlightPhase::Verified { file, .. } if position < end => {
                Some(ReaderStep::Read { file: Arc::clone(file), to: end })
            }
            FlightPhase::Verified { .. } => Some(ReaderStep::End),
            FlightPhase::Uncached(blob) => {
                let spooled = blob.spool.as_ref().and_then(|spool| read(spool, blob.from));
                Some(spooled.unwrap_or_else(|| ReaderStep::PassThrough(Arc::clone(blob))))
            }
            FlightPhase::Failed(fault) => Some(ReaderStep::Fail(Arc::clone(fault))),
        }
    }
}
