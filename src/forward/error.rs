//! Why an exchange with a forwarder failed, for the log, for warnings to clients and for the metrics.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;

use tracker_protocol::upstream::Retry;

/// Why an exchange with a forwarder failed.
///
/// The text continues a sentence that begins with the forwarder's name. It may name the uri's host, but never the path
/// or query, which may hold a passkey. Bytes from the network are escaped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForwardError {
    /// This host lacks descriptors, memory, ports or a route. No request was sent, so the forwarder has not failed.
    #[error("it was not asked, because this host failed: {}", .0.as_bytes().escape_ascii())]
    Local(String),
    /// The proxy failed.
    #[error("it was not reached: {}", .0.as_bytes().escape_ascii())]
    Proxy(String),
    /// The name of the forwarder's host could not be resolved.
    #[error("its name cannot be resolved: {}", .0.as_bytes().escape_ascii())]
    Dns(String),
    /// None of the forwarder's addresses accepted a connection.
    #[error("it cannot be reached: {}", .0.as_bytes().escape_ascii())]
    Connect(String),
    /// The forwarder accepted a connection, but the TLS handshake failed, most often for an untrusted certificate.
    #[error("TLS with it fails: {}", .0.as_bytes().escape_ascii())]
    Tls(String),
    /// The last byte of the reply had not arrived when the time was up.
    #[error("it did not answer in time")]
    Timeout,
    /// The forwarder answered with an HTTP status other than 200, and without a reason in bencode.
    #[error("it answers with HTTP status {code}")]
    Status {
        /// The status.
        code: u16,
        /// `Retry-After`, with 429 and 503 only.
        retry_after: Option<Duration>,
    },
    /// The tracker refused the announce. The rest of its reply is ignored.
    #[error("it refuses: {}", .reason.escape_ascii())]
    Refused {
        /// The tracker's `failure reason`, unescaped. Parts that may be our passkey are replaced.
        reason: Vec<u8>,
        /// When the same announce may be sent again (BEP 31).
        retry: Retry,
        /// The HTTP status of the refusal; `None` over UDP. Some trackers refuse with 4xx.
        status: Option<u16>,
        /// `Retry-After`, with 429 and 503 only. It applies to all announces, not only to this one.
        retry_after: Option<Duration>,
    },
    /// The reply is not HTTP, or its body is not a bencoded reply.
    #[error("its answer is junk: {}", .what.as_bytes().escape_ascii())]
    Junk {
        /// The defect.
        what: String,
        /// The HTTP status; `None` if it was not read.
        status: Option<u16>,
    },
    /// The head or the body of the reply exceeds a bound, perhaps only after inflation.
    #[error("its answer is too large")]
    TooLarge {
        /// The HTTP status; `None` if the head itself was too large.
        status: Option<u16>,
    },
    /// The connection closed before the reply was complete.
    #[error("it closed the connection before its answer was complete")]
    Truncated {
        /// The HTTP status; `None` if it was not read.
        status: Option<u16>,
    },
    /// The forwarder sent a redirect that is not followed.
    #[error("its redirect is not followed: {why}")]
    Redirect {
        /// Why the redirect is not followed.
        why: BadRedirect,
        /// The HTTP status of the redirect.
        status: u16,
    },
    /// The client's announce would make the request longer than HTTP allows. The request was not sent.
    #[error("it was not asked, because the request would be too long")]
    TooLong,
}

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRedirect {
    /// The exchange has already followed as many redirects as it may.
    #[error("there are too many redirects")]
    TooMany,
    /// The redirect has no `Location`, or its `Location` is not an http or https URL.
    #[error("it names no http or https URL")]
    Location,
    /// The redirect leads to this host, to a link-local address, or from the internet to an address that is not public.
    #[error("it leads into a private network, or to this host")]
    Private,
    /// The redirect leads to a URL that this exchange has requested before.
    #[error("it leads in a circle")]
    Circle,
}

impl ForwardError {
    /// Returns the cause's name in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Proxy(_) => "proxy",
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Status { .. } => "status",
            Self::Refused { .. } => "refused",
            Self::Junk { .. } => "junk",
            Self::TooLarge { .. } => "too_large",
            Self::Truncated { .. } => "truncated",
            Self::Redirect { .. } => "redirect",
            Self::TooLong => "too_long",
        }
    }

    /// Returns the HTTP status, if the head of an HTTP reply was read.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code: status, .. } | Self::Redirect { status, .. } => Some(*status),
            Self::Refused { status, .. }
            | Self::Junk { status, .. }
            | Self::TooLarge { status }
            | Self::Truncated { status } => *status,
            Self::Local(_)
            | Self::Proxy(_)
            | Self::Dns(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Timeout
            | Self::TooLong => None,
        }
    }

    /// Returns `Retry-After`, if the forwarder sent it with 429 or 503.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns whether the forwarder is to blame. A forwarder that refuses a torrent has not failed.
    pub fn is_forwarder_fault(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::TooLong | Self::Local(_))
    }

    /// Returns the error to report after several addresses failed: the latest that is not this host's own failure. A
    /// failure of this host, such as a missing address family, says nothing about the upstream.
    pub(super) fn after(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if matches!(self, Self::Local(_)) => earlier,
            _ => self,
        }
    }
}

/// Returns whether an error means that this host lacks something that every connection needs.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let lacking = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::AFNOSUPPORT,
        Errno::NETDOWN,
    ];
    error.raw_os_error().is_some_and(|code| lacking.iter().any(|errno| errno.raw_os_error() == code))
}
