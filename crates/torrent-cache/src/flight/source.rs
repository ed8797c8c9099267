//! What a flight needs of an upstream, and how it fails.

use std::error::Error;
use std::future::ready;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::content::{ContentName, WrongContent};
use crate::digest::Digest;

/// Longer than most deadlines.
pub const LONGEST_SILENCE: Duration = Duration::from_mins(2);

/// Where a blob comes from: one client's way to it, with that client's credentials.
pub trait BlobSource: 'static {
    /// What is opened.
    type Body: BlobBody<Error = Self::Error>;
    /// How that fails.
    type Error: SourceError;

    /// Asks for the blob from this byte on. An upstream that knows no ranges may begin at zero. Has a deadline.
    fn open(&self, offset: u64) -> impl Future<Output = Result<OpenedBody<Self::Body>, Self::Error>>;

    /// Longer than the deadlines of this source. After so long the flight takes the source for one that has forgotten
    /// them, so that it ends in every case.
    fn longest_silence(&self) -> Duration {
        LONGEST_SILENCE
    }

    /// Under which digest the store may have the content for this source. `None`: it is fetched although the store may
    /// have it.
    fn stored_digest(&self, name: &ContentName) -> impl Future<Output = Option<Digest>> {
        ready(name.digest())
    }

    /// Whether the upstream lets this client have the content. Asked before the content is fetched from other hosts.
    fn is_admitted(&self, _name: &ContentName) -> impl Future<Output = bool> {
        ready(true)
    }

    /// Takes back a body of which nothing was read, because the flight cannot store it. The next [`Self::open`] from the
    /// same place should return it, so that the upstream is not asked twice.
    fn take_back(&self, _unread: OpenedBody<Self::Body>) {}

    /// A flight with this source has ended: with the content if it is complete and right. Not called if the store has no
    /// room. Those who ask while this lasts still join the flight. After a failure, readers can go on with their own
    /// sources.
    fn landed(&self, _end: Result<LandedContent, &FlightFault<Self::Error>>) -> impl Future<Output = ()> {
        ready(())
    }
}

/// Content that is complete and right.
#[derive(Clone, Copy, Debug)]
pub struct LandedContent {
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub length: u64,
    /// Bytes that other hosts of the network delivered; `None` if they were not asked.
    pub from_peers: Option<u64>,
}

/// A body that an upstream has begun to send.
#[derive(Debug)]
pub struct OpenedBody<B> {
    /// The first byte's place in the blob: what was asked for, or zero.
    pub offset: u64,
    /// The length of the whole blob, if the upstream tells.
    pub length: Option<u64>,
    /// The bytes.
    pub body: B,
}

/// The bytes of a reply, as they come.
pub trait BlobBody {
    /// How reading fails.
    type Error;

    /// The next bytes; `None` at the end. Has a deadline.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>>;
}

/// An upstream's failure.
pub trait SourceError: Error + Send + Sync + 'static {
    /// Whether the upstream refused this client's request (401, 403, 404): it makes no sense to try again, but another
    /// client may be answered.
    fn is_refusal(&self) -> bool;
}

/// Why a flight, or a reader, failed.
#[derive(Debug, Error)]
pub enum FlightFault<E> {
    /// The upstream failed, and again when the fetch was continued.
    #[error(transparent)]
    Source(E),
    /// The upstream was silent for so long that the source must have forgotten its deadline.
    #[error("the upstream was silent for too long")]
    Silent,
    /// The upstream sent something else than it was asked for.
    #[error("the upstream sent something else: {0}")]
    Wrong(#[from] WrongContent),
    /// The body ended early, and again when the fetch was continued.
    #[error("the upstream sent {got} of {length} bytes")]
    TooShort {
        /// Bytes that were announced.
        length: u64,
        /// Bytes that came.
        got: u64,
    },
    /// More came than was announced.
    #[error("the upstream sent more than the announced {length} bytes")]
    TooLong {
        /// Bytes that were announced.
        length: u64,
    },
    /// A second reply announced another length than the first.
    #[error("the upstream announced first {first} bytes, then {then}")]
    LengthChanged {
        /// Bytes, in the first reply.
        first: u64,
        /// Bytes, in a later reply.
        then: u64,
    },
    /// A reply began behind the byte that was asked for.
    #[error("the upstream was asked for the bytes from {asked} on, and sent those from {got} on")]
    Misplaced {
        /// The first byte that was asked for.
        asked: u64,
        /// The first byte that came.
        got: u64,
    },
    /// The spool could not be read.
    #[error("the storage failed: {0}")]
    Disk(#[from] io::Error),
    /// The store's file of the blob was damaged. It is removed, so the next request fetches it.
    #[error("the file in the storage was damaged")]
    Damaged,
    /// As many blobs are being fetched as may be at once.
    #[error("too many fetches at once")]
    TooMany,
    /// It has no reader any more.
    #[error("it had no reader for a minute")]
    Unwanted,
    /// The process is about to end, or has a defect.
    #[error("the fetch was given up")]
    Abandoned,
}

impl<E: SourceError> FlightFault<E> {
    /// See [`SourceError::is_refusal`].
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Source(error) if error.is_refusal())
    }

    /// Whether what the upstream has is not what it was asked for.
    pub fn is_other_content(&self) -> bool {
        matches!(self, Self::Wrong(_) | Self::TooLong { .. } | Self::TooShort { .. } | Self::LengthChanged { .. })
    }

    /// Whether it says nothing about those who read, other than the client whose source the flight has: they go on with
    /// their own sources.
    pub(super) fn concerns_one_client(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Unwanted)
    }

    /// Whether a further attempt at the same place may succeed.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Source(error) => !error.is_refusal(),
            Self::Silent | Self::TooShort { .. } => true,
            _ => false,
        }
    }
}
