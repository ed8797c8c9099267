//! Errors that pass through awc.

use std::io;

use thiserror::Error;

/// Why a connection failed, if the system reports no cause. Passes through awc inside an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum StreamError {
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(String),
    /// The proxy failed.
    #[error("{0}")]
    Proxy(String),
    /// This host could not make a socket, or could not send the first packet.
    #[error("{0}")]
    Local(String),
    /// More than `MAX_RAW` bytes were read.
    #[error("the reply is too large")]
    TooMuch,
    /// The head of the reply is longer than `MAX_HEAD`.
    #[error("the head of the reply is too large")]
    HeadTooLarge,
    /// The connection closed in the middle of the head, or before `Content-Length` was reached.
    #[error("the reply is incomplete")]
    Truncated,
}

impl StreamError {
    /// Finds our error inside one that has passed through awc, also a TLS error after the handshake.
    pub(super) fn find(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        inner
            .downcast_ref::<Self>()
            .cloned()
            .or_else(|| inner.downcast_ref::<rustls::Error>().map(|error| Self::Tls(error.to_string())))
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::other(error)
    }
}
