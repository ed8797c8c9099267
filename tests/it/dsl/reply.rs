//! A reply, and the values of an announce reply.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::bencode::Bencode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) version: String,
    pub(crate) status: u16,
    /// The names (in lower case) and the values, in the order of the reply.
    pub(super) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body in printable form.
    pub(crate) fn text(&self) -> String {
        self.body.escape_ascii().to_string()
    }

    /// Reads the body as bencode. The status must be 200, and the content type must be plain text. The bencode must be
    /// canonical (keys sorted and unique, no leading zeros) and have no trailing bytes, because every BitTorrent client
    /// can read this form.
    pub(crate) fn tree(&self) -> Bencode {
        assert_eq!((self.status, self.header("content-type")), (200, Some("text/plain")), "{}", self.text());
        Bencode::read(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the peers of an announce reply, sorted.
    pub(crate) fn peers(&self) -> Vec<String> {
        self.tree().peers().into_iter().map(|peer| peer.to_string()).collect()
    }

    /// Returns the number at this key of an announce reply.
    pub(crate) fn int(&self, key: &str) -> i64 {
        self.tree().get(key).unwrap_or_else(|| panic!("{key} is not in {}", self.text())).int()
    }

    /// Returns the `external ip` of an announce reply.
    pub(crate) fn external_ip(&self) -> String {
        match self.tree().get("external ip").unwrap().bytes() {
            bytes if bytes.len() == 4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).to_string(),
            bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
        }
    }

    /// Returns the text at this key of an announce reply.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        Some(String::from_utf8(self.tree().get(key)?.bytes().to_vec()).unwrap())
    }

    /// Returns `complete`, `incomplete` and `downloaded` of an announce reply.
    pub(crate) fn counts(&self) -> [i64; 3] {
        ["complete", "incomplete", "downloaded"].map(|key| self.int(key))
    }
}
