//! The client that `/explain` is asked about.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

/// The address of a client, with its port if the port is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAt {
    /// The address, canonical.
    pub ip: IpAddr,
    /// The port at which the client listens.
    pub port: Option<NonZeroU16>,
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAClient;

impl FromStr for ClientAt {
    type Err = NotAClient;

    /// Parses an address with or without a port. An IPv6 address with a port is in brackets.
    fn from_str(text: &str) -> Result<Self, NotAClient> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let port = NonZeroU16::new(address.port()).ok_or(NotAClient)?;
            return Ok(Self { ip: address.ip().to_canonical(), port: Some(port) });
        }
        let ip = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        ip.parse::<IpAddr>().map(|ip| Self { ip: ip.to_canonical(), port: None }).map_err(|_| NotAClient)
    }
}

impl fmt::Display for ClientAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port.get()).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}
