//! Parses and writes listen addresses in Go's notation. Opens sockets only to find out this host's addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use super::binder::{self, BindTarget};
use super::purpose::{Audience, Purpose, Transport};

/// An address to listen on, and its purpose: `--listen`, `--admin-listen`, `--torrents-listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: ListenAddr,
    /// The audience of the address, and what comes before requests there (a PROXY protocol header or a TLS handshake,
    /// by the prefix `proxy+tcp://`, `proxy+unix:` or `tls://`).
    pub purpose: Purpose,
}

impl FromStr for Listen {
    type Err = NotAListenAddr;

    fn from_str(text: &str) -> Result<Self, NotAListenAddr> {
        let listen = |address, transport| Self { address, purpose: Purpose::clients(transport) };
        let tcp = |text: &str| match text.parse()? {
            ListenAddr::Unix(_) => Err(NotAListenAddr::Other),
            address => Ok(address),
        };
        if text.starts_with("proxy+tls") || text.starts_with("tls+") {
            return Err(NotAListenAddr::NotOverTls);
        }
        if let Some(address) = text.strip_prefix("tls://") {
            if address.starts_with("unix:") || address.starts_with("proxy+") {
                return Err(NotAListenAddr::NotOverTls);
            }
            return Ok(listen(tcp(address)?, Transport::Tls));
        }
        if let Some(address) = text.strip_prefix("proxy+tcp://") {
            return Ok(listen(tcp(address)?, Transport::Proxied));
        }
        match text.strip_prefix("proxy+") {
            Some(unix) if unix.starts_with("unix:") => Ok(listen(unix.parse()?, Transport::Proxied)),
            Some(_) => Err(NotAListenAddr::Other),
            None => Ok(listen(text.parse()?, Transport::Plain)),
        }
    }
}

impl Listen {
    /// Returns the same address with operators as its audience.
    #[must_use]
    pub fn for_operators(self) -> Self {
        Self { purpose: Purpose { audience: Audience::Operators, ..self.purpose }, ..self }
    }

    /// Returns the same address with hosts that share blobs as its audience.
    #[must_use]
    pub fn for_torrents(self) -> Self {
        Self { purpose: Purpose { audience: Audience::Torrents, ..self.purpose }, ..self }
    }

    /// The target to bind. `None` for a Unix socket.
    pub(super) fn place(&self) -> Option<BindTarget<'_>> {
        let (host, port) = match &self.address {
            ListenAddr::AnyTcp(port) => (None, *port),
            ListenAddr::Tcp { host, port } => (Some(host.as_str()), *port),
            ListenAddr::Unix(_) => return None,
        };
        Some(BindTarget { host, port, purpose: self.purpose })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_unix = matches!(self.address, ListenAddr::Unix(_));
        write!(f, "{}{}", self.purpose.transport.prefix(is_unix), self.address)
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
        /// The port. 0 lets the system choose a port.
        port: u16,
    },
    /// `unix:/run/retracker.sock`.
    Unix(PathBuf),
}

/// The text is not a listen address. The caller names the setting and the syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAListenAddr {
    /// TLS is not possible at this address, because it is a Unix socket or an address for proxies.
    #[error("not a listen address for TLS")]
    NotOverTls,
    /// The text is wrong in another way.
    #[error("not a listen address")]
    Other,
}

impl FromStr for ListenAddr {
    type Err = NotAListenAddr;

    fn from_str(text: &str) -> Result<Self, NotAListenAddr> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(NotAListenAddr::Other) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAListenAddr::Other)?;
        let port = port.parse().map_err(|_| NotAListenAddr::Other)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bracketed {
            Some(ip) => ip
                .parse::<Ipv6Addr>()
                .map(|ip| Self::Tcp { host: ip.to_string(), port })
                .map_err(|_| NotAListenAddr::Other),
            None if host.is_empty() => Ok(Self::AnyTcp(port)),
            None if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) => {
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            None => Err(NotAListenAddr::Other),
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
    /// The TCP addresses at which this host can reach a server that listens on this address.
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

/// The address at which this host reaches a server on `[::]`. An IPv4 address if the host has no IPv6.
fn here(port: u16) -> SocketAddr {
    let ip =
        if is_own(Ipv6Addr::LOCALHOST.into()) { Ipv6Addr::LOCALHOST.into() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    (ip, port).into()
}

/// Whether this host has the address.
fn is_own(ip: IpAddr) -> bool {
    !TcpListener::bind((ip, 0)).is_err_and(|error| binder::is_absent(&error))
}

/// An address to listen on for datagrams: `--udp-listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpListenAddr {
    /// An address or a name; `None` for all addresses of both families.
    host: Option<String>,
    /// The port. 0 lets the system choose a port.
    port: u16,
    /// Whether the address is for proxies (`proxy+udp://`), which begin each datagram with a PROXY protocol header that
    /// names the client.
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
            ListenAddr::Unix(_) => Err(NotAListenAddr::Other),
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

impl UdpListenAddr {
    pub(super) fn place(&self) -> BindTarget<'_> {
        BindTarget { host: self.host.as_deref(), port: self.port, purpose: self.purpose() }
    }

    /// The purpose of the address. UDP is for clients only: operators and hosts that share blobs use HTTP.
    pub(super) fn purpose(&self) -> Purpose {
        Purpose::clients(if self.proxied { Transport::Proxied } else { Transport::Plain })
    }
}

#[cfg(test)]
mod tests;
