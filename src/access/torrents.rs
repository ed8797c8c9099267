//! A large set of info-hashes in little memory.

use tracker_protocol::InfoHash;

/// The info-hashes of one bucket, on average.
const BUCKET: usize = 8;

/// A set of info-hashes. Each takes about 20.5 bytes. A look-up reads an index and one short range of a sorted list,
/// which is two or three cache lines.
#[derive(Debug, Default)]
pub struct TorrentSet {
    /// In ascending order.
    hashes: Box<[InfoHash]>,
    /// Where each bucket ends in `hashes`. The first bits of a hash are the number of its bucket.
    ends: Box<[u32]>,
    /// The number of a hash's bucket is its first 32 bits, shifted to the right by this many.
    shift: u32,
}

impl TorrentSet {
    /// The number of info-hashes in the set.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the set has no info-hash.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the set has this info-hash.
    pub(super) fn contains(&self, hash: InfoHash) -> bool {
        let Some(bucket) = bucket(hash, self.shift) else { return false };
        let end = |bucket: usize| self.ends.get(bucket).and_then(|end| usize::try_from(*end).ok());
        let start = bucket.checked_sub(1).map_or(Some(0), end);
        let found = start.zip(end(bucket)).and_then(|(start, end)| self.hashes.get(start..end));
        // A binary search, because the hashes of a list may all begin alike.
        found.is_some_and(|hashes| hashes.binary_search(&hash).is_ok())
    }
}

fn bucket(InfoHash([a, b, c, d, ..]): InfoHash, shift: u32) -> Option<usize> {
    usize::try_from(u32::from_be_bytes([a, b, c, d]).checked_shr(shift).unwrap_or(0)).ok()
}

impl FromIterator<InfoHash> for TorrentSet {
    /// Hashes beyond the first 2^32 are dropped: no file has so many.
    fn from_iter<I: IntoIterator<Item = InfoHash>>(hashes: I) -> Self {
        let mut hashes: Vec<_> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup();
        let buckets = (hashes.len() / BUCKET).next_power_of_two();
        let shift = u32::BITS - buckets.trailing_zeros().min(u32::BITS);
        let mut ends = vec![0; buckets];
        for (place, hash) in (1_u32..).zip(&hashes) {
            if let Some(end) = bucket(*hash, shift).and_then(|bucket| ends.get_mut(bucket)) {
                *end = place;
            }
        }
        // A bucket without hashes ends where the previous bucket ends.
        let mut last = 0;
        for end in &mut ends {
            last = last.max(*end);
            *end = last;
        }
        Self { hashes: hashes.into(), ends: ends.into(), shift }
    }
}

#[cfg(test)]
mod tests {
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
        let bytes = size_of_val(&*set.hashes) + size_of_val(&*set.ends);
        assert!(bytes < 21 * 1_000_000, "{bytes}");
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
            prop_assert_eq!(set.contains(InfoHash(other)), hashes.contains(&other));
        }
    }
}
