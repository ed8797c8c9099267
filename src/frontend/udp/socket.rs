//! One worker's socket: datagrams in, many at a time, and out.
//!
//! A host with several addresses must answer from the one that was asked, or the client and every NAT on the way will not
//! know the response. A socket that is bound to all addresses therefore tells where a datagram came to, and is told where
//! its response is to come from.

#[cfg(target_os = "linux")]
#[path = "socket/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "socket/portable.rs"]
mod system;

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

pub(in crate::frontend) use self::system::tell_destinations;
pub(super) use self::system::{Inbox, Outbox};

/// Datagrams that are read at once. HTTP connections on the same thread wait as long as it takes to answer these.
const BATCH: usize = 32;

/// Bytes of a request that are read. An announce with a long URL and a scrape of all that may be asked about take three
/// quarters of it, and no network carries more in one piece.
const MAX_REQUEST: usize = 2048;

/// A request.
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) source: SocketAddr,
    /// The address of ours that it came to; none when the socket has no more than one, or the system does not say.
    pub(super) destination: Option<IpAddr>,
}

/// A response.
pub(super) struct Response {
    pub(super) bytes: Vec<u8>,
    /// Where the request came from.
    pub(super) to: SocketAddr,
    /// Where the request came to.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only there it can be said"))]
    pub(super) from: Option<IpAddr>,
}

/// A socket within an event loop.
pub(super) struct BatchSocket(UdpSocket);

impl BatchSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        UdpSocket::from_std(socket).map(Self)
    }

    /// Room for what it receives, and for what it sends.
    pub(super) fn boxes(&self) -> io::Result<(Inbox, Outbox)> {
        let destinations = self.0.local_addr()?.ip().is_unspecified();
        Ok((Inbox::new(destinations), Outbox::new(destinations)))
    }

    /// Waits until there are datagrams.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Takes the first few datagrams, if there are any. Tells whether there may be more.
    pub(super) fn receive(&self, inbox: &mut Inbox, take: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        more(inbox.take_batch(&self.0, take))
    }

    /// The same for datagrams that the event loop may not have heard of.
    pub(super) fn receive_now(&self, inbox: &mut Inbox, take: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        more(inbox.take_batch_now(&self.0, take))
    }

    /// From now on the system drops what comes. What has come can still be received.
    pub(super) fn take_in_no_more(&self) -> io::Result<()> {
        system::take_in_no_more(&self.0)
    }

    /// Sends now or not at all: who misses a response asks again, and nothing is gained by a queue before the system's own.
    /// Returns how many could not be sent.
    pub(super) fn send(&self, outbox: &mut Outbox, responses: &mut [Response]) -> usize {
        outbox.send(&self.0, responses)
    }
}

fn more(taken: io::Result<()>) -> io::Result<bool> {
    match taken {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        taken => taken.map(|()| true),
    }
}
