//! What is expected at an address, and whom it serves.

/// What comes before the requests of a connection, or before each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// The header of the PROXY protocol, in which a proxy names the client.
    Proxied,
    /// A TLS handshake; over TCP only.
    Tls,
}

impl Transport {
    /// What stands before an address in the notation of the settings. `has_scheme`: the address begins with `unix:` or `udp://`.
    pub(super) fn prefix(self, has_scheme: bool) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Proxied if has_scheme => "proxy+",
            Self::Proxied => "proxy+tcp://",
            Self::Tls => "tls://",
        }
    }
}

/// Whom an address serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// BitTorrent clients, and operators unless these have listeners of their own.
    Clients,
    /// Operators alone: `--admin-listen`.
    Operators,
}

/// What a socket is for. No socket has two purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What comes before requests.
    pub transport: Transport,
    /// Whom it serves.
    pub audience: Audience,
}

impl Purpose {
    /// For clients.
    pub fn clients(transport: Transport) -> Self {
        Self { transport, audience: Audience::Clients }
    }
}
