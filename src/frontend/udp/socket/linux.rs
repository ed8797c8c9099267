//! Linux: many datagrams per system call, which saves a tenth of an announce's CPU time.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmmsg,
    setsockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{BATCH, Datagram, MAX_REQUEST, UdpResponse};

/// Makes a socket report the destination of each datagram. The socket will be bound to `any`: all addresses.
pub(in crate::frontend) fn report_destinations(socket: &socket2::Socket, any: SocketAddr) -> io::Result<()> {
    // An IPv6 socket also reports IPv4 addresses, as IPv4-mapped ones.
    match any {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Makes the system drop all datagrams that arrive from now on.
pub(in super::super) fn stop_receiving(socket: &UdpSocket) -> io::Result<()> {
    // Classic BPF: accept no byte of any datagram.
    socket2::SockRef::from(socket).attach_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)])
}

/// Buffers for the headers of a batch. nix keeps pointers in them between calls, so receiving and sending need separate
/// buffers.
fn headers(destinations: bool) -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(BATCH, destinations.then(|| cmsg_space!(in6_pktinfo)))
}

/// A size in bytes that nearly all requests fit into.
const USUAL: usize = 2048;

/// Buffers for a batch of datagrams.
pub(in super::super) struct Inbox {
    /// The first bytes of each datagram. Most datagrams are short, so small buffers suffice, and lie close together.
    /// [`MAX_REQUEST`] bytes each would cost an announce 4 % more CPU time.
    buffers: Vec<[u8; USUAL]>,
    /// The bytes of each datagram after the first [`USUAL`]. The system provides this memory only when it is written
    /// to.
    overflow: Vec<[u8; MAX_REQUEST - USUAL]>,
    headers: MultiHeaders<SockaddrStorage>,
    /// Whether the socket reports the destinations of datagrams.
    destinations: bool,
}

impl Inbox {
    pub(super) fn new(destinations: bool) -> Self {
        Self {
            buffers: vec![[0; USUAL]; BATCH],
            overflow: vec![[0; MAX_REQUEST - USUAL]; BATCH],
            headers: headers(destinations),
            destinations,
        }
    }

    /// Reads up to a batch of datagrams. [`io::ErrorKind::WouldBlock`] if there are no more.
    pub(super) fn take_batch(&mut self, socket: &UdpSocket, take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        socket.try_io(Interest::READABLE, || self.take_batch_now(socket, take))
    }

    /// Does what [`Self::take_batch`] does, even if the event loop does not know of the datagrams.
    pub(super) fn take_batch_now(&mut self, socket: &UdpSocket, take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        match self.fill(socket, take)? {
            BATCH => Ok(()),
            // The batch is not full, so there are no more datagrams. To report this now saves another system call.
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn fill(&mut self, socket: &UdpSocket, mut take: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let buffers = self.buffers.iter_mut().zip(&mut self.overflow);
        let mut slices: Vec<_> =
            buffers.map(|(buffer, overflow)| [IoSliceMut::new(buffer), IoSliceMut::new(overflow)]).collect();
        let messages = recvmmsg(socket.as_raw_fd(), &mut self.headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for message in messages {
            count += 1;
            let destination = if self.destinations { destination(&message) } else { None };
            // Without a destination, the response would have no source address and would not be sent.
            if let Some(source) = source(&message).filter(|_| destination.is_some() == self.destinations) {
                let mut parts = message.iovs();
                let first = parts.next().unwrap_or_default();
                match parts.next() {
                    None => take(Datagram { bytes: first, source, destination }),
                    Some(rest) => take(Datagram { bytes: &[first, rest].concat(), source, destination }),
                }
            }
        }
        Ok(count)
    }
}

fn source(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<SocketAddr> {
    let address = message.address?;
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from(*address));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::from(*address)))
}

fn destination(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<IpAddr> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    })
}

pub(in super::super) struct Outbox {
    headers: MultiHeaders<SockaddrStorage>,
}

impl Outbox {
    pub(super) fn new(destinations: bool) -> Self {
        Self { headers: headers(destinations) }
    }

    /// Sends the responses that the system accepts without waiting. Returns how many were not sent.
    pub(super) fn send(&mut self, socket: &UdpSocket, responses: &mut [UdpResponse]) -> usize {
        // All responses of a batch need the same source address. A host has few addresses, so there are few batches.
        responses.sort_by_key(|response| response.from);
        let alike = responses.chunk_by(|one, next| one.from == next.from);
        alike.flat_map(|alike| alike.chunks(BATCH)).map(|batch| self.send_batch(socket, batch)).sum()
    }

    fn send_batch(&mut self, socket: &UdpSocket, mut responses: &[UdpResponse]) -> usize {
        let mut unsent = 0;
        while let Some((_, behind_first)) = responses.split_first() {
            match self.send_from_one(socket, responses) {
                Ok(sent) if sent > 0 => responses = responses.get(sent..).unwrap_or_default(),
                Err(Errno::EAGAIN) => return unsent + responses.len(),
                // This client cannot be reached. Other clients may be reachable.
                _ => {
                    unsent += 1;
                    responses = behind_first;
                }
            }
        }
        unsent
    }

    /// Sends responses until one fails. Returns how many were sent, or the error if the first one failed.
    fn send_from_one(&mut self, socket: &UdpSocket, responses: &[UdpResponse]) -> nix::Result<usize> {
        let bytes: Vec<_> = responses.iter().map(|response| [IoSlice::new(&response.bytes)]).collect();
        let to: Vec<_> = responses.iter().map(|response| Some(SockaddrStorage::from(response.to))).collect();
        let mut send = |control: &[ControlMessage<'_>]| {
            let flags = MsgFlags::MSG_DONTWAIT;
            sendmmsg(socket.as_raw_fd(), &mut self.headers, &bytes, &to, control, flags).map(Iterator::count)
        };
        // No interface is set: the system chooses the one that leads to the client.
        match responses.first().and_then(|response| response.from) {
            None => send(&[]),
            Some(IpAddr::V4(ip)) => {
                let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } };
                send(&[ControlMessage::Ipv4PacketInfo(&info)])
            }
            Some(IpAddr::V6(ip)) => {
                let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                send(&[ControlMessage::Ipv6PacketInfo(&info)])
            }
        }
    }
}
