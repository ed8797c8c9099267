//! Which client program sends an announce. The beginning of the peer id tells it (BEP 20).

use std::str::FromStr;

use smallvec::SmallVec;
use thiserror::Error;
use tracker_protocol::PeerId;

/// The beginning of a peer id: `-TR40`, or `TR40` without the dash, as Chihaya's lists have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientPrefix(SmallVec<[u8; 16]>);

/// The text is not the beginning of a peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the beginning of a peer id")]
pub struct NotAClientPrefix;

impl ClientPrefix {
    /// Makes a prefix from the six bytes after a peer id's dash, as in Chihaya's lists.
    pub fn new(id: [u8; 6]) -> Self {
        // A dash at the beginning of these bytes is the second dash of the peer id.
        let first = if id.starts_with(b"-") { &b"-"[..] } else { b"" };
        Self([first, &id].concat().into())
    }
}

impl FromStr for ClientPrefix {
    type Err = NotAClientPrefix;

    fn from_str(text: &str) -> Result<Self, NotAClientPrefix> {
        let is_id = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_bare_dash = text == "-";
        (is_id && !is_bare_dash).then(|| Self(text.as_bytes().into())).ok_or(NotAClientPrefix)
    }
}

/// A set of prefixes of peer ids.
#[derive(Debug)]
pub(super) struct ClientPrefixes {
    /// In ascending order. No prefix begins with another one.
    prefixes: Vec<ClientPrefix>,
}

impl ClientPrefixes {
    pub(super) fn new(mut prefixes: Vec<ClientPrefix>) -> Self {
        prefixes.sort_unstable();
        // If a prefix begins with another prefix, the shorter one comes first. It covers the longer one, which is
        // removed.
        prefixes.dedup_by(|longer, shorter| longer.0.starts_with(&shorter.0));
        Self { prefixes }
    }

    /// Whether a peer id begins with one of the prefixes, either as it is or after its leading dash.
    pub(super) fn contains(&self, PeerId(id): &PeerId) -> bool {
        self.covers(id) || id.strip_prefix(b"-").is_some_and(|rest| self.covers(rest))
    }

    fn covers(&self, id: &[u8]) -> bool {
        let behind = self.prefixes.partition_point(|prefix| prefix.0.as_slice() <= id);
        self.prefixes.get(..behind).and_then(<[_]>::last).is_some_and(|prefix| id.starts_with(&prefix.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(prefixes: &[&str]) -> ClientPrefixes {
        ClientPrefixes::new(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect())
    }

    #[test]
    fn with_and_without_the_dash() {
        let id = |text: &str| PeerId(text.as_bytes().try_into().unwrap());
        let listed = set(&["-TR40", "OP1011", "exbc"]);
        for (peer_id, expected) in [
            ("-TR4000-000000000000", true),
            ("TR4000--000000000000", false),
            ("-TR3000-000000000000", false),
            ("-OP1011-000000000000", true),
            ("OP1011--000000000000", true),
            ("-OP1012-000000000000", false),
            ("exbc0000000000000000", true),
        ] {
            assert_eq!(listed.contains(&id(peer_id)), expected, "{peer_id}");
        }
    }

    #[test]
    fn chihayas_six_bytes_follow_the_dash() {
        let admits = |listed: &[u8; 6], id: &[u8; 20]| {
            ClientPrefixes::new(vec![ClientPrefix::new(*listed)]).contains(&PeerId(*id))
        };
        assert!(admits(b"TR2820", b"-TR2820-000000000000") && admits(b"OP1011", b"OP101100000000000000"));
        assert!(admits(b"-abcde", b"--abcde-000000000000") && !admits(b"-abcde", b"-abcdex-000000000000"));
    }

    #[test]
    fn only_the_beginning_of_a_peer_id_is_one() {
        for text in ["", "-", "-TR40 ", "ü", "123456789012345678901"] {
            assert_eq!(text.parse::<ClientPrefix>(), Err(NotAClientPrefix), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_peer_id_is_listed_if_one_of_the_prefixes_fits(
            prefixes in prop::collection::vec("[-AB]{1,4}", 0..12),
            id in "[-AB]{20}",
        ) {
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).filter(|prefix| *prefix != "-").collect();
            let behind_dash = id.strip_prefix('-');
            let expected =
                prefixes.iter().any(|prefix| id.starts_with(prefix) || behind_dash.is_some_and(|id| id.starts_with(prefix)));
            let id = PeerId(id.as_bytes().try_into().unwrap());
            prop_assert_eq!(set(&prefixes).contains(&id), expected);
        }
    }
}
