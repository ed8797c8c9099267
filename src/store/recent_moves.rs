//! When peers were last heard of, to a tenth of a second, as in records of other instances.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use tracker_protocol::{InfoHash, PeerId};

use crate::hash::SEED;

/// The most moves that are remembered.
const MOVES: usize = 256;

/// The latest moves of peers. A move means that a peer joined, changed or left here, or that a record of another
/// instance was applied. Only a store that gets records needs the moves, because an old record may come after a newer
/// record. The swarm cannot always tell which record is newer: it has no entry for a peer that left, and its ticks may
/// be seconds long.
///
/// A peer's hash determines its slot, where a later move replaces the earlier one.
#[derive(Debug)]
pub(super) struct RecentMoves(Box<[Move]>);

#[derive(Clone, Copy, Debug, Default)]
struct Move {
    tag: u32,
    heard: HeardAt,
}

/// A moment in tenths of a second. It may be before the process started, and wraps after thirteen years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeardAt(pub(super) u32);

impl HeardAt {
    fn is_before(self, other: Self) -> bool {
        // The highest bit is the sign.
        self.0.wrapping_sub(other.0) > u32::MAX / 2
    }
}

impl Default for RecentMoves {
    fn default() -> Self {
        Self(vec![Move::default(); MOVES].into())
    }
}

impl RecentMoves {
    /// Returns whether a later move of the peer is remembered.
    pub(super) fn has_moved_after(&self, heard: HeardAt, peer: (InfoHash, IpAddr, PeerId)) -> bool {
        let (tag, slot) = place_of(peer);
        self.0.get(slot).is_some_and(|last| last.tag == tag && heard.is_before(last.heard))
    }

    pub(super) fn note(&mut self, heard: HeardAt, peer: (InfoHash, IpAddr, PeerId)) {
        let (tag, slot) = place_of(peer);
        self.0.get_mut(slot).into_iter().for_each(|last| *last = Move { tag, heard });
    }
}

/// Returns the tag and the slot of a peer. Tag 0 marks an empty slot.
fn place_of(peer: (InfoHash, IpAddr, PeerId)) -> (u32, usize) {
    let [a, b, c, d, .., slot] = SEED.hash_one(peer).to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]) | 1, usize::from(slot) % MOVES)
}
