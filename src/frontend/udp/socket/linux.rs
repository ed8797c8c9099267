//! Linux: many datagrams with one system call.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg, sendmsg,
    setsockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{BATCH, Datagram, MAX_REQUEST, Response};

/// Has a socket that is to be bound to all addresses tell where each datagram came to.
pub(in super::super) fn tell_destinations(socket: &socket2::Socket, any: SocketAddr) -> io::Result<()> {
    // An IPv6 socket tells IPv4 addresses too, mapped.
    match any {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// Room for a batch of datagrams.
pub(in super::super) struct Inbox {
    buffers: Box<[[u8; MAX_REQUEST]; BATCH]>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Inbox {
    pub(in super::super) fn new() -> Self {
        let control = cmsg_space!(in6_pktinfo);
        Self { buffers: Box::new([[0; MAX_REQUEST]; BATCH]), headers: MultiHeaders::preallocate(BATCH, Some(control)) }
    }

    /// Takes what is there, up to a batch. [`io::ErrorKind::WouldBlock`] when there is no more.
    pub(super) fn take_batch(&mut self, socket: &UdpSocket, take: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        socket.try_io(Interest::READABLE, || match self.fill(socket, take)? {
            BATCH => Ok(()),
            // Known without another system call, which would come back with nothing.
            _ => Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    fn fill(&mut self, socket: &UdpSocket, mut take: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let messages = recvmmsg(socket.as_raw_fd(), &mut self.headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
        let mut count = 0;
        for message in messages {
            count += 1;
            if let Some(source) = source(&message) {
                let bytes = message.iovs().next().unwrap_or_default();
                take(Datagram { bytes, source, destination: destination(&message) });
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

/// One at a time: of the crates that are kept up, none has a `sendmmsg` that both lets each datagram have an address of its
/// own to come from and tells how many were sent.
pub(super) fn send(socket: &UdpSocket, response: &Response) -> io::Result<()> {
    let bytes = [IoSlice::new(&response.bytes)];
    let to = SockaddrStorage::from(response.to);
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(socket.as_raw_fd(), &bytes, control, MsgFlags::MSG_DONTWAIT, Some(&to))
    };
    // Without an interface: which one leads to the client is for the system to say.
    match response.from {
        None => send(&[])?,
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } };
            send(&[ControlMessage::Ipv4PacketInfo(&info)])?
        }
        Some(IpAddr::V6(ip)) => {
            let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            send(&[ControlMessage::Ipv6PacketInfo(&info)])?
        }
    };
    Ok(())
}
