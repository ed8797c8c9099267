//! Peer ids in 14 bytes instead of 20.
//!
//! The id is the dearest part of a peer, and dictionary replies have to tell it whole (BEP 3). Nearly all clients begin
//! theirs with eight bytes that name program and version, such as `-TR4050-` (BEP 20), and a network has a few dozen of
//! those: they are kept once, and a peer holds a number for them.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::index::SEED;
use crate::bittorrent::PeerId;

/// Beginnings that are remembered, so that ids made up at random cannot fill the memory. It is far more than there are
/// programs and versions.
const MAX_PREFIXES: usize = 4096;

/// What stands for a beginning that is not remembered.
const UNKNOWN: u16 = u16::MAX;

/// A shortened id. Equal ids are equal when shortened by the same [`Prefixes`]; different ones are different but for their
/// beginnings, once too many of those have been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientId {
    /// The number of the first eight bytes.
    prefix: [u8; 2],
    rest: [u8; 12],
}

/// The beginnings of ids, each with its number.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    known: Vec<[u8; 8]>,
    numbers: HashTable<u16>,
}

impl Prefixes {
    /// Shortens an id.
    pub(super) fn shorten(&mut self, PeerId(id): PeerId) -> ClientId {
        // Both are there: the parts are as long as the whole.
        let prefix = id.first_chunk().copied().unwrap_or_default();
        let rest = id.last_chunk().copied().unwrap_or_default();
        ClientId { prefix: self.number(prefix).to_ne_bytes(), rest }
    }

    /// The whole id, unless there were too many to remember how it begins.
    pub(super) fn restore(&self, id: ClientId) -> Option<PeerId> {
        let prefix = self.known.get(usize::from(u16::from_ne_bytes(id.prefix)))?;
        let mut whole = [0; 20];
        whole.iter_mut().zip(prefix.iter().chain(&id.rest)).for_each(|(to, from)| *to = *from);
        Some(PeerId(whole))
    }

    fn number(&mut self, prefix: [u8; 8]) -> u16 {
        let known = &mut self.known;
        let is_it = |&number: &u16| known.get(usize::from(number)) == Some(&prefix);
        if let Some(&number) = self.numbers.find(SEED.hash_one(prefix), is_it) {
            return number;
        }
        let Some(number) = u16::try_from(known.len()).ok().filter(|_| known.len() < MAX_PREFIXES) else {
            return UNKNOWN;
        };
        known.push(prefix);
        let hash = |&number: &u16| known.get(usize::from(number)).map_or(0, |prefix| SEED.hash_one(prefix));
        self.numbers.insert_unique(SEED.hash_one(prefix), number, hash);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_what_they_were(ids in proptest::collection::vec((0..9_u8, any::<[u8; 12]>()), 1..50)) {
            let mut prefixes = Prefixes::default();
            let whole = |(client, rest): (u8, [u8; 12])| {
                let mut id = [client; 20];
                id[8..].copy_from_slice(&rest);
                PeerId(id)
            };
            let short: Vec<_> = ids.iter().map(|&id| prefixes.shorten(whole(id))).collect();
            for (&id, &short) in ids.iter().zip(&short) {
                prop_assert_eq!(prefixes.restore(short), Some(whole(id)));
                prop_assert_eq!(prefixes.shorten(whole(id)), short);
            }
            prop_assert!(prefixes.known.len() <= 9);
        }
    }

    #[test]
    fn a_flood_of_ids_costs_no_more_than_its_bound_and_harms_nobody_who_was_there() {
        let mut prefixes = Prefixes::default();
        let known = prefixes.shorten(PeerId(*b"-TR4050-abcdefghijkl"));
        for n in 0..10_000_u32 {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            let short = prefixes.shorten(PeerId(id));
            assert_eq!(short, prefixes.shorten(PeerId(id)));
            assert_ne!(short, known);
        }
        assert_eq!(prefixes.known.len(), MAX_PREFIXES);
        assert_eq!(prefixes.restore(known), Some(PeerId(*b"-TR4050-abcdefghijkl")));
        let late = prefixes.shorten(PeerId(*b"-qB4630-abcdefghijkl"));
        assert_eq!(prefixes.restore(late), None);
    }
}
