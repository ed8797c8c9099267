//! How the upstream of a blob or a manifest fails.

use thiserror::Error;

use crate::authorization::UpstreamDenial;
use crate::flight::SourceError;
use crate::upstream::FetchError;

/// How the upstream of a blob or a manifest fails.
#[derive(Clone, Debug, Error)]
pub(super) enum UpstreamFault {
    /// The upstream refuses the request.
    #[error("the upstream answered with status {}", .0.status.as_u16())]
    Denied(UpstreamDenial),
    /// The request to the upstream fails.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The upstream sent a manifest with another digest. The text names both digests.
    #[error("{0}")]
    WrongManifest(String),
    /// The fetch ended without a result, because the process is stopping or the fetch panicked.
    #[error("the fetch was given up")]
    Abandoned,
}

impl SourceError for UpstreamFault {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}
