//! The errors of a fetch. Each has a status and a sentence for the client, and a cause for the log.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use super::redirect::RedirectFault;
use super::retry_after::RetryAfter;

/// A fetch failed. `Display` writes the line for the log, without path, query and headers, because these can contain
/// credentials.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{server}: {fault}")]
pub struct FetchError {
    /// The server that failed, such as `quay.io` or `http://10.0.0.5:5000`: the upstream, or a server to which the
    /// upstream redirects.
    pub server: String,
    /// What happened.
    pub fault: FetchFault,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchFault {
    /// The server's name cannot be resolved.
    #[error("its name cannot be resolved: {0}")]
    Name(String),
    /// No address accepted a connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection and the TLS handshake did not finish in this time.
    #[error("no connection within {} s", .0.as_secs())]
    ConnectTimeout(Duration),
    /// The server's address is not public, and its host is not listed.
    #[error("its address {0} is not public, and its host is not listed in UPSTREAMS")]
    NotPublic(IpAddr),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// The head of a reply did not come in this time.
    #[error("no reply within {} s", .0.as_secs())]
    HeadTimeout(Duration),
    /// The bytes that came are not a valid reply.
    #[error("no valid reply: {0}")]
    Head(String),
    /// The body made no progress for this time.
    #[error("no byte of the body came for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The body ended too early, or is not valid.
    #[error("the body broke off: {0}")]
    Body(String),
    /// The body is longer than this program reads.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The client does not follow this redirect.
    #[error(transparent)]
    Redirect(#[from] RedirectFault),
    /// A status that says nothing about the client's rights, with the server's `Retry-After`, if there is one.
    #[error("status {0}")]
    Status(u16, Option<RetryAfter>),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(String),
    /// The token service gave no token for our own credentials.
    #[error("no token for the credentials of REGISTRY_AUTH_FILE: {0}")]
    Token(String),
    /// Our own credentials cannot be read.
    #[error("the credentials of REGISTRY_AUTH_FILE cannot be read: {0}")]
    Credentials(String),
}

impl FetchError {
    /// Returns the status for the client: 504 if a deadline passed, 429 if the upstream sent 429, else 502.
    pub fn status(&self) -> u16 {
        match self.fault {
            FetchFault::ConnectTimeout(_) | FetchFault::HeadTimeout(_) | FetchFault::Stalled(_) => 504,
            FetchFault::Status(429, _) => 429,
            _ => 502,
        }
    }

    /// Returns how long the server wants clients to wait, if its status is 429 or 503 and it sent `Retry-After`.
    pub fn retry_after(&self) -> Option<RetryAfter> {
        match self.fault {
            FetchFault::Status(429 | 503, wait) => wait,
            _ => None,
        }
    }

    /// Writes the sentence for the client: what happened, and what the user or the operator can do. The log has the
    /// details.
    pub fn sentence(&self) -> String {
        let server = &self.server;
        match &self.fault {
            FetchFault::Name(_) => {
                format!("the name of {server} cannot be resolved by the cache; check the cache's DNS")
            }
            FetchFault::Connect(_) | FetchFault::ConnectTimeout(_) => {
                format!(
                    "the cache cannot connect to {server}; check that this server runs and that the cache's network reaches it"
                )
            }
            FetchFault::NotPublic(_) => format!(
                "{server} has a private address; the operator of the cache can allow its host by adding it to UPSTREAMS"
            ),
            FetchFault::Tls(_) => format!(
                "the cache cannot set up TLS with {server}; check the server's certificate and the authorities that \
                 the cache trusts"
            ),
            FetchFault::HeadTimeout(_) | FetchFault::Stalled(_) => {
                format!("{server} did not answer the cache in time; try again")
            }
            FetchFault::Head(_) | FetchFault::Body(_) => format!("{server} sent the cache a broken reply; try again"),
            FetchFault::TooLarge(_) => format!("{server} sent a longer reply than the cache reads"),
            FetchFault::Redirect(fault) => format!("the cache does not follow a redirect of {server}: {fault}"),
            FetchFault::Status(429, _) => format!("{server} wants fewer requests; try again later"),
            FetchFault::Status(status, _) => format!("{server} answered the cache with status {status}; try again"),
            FetchFault::Request(_) => format!("the cache cannot send this request to {server}"),
            FetchFault::Token(_) | FetchFault::Credentials(_) => {
                format!("the cache's own credentials for {server} do not work; the log of the cache says why")
            }
        }
    }
}
