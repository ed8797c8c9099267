//! Systems other than Linux: one datagram per system call. The system chooses the source address of a response, so a
//! host with several addresses should listen on each separately.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::{BATCH, Datagram, MAX_REQUEST, UdpResponse};

/// Does nothing: there is no portable system call for this.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(in crate::frontend) fn report_destinations(_: &socket2::Socket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Does nothing: there is no portable system call for this.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(in super::super) fn stop_receiving(_: &UdpSocket) -> io::Result<()> {
    Ok(())
}

pub(in super::super) struct Inbox(Box<[u8; MAX_REQUEST]>);

impl Inbox {
    pub(super) fn new(_destinations: bool) -> Self {
        Self(Box::new([0; MAX_REQUEST]))
    }

    /// Reads up to a batch of datagrams. [`io::ErrorKind::WouldBlock`] if there are no more.
    pub(super) fn take_batch(&mut self, socket: &UdpSocket, mut take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        for _ in 0..BATCH {
            let (length, source) = socket.try_recv_from(&mut *self.0)?;
            let bytes = self.0.get(..length).unwrap_or_default();
            take(Datagram { bytes, source, destination: None });
        }
        Ok(())
    }

    /// Does the same as [`Self::take_batch`].
    pub(super) fn take_batch_now(&mut self, socket: &UdpSocket, take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        self.take_batch(socket, take)
    }
}

pub(in super::super) struct Outbox;

impl Outbox {
    pub(super) fn new(_destinations: bool) -> Self {
        Self
    }

    /// Sends the responses that the system accepts without waiting. Returns how many were not sent.
    pub(super) fn send(&mut self, socket: &UdpSocket, responses: &mut [UdpResponse]) -> usize {
        responses.iter().filter(|response| socket.try_send_to(&response.bytes, response.to).is_err()).count()
    }
}
