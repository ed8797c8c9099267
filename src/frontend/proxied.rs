//! The PROXY protocol over TCP and Unix sockets: a proxy names the client at the beginning of each connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use tracker_protocol::proxy_protocol;

/// How long a proxy may take to send its header. Proxies usually send it at once.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The client that the proxy names. `None` if the proxy names no client.
    pub source: Option<SocketAddr>,
    /// The bytes read after the header: the beginning of the first request.
    pub rest: Vec<u8>,
}

/// Reads the header from a new stream.
///
/// # Errors
/// The stream ends or fails, does not begin with a header (`InvalidData`), or takes longer than [`HEADER_TIMEOUT`]
/// (`TimedOut`).
pub async fn open(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Opening> {
    let opening = tokio::time::timeout(HEADER_TIMEOUT, read(stream)).await;
    opening.unwrap_or_else(|_late| Err(io::Error::new(io::ErrorKind::TimedOut, "its PROXY protocol header is late")))
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Opening> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header =
            proxy_protocol::parse(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(header) = header {
            bytes.drain(..header.len);
            return Ok(Opening { source: header.source, rest: bytes });
        }
    }
}

#[cfg(test)]
mod tests;
