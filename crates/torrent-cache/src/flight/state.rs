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

/// What a flight fetches. One upstream's failures are not those of another, so the upstream is part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlightKey {
    /// The upstream, in any form that tells it from others.
    pub upstream: Arc<str>,
    /// The content.
    pub name: ContentName,
}

/// One fetch of one blob.
pub struct Flight<E> {
    pub(super) name: ContentName,
    pub(super) state: watch::Sender<FlightState<E>>,
    /// Keeps the blob from being evicted while somebody reads it through this flight.
    pub(super) stored: OnceLock<StoredBlob>,
    /// What hosts of the network put together, if they may deliver some of it.
    pub(super) shared: OnceLock<Arc<SharedContent>>,
    pub(super) begun: Instant,
}

pub(super) struct FlightState<E> {
    /// The blob's length, once it is known.
    pub(super) length: Option<u64>,
    pub(super) phase: FlightPhase<E>,
}

pub(super) enum FlightPhase<E> {
    /// The upstream was asked.
    Opening,
    /// Bytes arrive, or the store's blob is being verified. So many of them can be read.
    Spooling { spool: Arc<File>, available: u64 },
    /// The blob is complete and right.
    Verified { file: Arc<File>, digest: Digest, length: u64 },
    /// The store has no room.
    Uncached(Arc<UncachedBlob>),
    /// No reader gets the blob from this flight.
    Failed(Arc<FlightFault<E>>),
}

/// The beginning of a blob that the store could not take whole.
pub(super) struct UncachedBlob {
    /// Absent if nothing was stored.
    pub(super) spool: Option<Arc<File>>,
    /// So many bytes are in the spool.
    pub(super) from: u64,
    /// Knows these bytes.
    pub(super) verifier: ContentVerifier,
}

/// What a reader does next.
pub(super) enum ReaderStep<E> {
    /// Reads from the file, from its position to this one.
    Read {
        file: Arc<File>,
        to: u64,
    },
    /// Goes on without the flight.
    PassThrough(Arc<UncachedBlob>),
    /// The reply is complete.
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

    /// The blob's length, if the upstream tells it, or once the blob is complete.
    pub fn length(&self) -> Option<u64> {
        self.state.borrow().length
    }

    /// Whether hosts of the network may deliver some of it.
    pub fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// Whether readers get the blob past the store. Then the whole blob is a better answer than a range of it.
    pub fn is_uncached(&self) -> bool {
        matches!(self.state.borrow().phase, FlightPhase::Uncached(_))
    }

    /// Whether there is no reader, and less than half of the blob is there. A blob of unknown length counts as not half there.
    pub(super) fn is_unwanted(&self) -> bool {
        let state = self.state.borrow();
        let available = match state.phase {
            FlightPhase::Spooling { available, .. } => available,
            _ => 0,
        };
        self.state.receiver_count() == 0 && state.length.is_none_or(|length| available < length.div_ceil(2))
    }

    /// So many bytes of the spool can be read now.
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
    /// Waits until bytes can be read, or the first failure.
    pub(super) async fn opened(&self) -> Result<(), Arc<FlightFault<E>>> {
        let mut changes = self.state.subscribe();
        // The sender lives as long as `self`.
        let state = changes.wait_for(|state| !matches!(state.phase, FlightPhase::Opening)).await;
        match state.map_err(|_| Arc::new(FlightFault::Abandoned))?.phase {
            FlightPhase::Failed(ref fault) => Err(Arc::clone(fault)),
            _ => Ok(()),
        }
    }
}

impl<E> FlightState<E> {
    /// What a reader of the bytes from `position` to `end` does next; `None`: it waits. `end` is absent or too large
    /// if the blob's length was not known when the reader began.
    pub(super) fn step(&self, position: u64, end: Option<u64>) -> Option<ReaderStep<E>> {
        let end = end.unwrap_or(u64::MAX).min(self.length.unwrap_or(u64::MAX));
        // Readers do not get the last byte before the blob is verified: neither the last that they want, nor the last
        // that is there, which may be the blob's last.
        let read = |file: &Arc<File>, available: u64| {
            let to = available.min(end).saturating_sub(1);
            (position < to).then(|| ReaderStep::Read { file: Arc::clone(file), to })
        };
        match &self.phase {
            FlightPhase::Opening => None,
            FlightPhase::Spooling { spool, available } => {
                // With a length that is known, the last byte that is there may go if it is not the last wanted one.
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
