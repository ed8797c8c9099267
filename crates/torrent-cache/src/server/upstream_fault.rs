//! How the upstream of a blob fails.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use thiserror::Error;

use crate::authorization::Denial;
use crate::flight::SourceError;
use crate::upstream::{FetchError, FetchReply};

/// How the upstream of a blob fails.
#[derive(Debug, Error)]
pub(super) enum UpstreamFault {
    /// It says no.
    #[error("the upstream answered with status {}", .0.status.as_u16())]
    Denied(Denial),
    /// It fails.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl SourceError for UpstreamFault {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}

/// An upstream's no, without what is about its body.
pub(super) fn denial(reply: &FetchReply) -> Denial {
    let mut headers = reply.headers.clone();
    for name in [CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE] {
        headers.remove(name);
    }
    Denial { status: reply.status, headers }
}
