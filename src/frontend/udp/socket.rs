//! One worker's UDP socket, which reads and sends many datagrams at a time.
//!
//! A host with several addresses must answer from the address that the request was sent to. Otherwise the client and
//! every NAT on the way drop the response. So a socket bound to all addresses reports each datagram's destination, and
//! is told each response's source.

#[cfg(target_os = "linux")]
#[path = "socket/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "socket/portable.rs"]
mod system;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

pub(in crate::frontend) use self::system::report_destinations;
pub(super) use self::system::{Inbox, Outbox};

/// The most datagrams that are read at once. HTTP connections on the same thread wait while these are answered.
const BATCH: usize = 32;

/// The most bytes of a request that are read. The largest requests take three quarters of this size: announces with a
/// long URL, and scrapes of the most torrents allowed. Even the jumbo frames of Ethernet, of about 9000 bytes, carry
/// less.
const MAX_REQUEST: usize = 10 * 1024;

/// A request.
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) source: SocketAddr,
    /// Our address that the request was sent to. `None` if the socket has one address, or the system reports no
    /// destination.
    pub(super) destination: Option<IpAddr>,
}

/// A response.
pub(super) struct UdpResponse {
    pub(super) bytes: Vec<u8>,
    /// The source of the request.
    pub(super) to: SocketAddr,
    /// The destination of the request.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "other systems cannot set it"))]
    pub(super) from: Option<IpAddr>,
}

/// A socket within an event loop.
pub(super) struct BatchSocket(UdpSocket);

impl BatchSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        UdpSocket::from_std(socket).map(Self)
    }

    pub(super) fn buffers(&self) -> io::Result<(Inbox, Outbox)> {
        let destinations = self.0.local_addr()?.ip().is_unspecified();
        Ok((Inbox::new(destinations), Outbox::new(destinations)))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Reads a batch of datagrams, if there are any. Returns whether there may be more datagrams.
    pub(super) fn receive(&self, inbox: &mut Inbox, take: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        more(inbox.take_batch(&self.0, take))
    }

    /// Does what [`Self::receive`] does, even if the event loop has not reported the datagrams yet.
    pub(super) fn receive_now(&self, inbox: &mut Inbox, take: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        more(inbox.take_batch_now(&self.0, take))
    }

    /// Makes the system drop new datagrams. Those that have already arrived can still be received.
    pub(super) fn stop_receiving(&self) -> io::Result<()> {
        system::stop_receiving(&self.0)
    }

    /// Sends the responses that the system accepts without waiting, and drops the others: the system has a queue, and
    /// the client repeats its request. Returns how many could not be sent.
    pub(super) fn send(&self, outbox: &mut Outbox, responses: &mut [UdpResponse]) -> usize {
        outbox.send(&self.0, responses)
    }
}

fn more(taken: io::Result<()>) -> io::Result<bool> {
    match taken {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        taken => taken.map(|()| true),
    }
}
