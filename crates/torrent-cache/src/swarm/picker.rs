//! Which piece a peer is asked for, and which pieces are under way.
//!
//! A peer is asked for whole pieces, usually one or two at a time, in this order:
//!
//! 1. The piece that a client waits for.
//! 2. Pieces that are this host's *own*. A hash of host and piece assigns each piece to one of the hosts that lack it.
//!    So several hosts fetch different pieces from one seed and swap them, and the seed sends each piece once.
//! 3. Pieces that other hosts have fetched, the rarest first.
//! 4. Other hosts' own pieces that only seeds have yet.
//!
//! A second peer is asked for a piece under way when all missing pieces are under way, or when a client has waited for
//! the piece for too long. In the second case a *proven* peer takes the piece over from peers that are not proven. A
//! peer is proven once it has delivered a right piece.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tracker_protocol::PeerId;

use crate::peer_wire::{BlockRequest, MAX_BLOCK, PieceSet};

/// After this time a second peer is asked for the piece that a client waits for, or takes the piece over.
const PATIENCE: Duration = Duration::from_millis(700);
/// The same time as long as no peer has delivered a right piece.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// The most peers that are asked for one piece at once.
const MAX_ASKED: usize = 3;

/// The most pieces that one choice compares. This keeps a choice below a millisecond in the largest torrents.
const MAX_COMPARED: usize = 4096;

/// A host to which pieces can be assigned: a hash of its peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceClaimant(u64);

impl PieceClaimant {
    pub(super) fn new(id: &PeerId) -> Self {
        // FNV-1a.
        Self(id.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
    }

    /// Returns the share of this host in a piece. The piece belongs to the host with the highest share.
    fn share(self, piece: u32) -> u64 {
        let mixed = (self.0 ^ u64::from(piece)).wrapping_mul(PRIME);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The prime of FNV.
const PRIME: u64 = 0x0100_0000_01b3;

/// The number of a connection. No two connections of a torrent have the same number.
pub(super) type PeerNumber = u64;

/// The pieces that are under way, and how many peers have each piece.
#[derive(Debug)]
pub(super) struct PiecePicker {
    availability: Vec<u32>,
    under_way: HashMap<u32, PieceUnderWay>,
    /// Pieces that were wrong, with blocks from several hosts or from a doubted host. Next time one peer alone is asked
    /// for each of these pieces, so that it is clear who sends wrong bytes.
    suspects: HashSet<u32>,
    /// Peers that have delivered a right piece.
    proven: HashSet<PeerNumber>,
    /// The piece that the last choice has taken from other peers.
    taken_over: Option<u32>,
}

#[derive(Debug)]
struct PieceUnderWay {
    bytes: Vec<u8>,
    /// The blocks that have come.
    received: PieceSet,
    /// The peers that were asked for the piece and may still deliver blocks.
    asked: Vec<PeerNumber>,
    /// The hosts that sent the blocks in `received`.
    givers: Vec<IpAddr>,
    /// When the first of the peers in `asked` was asked.
    begun: Instant,
    /// When the last peer was asked for the piece.
    since: Instant,
    /// Whether all blocks have come and are being verified.
    is_whole: bool,
}

/// What decides which piece a peer is asked for.
pub(super) struct Choice<'a> {
    /// The peer that is asked.
    pub peer: PeerNumber,
    /// The pieces that the peer has.
    pub has: &'a PieceSet,
    /// This host.
    pub own: PieceClaimant,
    /// The connected peers that lack pieces, each with the pieces that it has.
    pub rivals: &'a [(PieceClaimant, &'a PieceSet)],
    /// How many of the connected peers have all pieces.
    pub seeds: u32,
    /// Tells whether peers may be asked for a piece.
    pub may: &'a dyn Fn(u32) -> bool,
    /// The piece that a client waits for.
    pub head: Option<u32>,
    /// How many pieces this host lacks, including those whose hash is not known.
    pub missing: u32,
    /// The present time.
    pub now: Instant,
    /// Whether there is memory for another piece.
    pub has_room: bool,
    /// Whether the host fetches its own pieces from the blob's end on. It does so while the upstream delivers the blob
    /// from the beginning. Otherwise peers and upstream would deliver the same pieces. The host also does so if this
    /// peer is not proven, but a proven peer has the piece that a client waits for: this peer may deliver nothing.
    pub from_end: bool,
}

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TakenBlock {
    /// The block was thrown away: its piece is not under way, it does not fit, or it came before.
    Unwanted,
    /// The block was kept. Its piece still lacks blocks.
    Kept,
    /// The block was the last that its piece lacked.
    Completes {
        /// The piece's bytes.
        bytes: Vec<u8>,
        /// The hosts that sent the bytes.
        givers: Vec<IpAddr>,
        /// The peers that may still deliver blocks of the piece.
        asked: Vec<PeerNumber>,
    },
}

impl PiecePicker {
    /// Makes a picker for a torrent with `count` pieces.
    pub(super) fn new(count: u32) -> Self {
        Self {
            availability: vec![0; count as usize],
            under_way: HashMap::new(),
            suspects: HashSet::new(),
            proven: HashSet::new(),
            taken_over: None,
        }
    }

    /// Counts a peer that has a piece.
    pub(super) fn add(&mut self, piece: u32) {
        if let Some(count) = self.availability.get_mut(piece as usize) {
            *count += 1;
        }
    }

    /// Subtracts a peer that had these pieces.
    pub(super) fn remove(&mut self, has: &PieceSet) {
        for piece in has.iter() {
            if let Some(count) = self.availability.get_mut(piece as usize) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Returns how many peers have a piece.
    pub(super) fn availability(&self, piece: u32) -> u32 {
        self.availability.get(piece as usize).copied().unwrap_or_default()
    }

    /// Returns whether a piece is being verified, or whether peers that were asked for it may still deliver it.
    pub(super) fn is_under_way(&self, piece: u32) -> bool {
        self.under_way.get(&piece).is_some_and(|under_way| under_way.is_whole || !under_way.asked.is_empty())
    }

    /// Returns the number of pieces for which memory is held.
    pub(super) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Chooses a piece for a peer, and returns requests for its missing blocks. `length_of` gives a piece's length.
    pub(super) fn pick(&mut self, choice: &Choice<'_>, length_of: impl Fn(u32) -> u32) -> Vec<BlockRequest> {
        let Some(piece) = self.choose(choice) else { return Vec::new() };
        let length = length_of(piece);
        let under_way = self.under_way.entry(piece).or_insert_with(|| PieceUnderWay {
            bytes: vec![0; length as usize],
            received: PieceSet::empty(length.div_ceil(MAX_BLOCK)),
            asked: Vec::new(),
            givers: Vec::new(),
            begun: choice.now,
            since: choice.now,
            is_whole: false,
        });
        under_way.since = choice.now;
        let is_proven = |peer: &PeerNumber| self.proven.contains(peer);
        let is_held = !under_way.asked.is_empty() && !under_way.asked.iter().any(is_proven);
        if choice.head == Some(piece) && is_held && is_proven(&choice.peer) {
            under_way.begin_again();
            self.taken_over = Some(piece);
        }
        if under_way.asked.is_empty() {
            under_way.begun = choice.now;
        }
        let is_second = !under_way.asked.is_empty();
        under_way.asked.push(choice.peer);
        let missing = (0..length.div_ceil(MAX_BLOCK)).filter(|block| !under_way.received.contains(*block));
        let request = |block| {
            let begin = block * MAX_BLOCK;
            BlockRequest { piece, begin, length: (length - begin).min(MAX_BLOCK) }
        };
        let mut requests: Vec<_> = missing.map(request).collect();
        // The second peer delivers the last block first, so that both peers meet in the middle.
        if is_second {
            requests.reverse();
        }
        requests
    }

    fn choose(&self, choice: &Choice<'_>) -> Option<u32> {
        let may = |piece: u32| choice.has.contains(piece) && (choice.may)(piece);
        let has_room = |piece: u32| choice.has_room || self.under_way.contains_key(&piece);
        if let Some(head) = choice.head.filter(|head| may(*head) && has_room(*head)) {
            let is_late = |since: fn(&PieceUnderWay) -> Instant| {
                self.under_way.get(&head).is_some_and(|head| {
                    let patience = if self.proven.is_empty() { FIRST_PATIENCE } else { PATIENCE };
                    choice.now.duration_since(since(head)) >= patience
                })
            };
            if !self.is_under_way(head)
                || is_late(|head| head.since) && self.may_ask_too(choice.peer, head)
                || is_late(|head| head.begun) && self.may_take_over(choice.peer, head)
            {
                return Some(head);
            }
        }
        let idle = choice.has.iter().filter(|piece| !self.is_under_way(*piece) && may(*piece) && has_room(*piece));
        let ranked = |piece| (self.rank(choice, piece), piece);
        let best = if choice.from_end {
            idle.rev().take(MAX_COMPARED).map(ranked).min()
        } else {
            idle.take(MAX_COMPARED).map(ranked).min()
        };
        if let Some((_, piece)) = best {
            return Some(piece);
        }
        let under_way = self.under_way.keys().filter(|piece| self.is_under_way(**piece)).count();
        if under_way < choice.missing as usize {
            return None;
        }
        let shared = self.under_way.iter().filter(|(piece, _)| may(**piece) && self.may_ask_too(choice.peer, **piece));
        shared
            .map(|(piece, under_way)| (under_way.asked.len(), fastrand::u32(..), *piece))
            .min()
            .map(|(_, _, piece)| piece)
    }

    /// Returns the rank of a piece. The piece with the lowest rank is asked for first. The ranks follow the module's
    /// list. Equally rare own pieces go by their number, so that all hosts together get the blob roughly in order.
    /// Equally rare pieces of other hosts go by chance, so that not all hosts ask the same peer.
    fn rank(&self, choice: &Choice<'_>, piece: u32) -> (u32, u32, u32) {
        let own = choice.own.share(piece);
        let lacking = choice.rivals.iter().filter(|(_, has)| !has.contains(piece));
        let is_own = lacking.map(|(rival, _)| rival.share(piece)).all(|share| share < own);
        let availability = self.availability(piece);
        if is_own {
            return (0, availability, if choice.from_end { u32::MAX - piece } else { piece });
        }
        (1 + u32::from(availability <= choice.seeds), availability, fastrand::u32(..))
    }

    /// Returns whether this peer may be asked, too, for a piece that is under way.
    fn may_ask_too(&self, peer: PeerNumber, piece: u32) -> bool {
        !self.suspects.contains(&piece)
            && self.under_way.get(&piece).is_some_and(|under_way| {
                !under_way.is_whole && under_way.asked.len() < MAX_ASKED && !under_way.asked.contains(&peer)
            })
    }

    /// Returns whether this peer is proven, and no peer that was asked for the piece is proven. Without takeovers, one
    /// hostile peer after the other could hold up a piece by sending it slowly or wrong.
    fn may_take_over(&self, peer: PeerNumber, piece: u32) -> bool {
        self.proven.contains(&peer)
            && self.under_way.get(&piece).is_some_and(|under_way| {
                !under_way.is_whole && !under_way.asked.iter().any(|asked| self.proven.contains(asked))
            })
    }

    /// Returns the piece that the last choice took from other peers, and forgets it. The requests to these peers can be
    /// withdrawn.
    pub(super) fn taken_over(&mut self) -> Option<u32> {
        self.taken_over.take()
    }

    pub(super) fn prove(&mut self, peer: PeerNumber) {
        self.proven.insert(peer);
    }

    pub(super) fn is_proven(&self, peer: PeerNumber) -> bool {
        self.proven.contains(&peer)
    }

    /// Forgets a peer that is gone.
    pub(super) fn leave(&mut self, peer: PeerNumber, has: &PieceSet) {
        self.remove(has);
        self.release(peer);
        self.proven.remove(&peer);
    }

    /// Takes a block that a peer sent.
    pub(super) fn take(&mut self, giver: IpAddr, piece: u32, begin: u32, data: &[u8]) -> TakenBlock {
        let Some(under_way) = self.under_way.get_mut(&piece).filter(|under_way| !under_way.is_whole) else {
            return TakenBlock::Unwanted;
        };
        let block = begin / MAX_BLOCK;
        let rest = under_way.bytes.get_mut(begin as usize..).unwrap_or_default();
        let expected = rest.len().min(MAX_BLOCK as usize);
        let (space, _) = rest.split_at_mut(expected);
        if !begin.is_multiple_of(MAX_BLOCK) || data.len() != expected || !under_way.received.insert(block) {
            return TakenBlock::Unwanted;
        }
        // `space` and `data` both have the expected length, so this does not panic.
        space.copy_from_slice(data);
        if !under_way.givers.contains(&giver) {
            under_way.givers.push(giver);
        }
        if !under_way.received.is_complete() {
            return TakenBlock::Kept;
        }
        under_way.is_whole = true;
        TakenBlock::Completes {
            bytes: std::mem::take(&mut under_way.bytes),
            givers: std::mem::take(&mut under_way.givers),
            asked: std::mem::take(&mut under_way.asked),
        }
    }

    /// Marks a wrong piece. One peer alone must send it next.
    pub(super) fn suspect(&mut self, piece: u32) {
        self.suspects.insert(piece);
    }

    /// Throws away the pieces under way that have blocks from this host, because the host sent wrong bytes.
    pub(super) fn discard(&mut self, giver: IpAddr) {
        for under_way in self.under_way.values_mut().filter(|under_way| !under_way.is_whole) {
            if under_way.givers.contains(&giver) {
                under_way.begin_again();
            }
        }
    }

    /// Removes a piece from those under way. Returns the peers that may still deliver blocks of it.
    pub(super) fn forget(&mut self, piece: u32) -> Vec<PeerNumber> {
        self.under_way.remove(&piece).map(|under_way| under_way.asked).unwrap_or_default()
    }

    /// Records that a peer delivers no more blocks. The blocks that have come are kept, except those of a suspect
    /// piece, which one peer must send whole.
    pub(super) fn release(&mut self, peer: PeerNumber) {
        for under_way in self.under_way.values_mut() {
            under_way.asked.retain(|asked| *asked != peer);
        }
        let suspects = &self.suspects;
        self.under_way.retain(|piece, under_way| {
            let is_kept = under_way.received.count() > 0 && !suspects.contains(piece);
            under_way.is_whole || !under_way.asked.is_empty() || is_kept
        });
    }
}

impl PieceUnderWay {
    /// Throws away the blocks that have come.
    fn begin_again(&mut self) {
        self.givers.clear();
        self.received = PieceSet::empty(self.received.total());
        // The peers that were asked will not send the thrown-away blocks again, so other requests must follow.
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests;
