//! Why an exchange with a forwarder came to nothing: what the log and the warning to a client say, and what the
//! metrics count.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;

use tracker_protocol::upstream::Retry;

/// Why an exchange with a forwarder brought no peers.
///
/// The text continues a sentence that begins with the forwarder's name. It tells nothing of the forwarder's uri but
/// its host, as path and query may hold a passkey; what came from the network is escaped in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForwardError {
    /// It was not asked, as this host lacks what that takes: descriptors, memory, ports, or a way into its network. It is
    /// not held responsible.
    #[error("it was not asked, as this host cannot: {}", .0.as_bytes().escape_ascii())]
    Local(String),
    /// The proxy before it does not do what it is there for.
    #[error("it was not reached: {}", .0.as_bytes().escape_ascii())]
    Proxy(String),
    /// The name of its host could not be resolved.
    #[error("its name cannot be resolved: {}", .0.as_bytes().escape_ascii())]
    Dns(String),
    /// No address of it took a connection.
    #[error("it cannot be reached: {}", .0.as_bytes().escape_ascii())]
    Connect(String),
    /// It took a connection, but the TLS handshake failed: most often its certificate is not to be trusted.
    #[error("TLS with it fails: {}", .0.as_bytes().escape_ascii())]
    Tls(String),
    /// The exchange was not over, its last byte not read, when its time was up.
    #[error("it did not answer in time")]
    Timeout,
    /// It answered with an HTTP status other than 200, and gave no reason in bencode.
    #[error("it answers with HTTP status {code}")]
    Status {
        /// The status.
        code: u16,
        /// How long it wants to be left alone (`Retry-After`; with 429 and 503 only).
        retry_after: Option<Duration>,
    },
    /// The tracker refused the announce, whatever else it sent with the refusal.
    #[error("it refuses: {}", .reason.escape_ascii())]
    Refused {
        /// Its `failure reason`, as it came; but without what may be a passkey of ours.
        reason: Vec<u8>,
        /// When it may be asked for this torrent again (BEP 31).
        retry: Retry,
        /// The HTTP status that the refusal came with; none over UDP. Some trackers refuse with 4xx.
        status: Option<u16>,
        /// How long it wants to be left alone altogether (`Retry-After`; with 429 and 503 only).
        retry_after: Option<Duration>,
    },
    /// What came is no HTTP, or not the bencode of a reply.
    #[error("its answer is junk: {}", .what.as_bytes().escape_ascii())]
    Junk {
        /// What is wrong with it.
        what: String,
        /// The HTTP status; none when it did not get that far.
        status: Option<u16>,
    },
    /// The head or the body of the answer is, or inflates to, more than we read.
    #[error("its answer is too large")]
    TooLarge {
        /// The HTTP status; none when the head itself was too large.
        status: Option<u16>,
    },
    /// The connection closed before the answer was complete.
    #[error("it closed the connection before its answer was complete")]
    Truncated {
        /// The HTTP status; none when it did not get that far.
        status: Option<u16>,
    },
    /// It redirected to where we do not follow.
    #[error("its redirect is not followed: {why}")]
    Redirect {
        /// What is wrong with the redirect.
        why: BadRedirect,
        /// The HTTP status of the redirect.
        status: u16,
    },
    /// It was not asked: with what the client sent, the request would be longer than HTTP takes.
    #[error("it was not asked, as the request would be too long")]
    TooLong,
}

/// What is wrong with a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRedirect {
    /// There was one more than we follow.
    #[error("it is one too many")]
    TooMany,
    /// It has no `Location`, or none that is an http or https URL.
    #[error("it names no http or https URL")]
    Location,
    /// It leads to this host or to a link; or from the public network to an address of a private one, or of nobody.
    #[error("it leads into a private network, or to this host")]
    Private,
    /// It leads to where it came from.
    #[error("it leads in a circle")]
    Circle,
}

impl ForwardError {
    /// Names the cause in metrics.
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

    /// The HTTP status, when the head of an HTTP reply was read.
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

    /// How long it wants to be left alone altogether, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the forwarder is at fault, as opposed to this announce: one that refuses a torrent is well.
    pub fn is_the_forwarders(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::TooLong | Self::Local(_))
    }

    /// Of the failures of several addresses in turn, the latest but for those that are this host's: that it lacks one family says
    /// nothing of the upstream.
    pub(super) fn after(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if matches!(self, Self::Local(_)) => earlier,
            _ => self,
        }
    }
}

/// Whether an error says that this host lacks something, whatever it was to be connected to.
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
