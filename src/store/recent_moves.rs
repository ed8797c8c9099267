//! The moments at which peers were heard of lately, to a tenth of a second, as records of other instances have them.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use tracker_protocol::{InfoHash, PeerId};

use crate::hash::SEED;

/// The most moves that are remembered.
const MOVES: usize = 256;

/// Remembers the latest moves of peers: when this instance heard a peer join, change or leave, and when another instance
/// heard of a peer. Only a store that gets records of other instances needs the moves, because an old record may come
/// after a newer record. The swarm cannot always tell that a record is outdated: it has no entry for a peer that has
/// left, and it counts time in ticks, which may be seconds long.
///
/// The hash of a peer determines its slot. A later move with the same slot replaces the earlier one.
#[derive(Debug)]
pub(super) struct RecentMoves(Box<[Move]>);

#[derive(Clone, Copy, Debug, Default)]
struct Move {
    tag: u32,
    heard: HeardAt,
}

/// A moment in tenths of a second, which may be before the start of the process. It wraps after thirteen years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeardAt(pub(super) u32);

impl HeardAt {
    fn is_before(self, other: Self) -> bool {
        // The difference is negative if its highest bit is set.
        self.0.wrapping_sub(other.0) > u32::MAX / 2
    }
}

impl Default for RecentMoves {
    fn default() -> Self {
        Self(vec![Move::default(); MOVES].into())
    }
}

impl RecentMoves {
    /// Returns whether a move of the peer after this moment is remembered.
    pub(super) fn has_moved_after(&self, heard: HeardAt, peer: (InfoHash, IpAddr, PeerId)) -> bool {
        let (tag, slot) = place_of(peer);
        self.0.get(slot).is_some_and(|last| last.tag == tag && heard.is_before(last.heard))
    }

    /// Remembers a move of the peer at this moment.
    pub(super) fn note(&mut self, heard: HeardAt, peer: (InfoHash, IpAddr, PeerId)) {
        let (tag, slot) = place_of(peer);
        self.0.get_mut(slot).into_iter().for_each(|last| *last = Move { tag, heard });
    }
}

/// Returns the tag and the slot of a peer. No tag is 0, because 0 marks an empty slot.
fn place_of(peer: (InfoHash, IpAddr, PeerId)) -> (u32, usize) {
    let [a, b, c, d, .., slot] = SEED.hash_one(peer).to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]) | 1, usize::from(slot) % MOVES)
}
