//! How the upstream of a blob fails.

use thiserror::Error;

use crate::authorization::UpstreamDenial;
use crate::flight::SourceError;
use crate::upstream::FetchError;

/// How the upstream of a blob fails.
#[derive(Debug, Error)]
pub(super) enum UpstreamFault {
    /// It says no.
    #[error("the upstream answered with status {}", .0.status.as_u16())]
    Denied(UpstreamDenial),
    /// It fails.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl SourceError for UpstreamFault {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied(_))
    }
}
