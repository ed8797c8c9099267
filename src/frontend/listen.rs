//! Listen addresses in Go's notation, and the sockets bound to them.

mod binder;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Once};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

pub(super) use self::binder::{Binder, Options, Place};

use super::udp::UdpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Where to listen, and for whom: `-l`, `LISTEN_ADDR`; `:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: ListenAddr,
    /// Whether proxies connect there that say first, by the PROXY protocol, whose each connection is: with `proxy+tcp://`
    /// or `proxy+unix:` before the address.
    pub proxied: bool,
}

impl FromStr for Listen {
    type Err = NotAListenAddr;

    fn from_str(text: &str) -> Result<Self, NotAListenAddr> {
        if let Some(tcp) = text.strip_prefix("proxy+tcp://") {
            return match tcp.parse()? {
                ListenAddr::Unix(_) => Err(NotAListenAddr),
                address => Ok(Self { address, proxied: true }),
            };
        }
        match text.strip_prefix("proxy+") {
            Some(unix) if unix.starts_with("unix:") => Ok(Self { address: unix.parse()?, proxied: true }),
            Some(_) => Err(NotAListenAddr),
            None => Ok(Self { address: text.parse()?, proxied: false }),
        }
    }
}

impl Listen {
    /// Where its sockets are. None for a Unix socket.
    fn place(&self) -> Option<Place<'_>> {
        let (host, port) = match &self.address {
            ListenAddr::AnyTcp(port) => (None, *port),
            ListenAddr::Tcp { host, port } => (Some(host.as_str()), *port),
            ListenAddr::Unix(_) => return None,
        };
        Some(Place { host, port, proxied: self.proxied })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.proxied, &self.address) {
            (true, ListenAddr::Unix(_)) => write!(f, "proxy+{}", self.address),
            (true, _) => write!(f, "proxy+tcp://{}", self.address),
            (false, _) => self.address.fmt(f),
        }
    }
}

/// A socket's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// `:8080`, all addresses of both families.
    AnyTcp(u16),
    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.
    Tcp {
        /// An address or a name.
        host: String,
        /// 0 lets the system choose.
        port: u16,
    },
    /// `unix:/run/retracker.sock`.
    Unix(PathBuf),
}

/// The text is no listen address. What is, is told by whoever knows which setting it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a listen address")]
pub struct NotAListenAddr;

impl FromStr for ListenAddr {
    type Err = NotAListenAddr;

    fn from_str(text: &str) -> Result<Self, NotAListenAddr> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(NotAListenAddr) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAListenAddr)?;
        let port = port.parse().map_err(|_| NotAListenAddr)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bracketed {
            Some(ip) => {
                ip.parse::<Ipv6Addr>().map(|ip| Self::Tcp { host: ip.to_string(), port }).map_err(|_| NotAListenAddr)
            }
            None if host.is_empty() => Ok(Self::AnyTcp(port)),
            None if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) => {
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            None => Err(NotAListenAddr),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyTcp(port) => write!(f, ":{port}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAddr {
    /// The TCP addresses that one can connect to on this host to reach a server that listens here. It answers at all of them.
    pub fn reachable(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::AnyTcp(port) => Ok(vec![(Ipv4Addr::LOCALHOST, *port).into()]),
            Self::Tcp { host, port } => match host.parse() {
                Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ok(vec![(Ipv4Addr::LOCALHOST, *port).into()]),
                Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ok(vec![here(*port)]),
                Ok(ip) => Ok(vec![(ip, *port).into()]),
                Err(_) => {
                    let mut addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.collect();
                    addresses.sort_unstable();
                    addresses.dedup();
                    let own: Vec<_> = addresses.iter().copied().filter(|address| is_own(address.ip())).collect();
                    Ok(if own.is_empty() { addresses } else { own })
                }
            },
            Self::Unix(_) => Ok(Vec::new()),
        }
    }
}

/// Where a server that listens on `[::]` is reached, which takes IPv4 as well: there may be no address of IPv6.
fn here(port: u16) -> SocketAddr {
    let ip =
        if is_own(Ipv6Addr::LOCALHOST.into()) { Ipv6Addr::LOCALHOST.into() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    (ip, port).into()
}

/// Whether this host has the address.
fn is_own(ip: IpAddr) -> bool {
    !TcpListener::bind((ip, 0)).is_err_and(|error| binder::is_absent(&error))
}

/// What is bound, and for whom.
#[derive(Debug)]
pub struct Listening {
    /// The sockets.
    pub bound: Bound,
    /// As in [`Listen`] and [`UdpListenAddr`](super::udp::UdpListenAddr).
    pub proxied: bool,
}

/// Binds all of these, or none, for so many workers. The error tells which of them cannot be listened on.
pub fn bind(listen: &[Listen], workers: usize) -> Result<Vec<Listening>, (Listen, io::Error)> {
    let mut binder = Binder::new(listen.iter().filter_map(Listen::place));
    let mut listening = Vec::new();
    for listen in listen {
        let bound = Bound::bind(listen, &mut binder, workers).map_err(|error| (listen.clone(), error))?;
        listening.extend(bound.into_iter().map(|bound| Listening { bound, proxied: listen.proxied }));
    }
    Ok(listening)
}

impl Listening {
    /// The address that clients of its protocol connect to; none of a Unix socket.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.bound {
            Bound::Tcp(listeners) => listeners.first()?.local_addr().ok(),
            Bound::Unix(_) => None,
            Bound::Udp(listeners) => listeners.first()?.socket_address(),
        }
    }

    /// What is bound, as it could be configured, with the port that the system chose.
    pub fn address(&self) -> String {
        match (self.proxied, &self.bound) {
            (true, Bound::Unix(_) | Bound::Udp(_)) => format!("proxy+{}", self.bound.address()),
            (true, Bound::Tcp(_)) => format!("proxy+tcp://{}", self.bound.address()),
            (false, _) => self.bound.address(),
        }
    }
}

/// The sockets of one listen address: one for each worker.
#[derive(Debug)]
pub enum Bound {
    /// TCP sockets on the same port. With `SO_REUSEPORT` the kernel deals connections out to the workers, and no
    /// worker has to hand one over to another.
    Tcp(Vec<TcpListener>),
    /// One Unix socket, shared. Its file goes when the last of these goes.
    Unix(Vec<(UnixListener, Arc<SocketFile>)>),
    /// UDP sockets on the same port, among which the kernel deals the clients out.
    Udp(Vec<UdpListener>),
}

impl Bound {
    fn bind(listen: &Listen, binder: &mut Binder, workers: usize) -> io::Result<Vec<Self>> {
        match (&listen.address, listen.place()) {
            (ListenAddr::Unix(path), _) => Ok(vec![bind_unix(path, workers)?]),
            (_, Some(place)) => binder.bind(place, |address, options| bind_tcp(address, options, workers)),
            (_, None) => Ok(Vec::new()),
        }
    }

    /// What is bound, with the port that the system chose.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listeners) => match listeners.first().map(TcpListener::local_addr) {
                Some(Ok(address)) => address.to_string(),
                _ => "an unknown address".to_owned(),
            },
            Self::Unix(listeners) => {
                listeners.first().map_or_else(String::new, |(_, file)| format!("unix:{}", file.0.display()))
            }
            Self::Udp(listeners) => listeners.first().map_or_else(String::new, UdpListener::address),
        }
    }
}

fn bind_tcp(address: SocketAddr, options: Options, workers: usize) -> io::Result<(Bound, SocketAddr)> {
    let first = tcp_socket(address, options)?;
    // Bound before it may share its port: so that a port that somebody else has, though shared, is an error.
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = vec![TcpListener::from(first)];
    for _ in 1..workers {
        let next = tcp_socket(bound, options)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        next.listen(BACKLOG)?;
        listeners.push(next.into());
    }
    Ok((Bound::Tcp(listeners), bound))
}

fn tcp_socket(address: SocketAddr, options: Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former run that linger do not keep the port from us.
    socket.set_reuse_address(true)?;
    options.apply(&socket, address)?;
    // What it accepts inherits that. A reply is one write: there is nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        // Left behind by a process that could not clean up: nobody listens there.
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = Arc::new(SocketFile(path.to_owned(), Once::new()));
    // A web server runs under a user of its own. Who may reach the folder may connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from(socket);
    let listeners = (0..workers).map(|_| Ok((listener.try_clone()?, Arc::clone(&file)))).collect::<io::Result<_>>()?;
    Ok(Bound::Unix(listeners))
}

/// The file of a Unix socket, removed when nobody listens there any more.
#[derive(Debug)]
pub struct SocketFile(PathBuf, Once);

impl SocketFile {
    /// Removes it, so that no new client finds it.
    pub fn remove(&self) {
        self.1.call_once(|| self.remove_now());
    }

    fn remove_now(&self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            log::warn!("the socket file {} could not be removed: {error}", self.0.display());
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_style_addresses() {
        let tcp = |host: &str, port| Ok(ListenAddr::Tcp { host: host.to_owned(), port });
        assert_eq!(":8080".parse(), Ok(ListenAddr::AnyTcp(8080)));
        assert_eq!("127.0.0.1:8080".parse(), tcp("127.0.0.1", 8080));
        assert_eq!("[::1]:8080".parse(), tcp("::1", 8080));
        assert_eq!("localhost:80".parse(), tcp("localhost", 80));
        assert_eq!("unix:/run/x.sock".parse(), Ok(ListenAddr::Unix("/run/x.sock".into())));
        for wrong in ["", "8080", ":", ":65536", ":http", "::1:80", "[::1]", "[x]:80", "http://x:80", "unix:", "a b:80"]
        {
            assert_eq!(wrong.parse::<ListenAddr>(), Err(NotAListenAddr), "{wrong}");
        }
        for text in [":8080", "127.0.0.1:8080", "[::1]:8080", "localhost:80", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn addresses_for_proxies() {
        for (text, address) in [
            ("proxy+tcp://127.0.0.1:8081", "127.0.0.1:8081"),
            ("proxy+tcp://:8081", ":8081"),
            ("proxy+tcp://[::1]:8081", "[::1]:8081"),
            ("proxy+unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.address.to_string().as_str()), (text, address));
            assert!(listen.proxied && !address.parse::<Listen>().unwrap().proxied);
        }
        for wrong in [
            "proxy+:80",
            "proxy:80:80",
            "proxy+tcp:127.0.0.1:80",
            "proxy+tcp://",
            "proxy+tcp://unix:/run/x.sock",
            "proxy+tcp://proxy+tcp://:80",
            "proxy+udp://:80",
            "proxy+unix:",
        ] {
            assert_eq!(wrong.parse::<Listen>(), Err(NotAListenAddr), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_shared_among_our_workers_and_with_nobody_else() {
        let listening = bind(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
        let [Listening { bound: Bound::Tcp(listeners), .. }] = &listening[..] else { panic!() };
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [ports[0]; 3]);
        let (_, error) = bind(&[listening[0].address().parse().unwrap()], 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let address = [Listen { address: ListenAddr::Unix(path.clone()), proxied: false }];
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(&address, 2).unwrap();
        assert_eq!(bind(&address, 2).unwrap_err().1.kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
        std::fs::write(&path, "no socket").unwrap();
        assert!(bind(&address, 1).is_err());
        assert!(path.exists());
    }
}
