//! What a flight needs of an upstream, and how it fails.

use std::error::Error;
use std::future::ready;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::content::{ContentName, WrongContent};
use crate::digest::Digest;

/// The default of [`BlobSource::longest_silence`]. It is longer than the deadlines of most sources.
pub const LONGEST_SILENCE: Duration = Duration::from_mins(2);

/// Where a blob comes from: a request to the upstream, with the credentials of one client.
pub trait BlobSource: 'static {
    /// The body of a reply.
    type Body: BlobBody<Error = Self::Error>;
    /// The failure of a request.
    type Error: SourceError;

    /// Requests the blob from this byte on; an upstream without ranges may send all of it. The call has a deadline.
    fn open(&self, offset: u64) -> impl Future<Output = Result<OpenedBody<Self::Body>, Self::Error>>;

    /// Returns a time longer than the deadlines of this source. A source that is silent for longer has a defect, and
    /// the flight fails.
    fn longest_silence(&self) -> Duration {
        LONGEST_SILENCE
    }

    /// Returns the digest under which this source may take the content from the store. `None`: it must be fetched.
    fn stored_digest(&self, name: &ContentName) -> impl Future<Output = Option<Digest>> {
        ready(name.digest())
    }

    /// Returns whether the upstream lets this client have the content. The flight calls this before it fetches from
    /// other hosts.
    fn is_admitted(&self, _name: &ContentName) -> impl Future<Output = bool> {
        ready(true)
    }

    /// Takes back an unread body that the flight cannot store. The next [`Self::open`] at the same offset should return
    /// it, so that the upstream is not asked twice.
    fn take_back(&self, _unread: OpenedBody<Self::Body>) {}

    /// Learns how the flight with this source has ended: with verified content, or with a fault. Not called if the
    /// store has no room or its disk fails. Until this call returns, clients still join the flight. After a fault,
    /// readers may go on with their own sources.
    fn landed(&self, _end: Result<LandedContent, &FlightFault<Self::Error>>) -> impl Future<Output = ()> {
        ready(())
    }
}

/// Content that is complete and verified.
#[derive(Clone, Copy, Debug)]
pub struct LandedContent {
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// The length in bytes.
    pub length: u64,
    /// Bytes that other hosts of the network delivered; `None` if they were not asked.
    pub from_peers: Option<u64>,
}

/// A body that an upstream has begun to send.
#[derive(Debug)]
pub struct OpenedBody<B> {
    /// The place of the body's first byte in the blob: the offset that was asked for, or 0.
    pub offset: u64,
    /// The length of the whole blob, if the upstream tells it.
    pub length: Option<u64>,
    /// The bytes.
    pub body: B,
}

/// The bytes of a reply, as they come.
pub trait BlobBody {
    /// The failure of a read.
    type Error;

    /// Returns the next bytes; `None` at the end. The call has a deadline.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>>;
}

/// An upstream's failure.
pub trait SourceError: Error + Send + Sync + 'static {
    /// Returns whether the upstream refused this client (401, 403, 404). A second try is useless, but another client
    /// may get an answer.
    fn is_refusal(&self) -> bool;
}

/// Why a flight, or a reader, failed.
#[derive(Debug, Error)]
pub enum FlightFault<E> {
    /// The upstream failed, and attempts to continue failed as well.
    #[error(transparent)]
    Source(E),
    /// The upstream was silent for longer than [`BlobSource::longest_silence`].
    #[error("the upstream was silent for too long")]
    Silent,
    /// The bytes are not the content that the upstream was asked for.
    #[error("the upstream sent wrong content: {0}")]
    Wrong(#[from] WrongContent),
    /// The body ended early, and attempts to continue failed as well.
    #[error("the upstream sent {got} of {length} bytes")]
    TooShort {
        /// Bytes that were announced.
        length: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The upstream sent more bytes than it had announced.
    #[error("the upstream sent more than the announced {length} bytes")]
    TooLong {
        /// Bytes that were announced.
        length: u64,
    },
    /// A second reply announced another length than the first.
    #[error("the upstream first announced {first} bytes, then {then} bytes")]
    LengthChanged {
        /// Bytes, in the first reply.
        first: u64,
        /// Bytes, in a later reply.
        then: u64,
    },
    /// A reply began after the byte that was asked for.
    #[error("the upstream was asked for the bytes from {asked} on, and sent bytes from {got} on")]
    Misplaced {
        /// The first byte that was asked for.
        asked: u64,
        /// The first byte that came.
        got: u64,
    },
    /// The store's disk failed.
    #[error("the storage failed: {0}")]
    Disk(#[from] io::Error),
    /// The store's file of the blob was damaged, and is removed. The next request fetches the blob.
    #[error("the file in the storage was damaged")]
    Damaged,
    /// The limit of fetches at the same time is reached.
    #[error("too many fetches at once")]
    TooMany,
    /// The fetch had no reader for a minute, and less than half of the blob was there.
    #[error("no client read the blob for a minute")]
    Unwanted,
    /// The flight's task has ended early, because the process ends or has a defect.
    #[error("the fetch was given up")]
    Abandoned,
}

impl<E: SourceError> FlightFault<E> {
    /// See [`SourceError::is_refusal`].
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Source(error) if error.is_refusal())
    }

    /// Returns whether the upstream has content that differs from what it was asked for.
    pub fn is_other_content(&self) -> bool {
        matches!(self, Self::Wrong(_) | Self::TooLong { .. } | Self::TooShort { .. } | Self::LengthChanged { .. })
    }

    /// Returns whether the fault concerns only the client whose source the flight uses. Others use their own sources.
    pub(super) fn concerns_one_client(&self) -> bool {
        self.is_refusal() || matches!(self, Self::Unwanted)
    }

    /// Returns whether a further attempt at the same place may succeed.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Source(error) => !error.is_refusal(),
            Self::Silent | Self::TooShort { .. } => true,
            _ => false,
        }
    }
}
