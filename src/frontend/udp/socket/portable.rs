//! Other systems: one datagram after the other. A host with several addresses should listen on each of them by itself, as
//! the system chooses which one a response comes from.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::{BATCH, Datagram, MAX_REQUEST, Response};

/// Does nothing: there is no way to it that all systems share.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(in crate::frontend) fn tell_destinations(_: &socket2::Socket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Does nothing: there is no way to it that all systems share.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(in super::super) fn take_in_no_more(_: &UdpSocket) -> io::Result<()> {
    Ok(())
}

/// Room for a datagram.
pub(in super::super) struct Inbox(Box<[u8; MAX_REQUEST]>);

impl Inbox {
    pub(super) fn new(_destinations: bool) -> Self {
        Self(Box::new([0; MAX_REQUEST]))
    }

    /// Takes what is there, up to a batch. [`io::ErrorKind::WouldBlock`] when there is no more.
    pub(super) fn take_batch(&mut self, socket: &UdpSocket, mut take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        for _ in 0..BATCH {
            let (length, source) = socket.try_recv_from(&mut *self.0)?;
            let bytes = self.0.get(..length).unwrap_or_default();
            take(Datagram { bytes, source, destination: None });
        }
        Ok(())
    }

    /// The same.
    pub(super) fn take_batch_now(&mut self, socket: &UdpSocket, take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        self.take_batch(socket, take)
    }
}

/// Sends responses.
pub(in super::super) struct Outbox;

impl Outbox {
    pub(super) fn new(_destinations: bool) -> Self {
        Self
    }

    /// Sends what can be sent at once, and says of how many responses the system would not hear.
    pub(super) fn send(&mut self, socket: &UdpSocket, responses: &mut [Response]) -> usize {
        responses.iter().filter(|response| socket.try_send_to(&response.bytes, response.to).is_err()).count()
    }
}
