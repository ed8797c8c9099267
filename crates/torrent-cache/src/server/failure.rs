//! Errors as replies and as log lines.

use std::fmt;
use std::sync::Arc;

use actix_http::StatusCode;
use actix_http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use super::client_request::UpstreamPath;
use super::reply::{CacheReply, copy_headers, text_reply};
use super::upstream_fault::UpstreamFault;
use crate::authorization::UpstreamDenial;
use crate::flight::FlightFault;
use crate::registry::errors::{RegistryError, RegistryErrorKind};
use crate::registry::path::PathRefusal;
use crate::upstream::{FetchError, FetchFault, RetryAfter};

/// How many seconds clients shall wait after a 429 of an upstream that sends no `Retry-After`.
const WAIT_UNKNOWN: u64 = 60;

/// Why a request does not get what it asks for.
#[derive(Debug)]
pub(super) enum RequestFailure {
    /// This program refuses the request.
    Refused(RegistryError),
    /// The upstream refuses the request.
    Denied { at: Box<UpstreamPath>, denial: Box<UpstreamDenial> },
    /// The upstream fails.
    Fetch(FetchError),
    /// The fetch of a blob fails.
    Flight(Arc<FlightFault<UpstreamFault>>),
    /// The upstream sent a manifest with another digest than the client asked for. The text names both digests.
    WrongManifest(String),
    /// The range is outside the blob.
    OutsideBlob { length: u64 },
}

impl RequestFailure {
    /// Makes the failure for an upstream's refusal.
    pub(super) fn denied(at: &UpstreamPath, denial: UpstreamDenial) -> Self {
        Self::Denied { at: Box::new(at.clone()), denial: Box::new(denial) }
    }
}

impl From<FetchError> for RequestFailure {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<PathRefusal> for RequestFailure {
    fn from(refusal: PathRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl RequestFailure {
    /// Makes a refusal by this program.
    pub(super) fn refused(kind: RegistryErrorKind, message: impl Into<String>) -> Self {
        Self::Refused(RegistryError::new(kind, message))
    }

    /// Refuses a request for a server that is not listed.
    pub(super) fn not_listed(host: &str) -> Self {
        PathRefusal::NotListed(host.to_owned()).into()
    }

    /// Makes the failure for a flight's fault. If the upstream's own reply caused the fault, the client gets that
    /// reply.
    pub(super) fn of_flight(at: &UpstreamPath, fault: Arc<FlightFault<UpstreamFault>>) -> Self {
        match &*fault {
            FlightFault::Source(fault) => Self::of_upstream(at, fault.clone()),
            _ => Self::Flight(fault),
        }
    }

    /// Makes the failure for an upstream's fault.
    pub(super) fn of_upstream(at: &UpstreamPath, fault: UpstreamFault) -> Self {
        match fault {
            UpstreamFault::Denied(denial) => Self::denied(at, denial),
            UpstreamFault::Fetch(error) => Self::Fetch(error),
            UpstreamFault::WrongManifest(what) => Self::WrongManifest(what),
            UpstreamFault::Abandoned => Self::Flight(Arc::new(FlightFault::Abandoned)),
        }
    }

    /// Writes the reply for the client. The text may name the server and paths, but never credentials.
    pub(super) fn reply(&self) -> CacheReply {
        let error = self.error();
        let status = match self {
            Self::Denied { denial, .. } => denial.status.as_u16(),
            _ => error.status(),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut reply = text_reply(status, RegistryError::MEDIA_TYPE, error.body());
        match self {
            Self::Denied { denial, .. } => {
                copy_headers(&denial.headers, reply.headers_mut());
                reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(RegistryError::MEDIA_TYPE));
            }
            Self::OutsideBlob { length } => {
                if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
                    reply.headers_mut().insert(CONTENT_RANGE, value);
                }
            }
            // After ten seconds, much of what is under way will have ended.
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            }
            Self::Fetch(error) => {
                let told = error.retry_after().map(RetryAfter::seconds);
                let unknown = (status == StatusCode::TOO_MANY_REQUESTS).then_some(WAIT_UNKNOWN);
                if let Some(seconds) = told.or(unknown) {
                    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                }
            }
            _ => {}
        }
        reply
    }

    fn error(&self) -> RegistryError {
        use {RegistryError as Error, RegistryErrorKind as Kind};
        match self {
            Self::Refused(error) => error.clone(),
            Self::Denied { at, denial } => {
                let server = &at.origin;
                match denial.status.as_u16() {
                    401 => Error::new(
                        Kind::Unauthorized,
                        format!("{server} wants a login for this; log in to this server"),
                    ),
                    403 => Error::new(Kind::Denied, format!("{server} does not let this user read this")),
                    _ => Error::new(unknown(&at.path), format!("{server} has nothing with this name")),
                }
            }
            Self::Fetch(error) => {
                let kind = match error.status() {
                    429 => Kind::TooManyRequests,
                    504 => Kind::UpstreamLate,
                    _ => Kind::UpstreamWrong,
                };
                Error::new(kind, error.sentence())
            }
            Self::Flight(fault) => match &**fault {
                FlightFault::Disk(_) | FlightFault::Damaged | FlightFault::Abandoned => {
                    Error::new(Kind::Internal, "the cache could not finish this; try again")
                }
                FlightFault::TooMany => Error::new(
                    Kind::Busy,
                    "the cache already fetches the most blobs that it can fetch at once; try again later",
                ),
                FlightFault::Silent => Error::new(Kind::UpstreamLate, "the upstream did not answer; try again"),
                fault => Error::new(Kind::UpstreamWrong, format!("{fault}; try again")),
            },
            Self::WrongManifest(what) => Error::new(Kind::UpstreamWrong, format!("{what}; try again")),
            Self::OutsideBlob { length } => {
                Error::new(Kind::RangeInvalid, format!("the range is outside the blob, which has {length} bytes"))
            }
        }
    }

    /// Whether the upstream has other content than the client asked for. A flight sees this by the digest. A request
    /// for permission sees it by another length in a reply 200 or 206.
    pub(super) fn is_other_content(&self) -> bool {
        match self {
            Self::Flight(fault) => fault.is_other_content(),
            Self::Fetch(error) => matches!(error.fault, FetchFault::Status(200 | 206, _)),
            _ => false,
        }
    }

    /// Whether the log shows this failure as a warning, because the client did not cause it.
    pub(super) fn is_fault(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Denied { .. } | Self::OutsideBlob { .. })
    }
}

/// Returns the error kind for a path that the upstream does not have.
fn unknown(path: &str) -> RegistryErrorKind {
    if path.contains("/manifests/") {
        RegistryErrorKind::ManifestUnknown
    } else if path.contains("/blobs/") {
        RegistryErrorKind::BlobUnknown
    } else {
        RegistryErrorKind::NotFound
    }
}

/// Writes the cause, for the log.
impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.write_str(&error.message),
            Self::Denied { at, denial } => write!(f, "{} answered with status {}", at.origin, denial.status.as_u16()),
            Self::Fetch(error) => error.fmt(f),
            Self::Flight(fault) => fault.fmt(f),
            Self::WrongManifest(what) => f.write_str(what),
            Self::OutsideBlob { length } => write!(f, "the range is outside the blob, which has {length} bytes"),
        }
    }
}
