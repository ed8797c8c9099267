//! The query of an announce.

use std::fmt::Write as _;

/// The query of an announce, with escaped values.
#[derive(Clone, Debug)]
pub(crate) struct AnnounceQuery(Vec<(String, String)>);

/// Returns an announce of a leecher on port 6881. [`id`] makes the info-hash and the peer id from the names.
pub(crate) fn announce(torrent: &str, peer: &str) -> AnnounceQuery {
    let announce = AnnounceQuery(Vec::new()).with("info_hash", escape(&id(torrent))).with("peer_id", escape(&id(peer)));
    announce.port(6881).with("left", "1")
}

/// Returns an announce without a port, from an address on the LAN. Its sender gets up to 200 peers, and is not listed as
/// a peer.
pub(crate) fn observer(torrent: &str) -> AnnounceQuery {
    announce(torrent, "observer").at("10.99.99.99").without("port").numwant(200)
}

/// Returns twenty bytes that begin with this name.
pub(crate) fn id(name: &str) -> [u8; 20] {
    let mut id = [b'-'; 20];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, &byte| {
        match byte {
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02x}").unwrap(),
        }
        out
    })
}

impl AnnounceQuery {
    /// Sets the parameter `ip`, so that the tracker does not use the test's own address.
    pub(crate) fn at(self, ip: &str) -> Self {
        self.with("ip", ip)
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.with("port", port.to_string())
    }

    pub(crate) fn seed(self) -> Self {
        self.with("left", "0")
    }

    pub(crate) fn event(self, event: &str) -> Self {
        self.with("event", event)
    }

    pub(crate) fn numwant(self, numwant: i64) -> Self {
        self.with("numwant", numwant.to_string())
    }

    /// Sets or replaces a parameter.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.to_owned(), value.into())),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn query(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }

    pub(crate) fn target(&self) -> String {
        format!("/announce?{}", self.query())
    }
}
