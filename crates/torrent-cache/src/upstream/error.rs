//! How a fetch fails: a status and a sentence for the client, and the cause for the log.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use super::redirect::RedirectFault;
use super::retry_after::RetryAfter;

/// A fetch failed. `Display` is the line for the log. It holds no path, query or header, as those can hold credentials.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{server}: {fault}")]
pub struct FetchError {
    /// The server that failed, such as `quay.io` or `http://10.0.0.5:5000`: the upstream, or one that it redirects to.
    pub server: String,
    /// What happened.
    pub fault: FetchFault,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchFault {
    /// Its name has no address.
    #[error("its name cannot be resolved: {0}")]
    Name(String),
    /// No address accepted a connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// No connection in this time, with the TLS handshake.
    #[error("no connection within {} s", .0.as_secs())]
    ConnectTimeout(Duration),
    /// The address is not public, and no such host is listed.
    #[error("its address {0} is not public, and its host is not listed in UPSTREAMS")]
    NotPublic(IpAddr),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    /// No head of a reply in this time.
    #[error("no reply within {} s", .0.as_secs())]
    HeadTimeout(Duration),
    /// What came is no reply.
    #[error("no valid reply: {0}")]
    Head(String),
    /// The body made no progress for this time.
    #[error("not a byte of the body for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The body ended too early, or is not valid.
    #[error("the body broke off: {0}")]
    Body(String),
    /// The body is longer than this program reads.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// A redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectFault),
    /// A status that says nothing about the client's rights, and how long the server wants clients to wait.
    #[error("status {0}")]
    Status(u16, Option<RetryAfter>),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(String),
    /// No token for our own credentials.
    #[error("no token for the credentials of REGISTRY_AUTH_FILE: {0}")]
    Token(String),
    /// Our own credentials cannot be read.
    #[error("the credentials of REGISTRY_AUTH_FILE cannot be read: {0}")]
    Credentials(String),
}

impl FetchError {
    /// The status for the client: 504 if a deadline passed, 429 if the upstream sent that, else 502.
    pub fn status(&self) -> u16 {
        match self.fault {
            FetchFault::ConnectTimeout(_) | FetchFault::HeadTimeout(_) | FetchFault::Stalled(_) => 504,
            FetchFault::Status(429, _) => 429,
            _ => 502,
        }
    }

    /// How long the server wants clients to wait, if it limits requests (429) or cannot answer now (503), and says so.
    pub fn retry_after(&self) -> Option<RetryAfter> {
        match self.fault {
            FetchFault::Status(429 | 503, wait) => wait,
            _ => None,
        }
    }

    /// The sentence for the client: what happened, and who can do what. The details are in the log.
    pub fn sentence(&self) -> String {
        let server = &self.server;
        match &self.fault {
            FetchFault::Name(_) => {
                format!("the name of {server} cannot be resolved by the cache; check the cache's DNS")
            }
            FetchFault::Connect(_) | FetchFault::ConnectTimeout(_) => {
                format!(
                    "the cache cannot connect to {server}; check that it runs and that the cache's network reaches it"
                )
            }
            FetchFault::NotPublic(_) => format!(
                "{server} has a private address; the operator of the cache can allow its host by adding it to UPSTREAMS"
            ),
            FetchFault::Tls(_) => format!(
                "the cache does not trust {server} or cannot speak TLS with it; check its certificate and the cache's authorities"
            ),
            FetchFault::HeadTimeout(_) | FetchFault::Stalled(_) => {
                format!("{server} did not answer the cache in time; try again")
            }
            FetchFault::Head(_) | FetchFault::Body(_) => format!("{server} sent the cache a broken reply; try again"),
            FetchFault::TooLarge(_) => format!("{server} sent more than the cache reads of such a reply"),
            FetchFault::Redirect(fault) => format!("{server} redirects the cache where it does not follow: {fault}"),
            FetchFault::Status(429, _) => format!("{server} wants fewer requests; try again later"),
            FetchFault::Status(status, _) => format!("{server} answered the cache with status {status}; try again"),
            FetchFault::Request(_) => format!("the cache cannot send such a request to {server}"),
            FetchFault::Token(_) | FetchFault::Credentials(_) => {
                format!(
                    "the cache's own credentials for {server} do not work; its operator finds the reason in its log"
                )
            }
        }
    }
}
