//! Binds UDP sockets.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::binder::BindOptions;
use crate::frontend::udp::socket::report_destinations;

/// The bytes of receive buffer that we request: thousands of announces may arrive while a worker is busy for ten
/// milliseconds. Most systems grant less, without an error.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// One worker's socket.
#[derive(Debug)]
pub struct UdpListener {
    pub(in crate::frontend) socket: UdpSocket,
}

impl UdpListener {
    /// The address that the socket is bound to.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// The bound address, with the port that the system chose.
    pub fn address(&self) -> String {
        self.socket.local_addr().map_or_else(|_| "an unknown address".to_owned(), |address| format!("udp://{address}"))
    }
}

pub(super) fn bind_udp(
    address: SocketAddr,
    options: BindOptions,
    workers: usize,
) -> io::Result<(Vec<UdpListener>, SocketAddr)> {
    let first = udp_socket(address, options)?;
    // `SO_REUSEPORT` is set after binding. So binding fails if another process has the port, even with `SO_REUSEPORT`.
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = vec![UdpListener { socket: first.into() }];
    for _ in 1..workers {
        let next = udp_socket(bound, options)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        listeners.push(UdpListener { socket: next.into() });
    }
    Ok((listeners, bound))
}

fn udp_socket(address: SocketAddr, options: BindOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    options.apply(&socket, address)?;
    if address.ip().is_unspecified() {
        report_destinations(&socket, address)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
