//! Peer ids in 14 bytes instead of 20.
//!
//! The id takes most of a peer's memory, and dictionary replies need it (BEP 3). Nearly all ids begin with eight bytes
//! for program and version, such as `-TR4050-` (BEP 20), and a network has a few dozen of these prefixes. Each prefix
//! is stored once, and peers store its number. A prefix that was not announced within the peer age has no peers left,
//! so its number is used again.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::time::{Tick, TtlTicks};
use crate::hash::SEED;
use tracker_protocol::PeerId;

/// The most prefixes that are stored, far more than there are programs and versions. Random ids cannot fill the memory.
const MAX_PREFIXES: usize = UNKNOWN as usize;

/// Stands for a prefix that is not stored.
const UNKNOWN: u16 = (1 << ClientId::PREFIX_BITS) - 1;

/// A shortened id. Equal ids have equal short forms. Two ids that differ only in prefixes that are not stored also have
/// equal short forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientId {
    /// The number of the first eight bytes.
    prefix: u16,
    rest: [u8; 12],
}

impl ClientId {
    /// How many bits a prefix's number has. An entry stores four other bits in the same two bytes.
    pub(super) const PREFIX_BITS: u32 = 12;

    pub(super) fn new(prefix: u16, rest: [u8; 12]) -> Self {
        Self { prefix, rest }
    }

    pub(super) fn prefix(self) -> u16 {
        self.prefix
    }

    pub(super) fn rest(self) -> [u8; 12] {
        self.rest
    }
}

/// The prefixes of ids, each with its number.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    known: Vec<Prefix>,
    numbers: HashTable<u16>,
    /// Numbers below the length of `known` that are not in use.
    free: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Prefix {
    text: [u8; 8],
    /// When the prefix was last announced; `None` if its number is free.
    used: Option<Tick>,
}

impl Prefixes {
    /// Shortens an id. Stores its prefix if the peer `is_kept`.
    pub(super) fn shorten(&mut self, PeerId(id): PeerId, now: Tick, is_kept: bool) -> ClientId {
        // Both parts exist, because an id is 20 bytes long.
        let prefix = id.first_chunk().copied().unwrap_or_default();
        let rest = id.last_chunk().copied().unwrap_or_default();
        ClientId { prefix: self.number(prefix, now, is_kept), rest }
    }

    /// Forgets prefixes that were not announced within the peer age. Must be called once per peer age: otherwise ticks
    /// wrap, and an old prefix looks recent. Looks at a few thousand prefixes at most.
    pub(super) fn age(&mut self, now: Tick, life: TtlTicks) {
        for (number, prefix) in (0..).zip(&mut self.known) {
            if prefix.used.is_some_and(|used| life.is_over(now.since(used))) {
                prefix.used = None;
                if let Ok(found) = self.numbers.find_entry(SEED.hash_one(prefix.text), |&other| other == number) {
                    found.remove();
                }
                self.free.push(number);
            }
        }
        if self.numbers.is_empty() {
            *self = Self::default();
        }
    }

    /// Returns the whole id; `None` if its prefix is not stored.
    pub(super) fn restore(&self, id: ClientId) -> Option<PeerId> {
        let Prefix { text: prefix, .. } = self.known.get(usize::from(id.prefix))?;
        let mut whole = [0; 20];
        whole.iter_mut().zip(prefix.iter().chain(&id.rest)).for_each(|(to, from)| *to = *from);
        Some(PeerId(whole))
    }

    fn number(&mut self, text: [u8; 8], now: Tick, is_kept: bool) -> u16 {
        let known = &mut self.known;
        let is_it = |&number: &u16| known.get(usize::from(number)).is_some_and(|prefix| prefix.text == text);
        if let Some(&number) = self.numbers.find(SEED.hash_one(text), is_it) {
            // Workers' clocks differ a little. `used` must not go back.
            let prefix = known.get_mut(usize::from(number)).filter(|_| is_kept);
            if let Some(Prefix { used: Some(used), .. }) = prefix.filter(|prefix| prefix.used != Some(now)) {
                *used = used.plus(now.since(*used));
            }
            return number;
        }
        if !is_kept {
            return UNKNOWN;
        }
        let prefix = Prefix { text, used: Some(now) };
        let number = if let Some(number) = self.free.pop() {
            known.get_mut(usize::from(number)).into_iter().for_each(|free| *free = prefix);
            number
        } else if let Some(number) = u16::try_from(known.len()).ok().filter(|_| known.len() < MAX_PREFIXES) {
            known.push(prefix);
            number
        } else {
            return UNKNOWN;
        };
        let hash = |&number: &u16| known.get(usize::from(number)).map_or(0, |prefix| SEED.hash_one(prefix.text));
        self.numbers.insert_unique(SEED.hash_one(text), number, hash);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Ttl;
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
            let short: Vec<_> = ids.iter().map(|&id| prefixes.shorten(whole(id), Tick(0), true)).collect();
            for (&id, &short) in ids.iter().zip(&short) {
                prop_assert_eq!(prefixes.restore(short), Some(whole(id)));
                prop_assert_eq!(prefixes.shorten(whole(id), Tick(1), false), short);
            }
            prop_assert!(prefixes.known.len() <= 9);
        }
    }

    #[test]
    fn a_flood_of_ids_is_bounded_and_keeps_known_prefixes() {
        let mut prefixes = Prefixes::default();
        let known = prefixes.shorten(PeerId(*b"-TR4050-abcdefghijkl"), Tick(0), true);
        for n in 0..10_000_u32 {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            let short = prefixes.shorten(PeerId(id), Tick(0), true);
            assert_eq!(short, prefixes.shorten(PeerId(id), Tick(0), true));
            assert_ne!(short, known);
        }
        assert_eq!(prefixes.known.len(), MAX_PREFIXES);
        assert_eq!(prefixes.restore(known), Some(PeerId(*b"-TR4050-abcdefghijkl")));
        let late = prefixes.shorten(PeerId(*b"-qB4630-abcdefghijkl"), Tick(0), true);
        assert_eq!(prefixes.restore(late), None);
    }

    #[test]
    fn unused_prefixes_make_room_for_others() {
        let life = TtlTicks::new(Ttl::from_tenths(100));
        let mut prefixes = Prefixes::default();
        let id = |n: u32| {
            let mut id = [7; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            PeerId(id)
        };
        let kept = id(0);
        let short = prefixes.shorten(kept, Tick(0), true);
        for n in 0..10_000 {
            prefixes.shorten(id(n), Tick(10), true);
        }
        for now in [50, 109] {
            prefixes.age(Tick(now), life);
            assert_eq!(prefixes.shorten(kept, Tick(now), true), short);
            let late = prefixes.shorten(id(20_000), Tick(now), true);
            assert_eq!(prefixes.restore(late), None, "the others are still there");
        }
        prefixes.age(Tick(110), life);
        assert_eq!(prefixes.restore(short), Some(kept));
        for n in 20_000..24_000 {
            let short = prefixes.shorten(id(n), Tick(110), true);
            assert_eq!(prefixes.restore(short), Some(id(n)));
        }
        assert_eq!(prefixes.restore(short), Some(kept));
        prefixes.age(Tick(300), life);
        assert_eq!((prefixes.known.len(), prefixes.numbers.len()), (0, 0));
        let passing = prefixes.shorten(kept, Tick(300), false);
        assert_eq!(prefixes.restore(passing), None, "the prefix of a client that only leaves or reads is not stored");
    }
}
