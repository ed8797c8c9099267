//! A large set of info-hashes in little memory.

use std::hash::BuildHasher as _;
use std::num::NonZeroU8;

use tracker_protocol::InfoHash;

use crate::hash::SEED;

/// The share of the table's places that are taken: 11 of 20. If more were taken, a look-up would try more places.
const TAKEN: (usize, usize) = (11, 20);

/// A set of info-hashes. Each info-hash takes 38.2 bytes.
///
/// The set is a hash table with linear probing. A second table has a tag of one byte for each place, which a look-up
/// compares first. The tags of a million info-hashes fit in the processor's cache. So a look-up of an absent info-hash
/// usually needs only the cache. If the info-hash is present, the look-up also reads one or two cache lines from
/// memory.
#[derive(Debug, Default)]
pub struct TorrentSet {
    /// The tag of the hash at each place. `None` if the place is free.
    tags: Box<[Option<NonZeroU8>]>,
    /// The hash at each place.
    hashes: Box<[InfoHash]>,
    len: usize,
}

impl TorrentSet {
    /// Returns the number of info-hashes in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the set has no info-hash.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the set has this info-hash.
    pub(super) fn contains(&self, hash: InfoHash) -> bool {
        self.find(hash).is_some_and(|(_, is_there)| is_there)
    }

    /// Returns the place where a hash is or would be put, and whether the hash is there. `None` if the table has no
    /// places.
    fn find(&self, hash: InfoHash) -> Option<(usize, bool)> {
        let (own, tag) = place_and_tag(hash, self.tags.len());
        let mut places = (own..self.tags.len()).chain(0..own);
        places.find_map(|place| match self.tags.get(place)? {
            None => Some((place, false)),
            Some(at) if *at == tag && self.hashes.get(place) == Some(&hash) => Some((place, true)),
            Some(_) => None,
        })
    }

    fn insert(&mut self, hash: InfoHash) {
        let Some((place, false)) = self.find(hash) else { return };
        let (_, tag) = place_and_tag(hash, self.tags.len());
        if let Some((at, slot)) = self.tags.get_mut(place).zip(self.hashes.get_mut(place)) {
            (*at, *slot) = (Some(tag), hash);
            self.len += 1;
        }
    }
}

/// Returns the place where a hash belongs in a table with this many places, and the tag of the hash.
fn place_and_tag(hash: InfoHash, places: usize) -> (usize, NonZeroU8) {
    let bits = SEED.hash_one(hash.0);
    // The high half of this product is as evenly spread over the places as the hash is over 64 bits.
    let own = (u128::from(bits) * places as u128) >> u64::BITS;
    // The tag is made of the low bits, which affect the place only if there are very many places.
    let [low, ..] = bits.to_le_bytes();
    (usize::try_from(own).unwrap_or_default(), NonZeroU8::new(low).unwrap_or(NonZeroU8::MIN))
}

impl FromIterator<InfoHash> for TorrentSet {
    fn from_iter<I: IntoIterator<Item = InfoHash>>(hashes: I) -> Self {
        let hashes: Vec<_> = hashes.into_iter().collect();
        let (taken, of) = TAKEN;
        let places = (hashes.len() * of).div_ceil(taken);
        let mut set = Self { tags: vec![None; places].into(), hashes: vec![InfoHash([0; 20]); places].into(), len: 0 };
        hashes.into_iter().for_each(|hash| set.insert(hash));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    fn spread(n: u64) -> InfoHash {
        let mut hash = [0; 20];
        hash[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        InfoHash(hash)
    }

    #[test]
    fn a_million_hashes_take_less_than_forty_bytes_each() {
        let set: TorrentSet = (0..1_000_000).map(spread).collect();
        let bytes = size_of_val(&*set.hashes) + size_of_val(&*set.tags);
        assert!(bytes < 39 * 1_000_000, "{bytes}");
        assert!((0..1_000_000).all(|n| set.contains(spread(n))));
        assert!((1_000_000..1_100_000).all(|n| !set.contains(spread(n))));
    }

    #[test]
    fn hashes_that_all_begin_alike_are_found() {
        let alike = |n: u16| {
            let mut hash = [0xff; 20];
            hash[18..].copy_from_slice(&n.to_be_bytes());
            InfoHash(hash)
        };
        let set: TorrentSet = (0..1000).map(|n| alike(2 * n)).collect();
        assert!((0..2000).all(|n| set.contains(alike(n)) == n.is_multiple_of(2)));
    }

    proptest! {
        #[test]
        fn it_has_what_was_put_in(hashes in prop::collection::vec(any::<[u8; 20]>(), 0..200), other in any::<[u8; 20]>()) {
            let set: TorrentSet = hashes.iter().map(|hash| InfoHash(*hash)).collect();
            prop_assert!(hashes.iter().all(|hash| set.contains(InfoHash(*hash))));
            prop_assert_eq!(set.len(), hashes.iter().collect::<HashSet<_>>().len());
            prop_assert_eq!(set.contains(InfoHash(other)), hashes.contains(&other));
        }
    }
}
