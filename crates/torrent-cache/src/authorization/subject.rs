//! Who asks for what, and what an upstream says to that.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::digest::Digest;
use crate::upstream::{FetchError, FetchReply, UpstreamOrigin};

/// With whose credentials a request goes upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// Those that the client sent. The value is marked as sensitive.
    Client(HeaderValue),
    /// Ours.
    Own,
    /// None.
    Anonymous,
}

/// What a client wants from the cache.
#[derive(Clone, Copy, Debug)]
pub struct AccessSubject<'a> {
    /// The upstream that it is of.
    pub origin: &'a UpstreamOrigin,
    /// The repository, such as `library/alpine`.
    pub repository: &'a str,
    /// The path upstream: `/v2/…/blobs/…` or `/v2/…/manifests/…`.
    pub path: &'a str,
    /// What it is: see `ContentName::identity`.
    pub digest: &'a Digest,
    /// Its length in bytes, if it is known.
    pub length: Option<u64>,
}

/// Whether a client may have it.
#[derive(Debug)]
pub enum Permission {
    /// Yes.
    Granted,
    /// No. This goes to the client.
    Denied(UpstreamDenial),
    /// The upstream does not tell.
    Unknown(FetchError),
}

/// An upstream's no: 401 with its challenge, 403 or 404. It has no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamDenial {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, such as `WWW-Authenticate`, without those about the body.
    pub headers: HeaderMap,
}

impl UpstreamDenial {
    /// A reply's no, without what is about its body.
    pub fn of(reply: &FetchReply) -> Self {
        let mut headers = reply.headers.clone();
        for name in [CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE] {
            headers.remove(name);
        }
        Self { status: reply.status, headers }
    }
}
