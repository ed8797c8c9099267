//! The TLS handshake on our own listeners.

use std::io;
use std::time::Duration;

use certificate::TlsServer;
use tokio::time::timeout;

use super::http::socket::Socket;

/// Completes the TLS handshake of a new TCP connection, within the time `limit`.
///
/// # Errors
/// The client takes too long, or makes an error.
pub(in crate::frontend) async fn handshake(tls: &TlsServer, socket: Socket, limit: Duration) -> io::Result<Socket> {
    let handshake = tls.acceptor().accept(socket.into_tcp()?);
    let done = timeout(limit, handshake).await;
    let stream = done.unwrap_or_else(|_late| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake is late")))?;
    Ok(Socket::from(stream))
}

#[cfg(test)]
mod tests;
