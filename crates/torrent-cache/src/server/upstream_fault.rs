//! How the upstream of a blob or a manifest fails.

use thiserror::Error;

use crate::authorization::UpstreamDenial;
use crate::flight::SourceError;
use crate::upstream::FetchError;

/// How the upstream of a blob or a manifest fails.
#[derive(Clone, Debug, Error)]
pub(super) enum UpstreamFault {
    /// It says no.
    #[error("the upstream answered with status {}", .0.status.as_u16())]
    Denied(UpstreamDenial),
    /// It fails.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It sends a manifest with another digest: which one.
    #[error("{0}")]
    WrongManifest(String),
    /// The process is about to end, or has a defect.
    #[error("the fetch was given up")]
    Abandoned,
}

impl SourceError for UpstreamFault {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}
