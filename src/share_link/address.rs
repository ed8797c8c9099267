//! A host with its port.

use std::fmt;

/// A host with its port, to which a connection can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineAddress {
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl EngineAddress {
    /// Reads `host`, `host:port` or `[address]:port`. Without a port in the text, the port is `usual`. `None` if the text
    /// has none of these forms.
    pub(super) fn read(text: &str, usual: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let port = port.map_or(Ok(usual), str::parse).ok().filter(|port| *port > 0)?;
        (!host.is_empty() && host.bytes().all(is_of_name)).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
