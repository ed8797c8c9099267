//! Whose credentials a request has, what the client wants, and how the upstream answers.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::digest::Digest;
use crate::upstream::{FetchError, FetchReply, UpstreamOrigin};

/// Whose credentials a request has upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The client's own credentials. The value is marked as sensitive.
    Client(HeaderValue),
    /// Our credentials.
    Own,
    /// No credentials.
    Anonymous,
}

/// What a client wants from the cache.
#[derive(Clone, Copy, Debug)]
pub struct AccessSubject<'a> {
    /// The upstream of the content.
    pub origin: &'a UpstreamOrigin,
    /// The repository, such as `library/alpine`.
    pub repository: &'a str,
    /// The path upstream: `/v2/…/blobs/…` or `/v2/…/manifests/…`.
    pub path: &'a str,
    /// The identity of the content: see `ContentName::identity`.
    pub digest: &'a Digest,
    /// The length of the content in bytes, if it is known.
    pub length: Option<u64>,
}

/// Whether a client may have the content.
#[derive(Debug)]
pub enum Permission {
    /// The client may have it.
    Granted,
    /// The client may not have it. The client gets this denial.
    Denied(UpstreamDenial),
    /// The upstream did not answer whether the client may have it.
    Unknown(FetchError),
}

/// An upstream's refusal: 401 with its challenge, 403 or 404. The body is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamDenial {
    /// The status of the reply.
    pub status: StatusCode,
    /// The headers of the reply, such as `WWW-Authenticate`, without the headers about the body.
    pub headers: HeaderMap,
}

impl UpstreamDenial {
    /// Takes the status and the headers of a reply, without the headers about the body.
    pub fn of(reply: &FetchReply) -> Self {
        let mut headers = reply.headers.clone();
        for name in [CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE] {
            headers.remove(name);
        }
        Self { status: reply.status, headers }
    }
}
