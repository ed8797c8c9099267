//! The purpose of an address: its audience, and what comes before requests.

/// What comes before the requests of a connection, or before each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing comes before.
    Plain,
    /// A PROXY protocol header, in which a proxy names the client.
    Proxied,
    /// A TLS handshake; over TCP only.
    Tls,
}

impl Transport {
    /// The prefix of an address in the settings. `has_scheme`: the address begins with `unix:` or `udp://`.
    pub(super) fn prefix(self, has_scheme: bool) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Proxied if has_scheme => "proxy+",
            Self::Proxied => "proxy+tcp://",
            Self::Tls => "tls://",
        }
    }
}

/// The people or programs that an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// BitTorrent clients. Also operators, unless they have listeners of their own.
    Clients,
    /// Operators only: `--admin-listen`.
    Operators,
    /// Hosts that share blobs, for their torrent files and leases only: `--torrents-listen`.
    Torrents,
}

/// What a socket is for. No socket has two purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What comes before requests on the socket.
    pub transport: Transport,
    /// The audience that the socket serves.
    pub audience: Audience,
}

impl Purpose {
    /// The purpose of a socket that serves clients over this transport.
    pub fn clients(transport: Transport) -> Self {
        Self { transport, audience: Audience::Clients }
    }
}
