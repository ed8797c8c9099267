//! Where to listen for datagrams, and the sockets bound there.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::connection_id::ConnectionIds;
use super::socket;
use crate::frontend::listen::{Binder, Bound, ListenAddr, Listening, NotAListenAddr, Options, Place};

/// Bytes of requests that may wait to be read, if the system grants as many: some thousand announces, which is what comes
/// while a worker does something else for ten milliseconds. Most systems grant less and say nothing.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Where to listen for datagrams: `-u`, `UDP_LISTEN_ADDR`; nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpListenAddr {
    /// An address or a name; none for all addresses of both families.
    host: Option<String>,
    /// 0 lets the system choose.
    port: u16,
    /// Whether proxies send there that say first, by the PROXY protocol, whose each datagram is: with `proxy+udp://` before
    /// the address.
    pub proxied: bool,
}

impl FromStr for UdpListenAddr {
    type Err = NotAListenAddr;

    fn from_str(text: &str) -> Result<Self, NotAListenAddr> {
        let behind_scheme = text.strip_prefix("proxy+udp://");
        let proxied = behind_scheme.is_some();
        match behind_scheme.unwrap_or(text).parse()? {
            ListenAddr::AnyTcp(port) => Ok(Self { host: None, port, proxied }),
            ListenAddr::Tcp { host, port } => Ok(Self { host: Some(host), port, proxied }),
            ListenAddr::Unix(_) => Err(NotAListenAddr),
        }
    }
}

impl fmt::Display for UdpListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, proxied } = self;
        let scheme = if *proxied { "proxy+udp" } else { "udp" };
        match host.as_deref() {
            None => write!(f, "{scheme}://:{port}"),
            Some(host) if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            Some(host) => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// One worker's socket.
#[derive(Debug)]
pub struct UdpListener {
    pub(super) socket: UdpSocket,
    pub(super) ids: Arc<ConnectionIds>,
}

/// Binds all of these, or none: of each a socket for each of so many workers, all to the same port. With `SO_REUSEPORT` the
/// kernel deals the clients out to them. The error tells which of them cannot be listened on.
pub fn bind(listen: &[UdpListenAddr], workers: usize) -> Result<Vec<Listening>, (UdpListenAddr, io::Error)> {
    let mut binder = Binder::new(listen.iter().map(UdpListenAddr::place));
    let mut listening = Vec::new();
    for listen in listen {
        let bound = binder.bind(listen.place(), |address, options| bind_one(address, options, workers));
        let bound = bound.map_err(|error| (listen.clone(), error))?;
        let proxied = listen.proxied;
        listening.extend(bound.into_iter().map(|bound| Listening { bound: Bound::Udp(bound), proxied }));
    }
    Ok(listening)
}

impl UdpListenAddr {
    fn place(&self) -> Place<'_> {
        Place { host: self.host.as_deref(), port: self.port, proxied: self.proxied }
    }
}

impl UdpListener {
    /// The address that it is bound to.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// What is bound, with the port that the system chose.
    pub fn address(&self) -> String {
        self.socket.local_addr().map_or_else(|_| "an unknown address".to_owned(), |address| format!("udp://{address}"))
    }
}

fn bind_one(address: SocketAddr, options: Options, workers: usize) -> io::Result<(Vec<UdpListener>, SocketAddr)> {
    let ids = Arc::new(ConnectionIds::new()?);
    let first = new_socket(address, options)?;
    // Bound before it may share its port: so that a port that somebody else has, though shared, is an error.
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = vec![UdpListener { socket: first.into(), ids: Arc::clone(&ids) }];
    for _ in 1..workers {
        let next = new_socket(bound, options)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        listeners.push(UdpListener { socket: next.into(), ids: Arc::clone(&ids) });
    }
    Ok((listeners, bound))
}

fn new_socket(address: SocketAddr, options: Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    options.apply(&socket, address)?;
    if address.ip().is_unspecified() {
        socket::tell_destinations(&socket, address)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_style_addresses_but_no_paths() {
        for (text, expected) in [
            (":6969", "udp://:6969"),
            ("127.0.0.1:6969", "udp://127.0.0.1:6969"),
            ("[::1]:6969", "udp://[::1]:6969"),
            ("localhost:6969", "udp://localhost:6969"),
        ] {
            assert_eq!(text.parse::<UdpListenAddr>().unwrap().to_string(), expected);
        }
        for wrong in ["", "6969", ":", ":65536", "::1:80", "[x]:80", "udp://:6969", "unix:/run/x.sock", "proxy+"] {
            assert_eq!(wrong.parse::<UdpListenAddr>(), Err(NotAListenAddr), "{wrong}");
        }
    }

    #[test]
    fn addresses_for_proxies() {
        for text in ["proxy+udp://:6969", "proxy+udp://127.0.0.1:6969", "proxy+udp://[::1]:6969"] {
            let listen: UdpListenAddr = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.proxied), (text, true));
        }
        assert!(!":6969".parse::<UdpListenAddr>().unwrap().proxied);
        for wrong in [
            "proxy+:6969",
            "proxy+udp:6969",
            "proxy+udp://",
            "proxy+udp://unix:/run/x.sock",
            "proxy+udp://proxy+udp://:6969",
            "proxy+tcp://:6969",
            "proxy+unix:/run/x.sock",
        ] {
            assert_eq!(wrong.parse::<UdpListenAddr>(), Err(NotAListenAddr), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_shared_among_our_workers_and_with_nobody_else() {
        for address in ["127.0.0.1:0", ":0"] {
            let listening = bind(&[address.parse().unwrap()], 3).unwrap();
            let [Listening { bound: Bound::Udp(listeners), .. }] = &listening[..] else { panic!() };
            let bound: Vec<_> = listeners.iter().map(|listener| listener.socket.local_addr().unwrap()).collect();
            assert_eq!(bound, [bound[0]; 3]);
            let (_, error) = bind(&[bound[0].to_string().parse().unwrap()], 2).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
