//! Headers of a client's announce that are passed on when the client is announced upstream.

use awc::http::header::HeaderValue;

/// The `User-Agent` of requests that are our own: those to proxies, and those for clients that send no `User-Agent`.
pub(super) const USER_AGENT: &str = concat!("retracker/", env!("CARGO_PKG_VERSION"));

/// The longest `User-Agent` that is passed on, in bytes: it is kept for each client.
pub(super) const MAX_USER_AGENT: usize = 128;

/// The client's `User-Agent`, and `Via` with the retrackers that have passed the announce on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PassedHeaders {
    pub(super) user_agent: HeaderValue,
    pub(super) via: Option<HeaderValue>,
}

impl PassedHeaders {
    /// Prepares the headers. Upstream trackers refuse requests without `User-Agent`, so ours replaces a `User-Agent`
    /// that is missing or that HTTP cannot carry. A long `User-Agent` is cut.
    pub(super) fn new(user_agent: Option<&[u8]>, via: &str) -> Self {
        let user_agent = user_agent.unwrap_or_default().trim_ascii();
        let user_agent = user_agent.get(..MAX_USER_AGENT).unwrap_or(user_agent).trim_ascii_end();
        let theirs = Some(user_agent).filter(|agent| !agent.is_empty());
        let theirs = theirs.and_then(|agent| HeaderValue::from_bytes(agent).ok());
        Self {
            user_agent: theirs.unwrap_or(const { HeaderValue::from_static(USER_AGENT) }),
            via: HeaderValue::from_str(via).ok().filter(|via| !via.is_empty()),
        }
    }

    /// Returns the value of `Via`; empty if there is none.
    pub(super) fn via(&self) -> &[u8] {
        self.via.as_ref().map_or(&[], HeaderValue::as_bytes)
    }
}
