//! Which completed downloads have been counted.

use std::hash::BuildHasher as _;

use tracker_protocol::{InfoHash, PeerId};

use crate::hash::SEED;

/// The most downloads that are remembered.
const COMPLETIONS: usize = 64;

/// The downloads that were counted last. A client that repeats `completed` counts once, even if it left in between. A
/// download's hash determines its slot, where a later download replaces it.
#[derive(Debug, Default)]
pub(super) struct Completions(Vec<u32>);

impl Completions {
    /// Remembers a download. Returns whether it is new.
    pub(super) fn insert(&mut self, info_hash: InfoHash, peer_id: PeerId) -> bool {
        let hash = SEED.hash_one((info_hash, peer_id));
        let [a, b, c, d, .., slot] = hash.to_be_bytes();
        let tag = u32::from_be_bytes([a, b, c, d]) | 1;
        if self.0.is_empty() {
            self.0.resize(COMPLETIONS, 0);
        }
        let slot = self.0.get_mut(usize::from(slot) % COMPLETIONS);
        slot.is_some_and(|slot| std::mem::replace(slot, tag) != tag)
    }
}
