//! Recognises by the beginning of the peer id which client program sends an announce (BEP 20).

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

impl ClientPrefix {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
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
    /// The prefixes in ascending order. No prefix begins with another prefix.
    prefixes: Vec<ClientPrefix>,
}

impl ClientPrefixes {
    pub(super) fn new(mut prefixes: Vec<ClientPrefix>) -> Self {
        prefixes.sort_unstable();
        // If a prefix begins with another prefix, the shorter prefix comes first. The longer prefix is removed, because
        // the shorter one covers it.
        prefixes.dedup_by(|longer, shorter| longer.0.starts_with(&shorter.0));
        Self { prefixes }
    }

    /// Returns whether a peer id begins with one of the prefixes, either as it is or after its leading dash. `start` is
    /// the whole id or its beginning. `None` if the answer depends on the bytes after `start`.
    pub(super) fn has(&self, start: &[u8]) -> Option<bool> {
        let after_dash = start.strip_prefix(b"-");
        if self.covers(start) || after_dash.is_some_and(|start| self.covers(start)) {
            return Some(true);
        }
        let is_open = start.len() < size_of::<PeerId>()
            && (self.continues(start) || after_dash.is_some_and(|start| self.continues(start)));
        (!is_open).then_some(false)
    }

    /// Returns whether `start` begins with one of the prefixes.
    fn covers(&self, start: &[u8]) -> bool {
        let behind = self.prefixes.partition_point(|prefix| prefix.0.as_slice() <= start);
        self.prefixes.get(..behind).and_then(<[_]>::last).is_some_and(|prefix| start.starts_with(&prefix.0))
    }

    /// Returns whether one of the prefixes is longer than `start` and begins with `start`.
    fn continues(&self, start: &[u8]) -> bool {
        let behind = self.prefixes.partition_point(|prefix| prefix.0.as_slice() <= start);
        self.prefixes.get(behind).is_some_and(|prefix| prefix.0.starts_with(start))
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
            assert_eq!(listed.has(&id(peer_id).0), Some(expected), "{peer_id}");
        }
    }

    #[test]
    fn chihayas_six_bytes_follow_the_dash() {
        let admits = |listed: &[u8; 6], id: &[u8; 20]| {
            ClientPrefixes::new(vec![ClientPrefix::new(*listed)]).has(id) == Some(true)
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
            prop_assert_eq!(set(&prefixes).has(&id.0), Some(expected));
        }

        #[test]
        fn the_beginning_of_an_id_decides_if_all_ids_that_begin_so_agree(
            prefixes in prop::collection::vec("[-AB]{1,3}", 0..6),
            start in "[-AB]{0,3}",
        ) {
            let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).filter(|prefix| *prefix != "-").collect();
            let listed = set(&prefixes);
            // Only the first four bytes of an id matter: a dash, and the three bytes of the longest prefix.
            let rests = (0..3_usize.pow(4)).map(|n| (0..4).map(move |place| b"-AB"[n / 3_usize.pow(place) % 3]));
            let verdicts: std::collections::HashSet<_> = rests.map(|rest| {
                let id: Vec<u8> = start.bytes().chain(rest).chain(std::iter::repeat(b'A')).take(20).collect();
                listed.has(&id)
            }).collect();
            let common = (verdicts.len() == 1).then(|| verdicts.into_iter().next().unwrap().unwrap());
            match listed.has(start.as_bytes()) {
                // Several prefixes may together cover all continuations. `has` does not notice this.
                None => prop_assert_ne!(common, Some(false)),
                found => prop_assert_eq!(found, common),
            }
        }
    }
}
