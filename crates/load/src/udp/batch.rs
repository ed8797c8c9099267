//! Sends and receives many datagrams with one system call, so that the load generator uses little CPU time.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::datagram::AnnounceDatagram;

/// The size of a receive buffer, which is larger than any reply.
const MAX_REPLY: usize = 2048;

pub(super) struct Batch {
    buffers: Vec<[u8; MAX_REPLY]>,
    // Receiving and sending have separate headers, because headers keep pointers to their buffers from one call to the
    // next.
    receiving: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
}

impl Batch {
    pub(super) fn new(most: usize) -> Self {
        let headers = || MultiHeaders::preallocate(most, None);
        Self { buffers: vec![[0; MAX_REPLY]; most], receiving: headers(), sending: headers() }
    }

    /// Sends all datagrams. A whole window of datagrams fits into the socket's buffer, so a partial send is an error.
    pub(super) fn send(&mut self, socket: &UdpSocket, datagrams: &[AnnounceDatagram]) -> Result<(), &'static str> {
        let bytes: Vec<_> = datagrams.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
        let to = vec![None; datagrams.len()];
        let sent = sendmmsg(socket.as_raw_fd(), &mut self.sending, &bytes, &to, [], MsgFlags::MSG_DONTWAIT);
        match sent.map(Iterator::count) {
            Ok(sent) if sent == datagrams.len() => Ok(()),
            Err(Errno::ECONNREFUSED) => Err("connection refused: the tracker does not listen"),
            _ => Err("a datagram that could not be sent"),
        }
    }

    /// Takes the datagrams that have arrived.
    pub(super) fn receive(&mut self, socket: &UdpSocket, mut take: impl FnMut(&[u8])) -> Result<(), &'static str> {
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        match recvmmsg(socket.as_raw_fd(), &mut self.receiving, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(messages) => {
                messages.for_each(|message| take(message.iovs().next().unwrap_or_default()));
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(Errno::ECONNREFUSED) => Err("connection refused: the tracker does not listen"),
            Err(_) => Err("a socket that could not be read"),
        }
    }
}
