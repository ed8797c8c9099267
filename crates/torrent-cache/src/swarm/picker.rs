//! Which piece a peer is asked for, and the pieces that are under way.
//!
//! A peer is asked for whole pieces, one or two at a time. The piece that a client waits for comes first. Of the others, each
//! host first asks for those that are its *own*: by a hash of host and piece, each piece belongs to one of the hosts that
//! lack it. So several hosts fetch different pieces from one seed, which sends each piece once, and swap them. A host that has
//! its own pieces asks for what others have fetched, the rarest first, and only then for others' pieces that only
//! seeds have. A piece that is under way is asked of a second peer only in two cases: when all pieces that are missing are under
//! way, and when a client waits for it for too long. In the second case a peer that has given a right piece before takes the piece
//! over from peers that have given none.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tracker_protocol::PeerId;

use crate::peer_wire::{BlockRequest, MAX_BLOCK, PieceSet};

/// A piece that a client waits for is asked of a second peer after so long, or taken over by one.
const PATIENCE: Duration = Duration::from_millis(700);
/// A piece is asked of at most so many peers at once.
const MAX_ASKED: usize = 3;

/// At most so many pieces are compared, so that the choice takes less than a millisecond in the largest torrents.
const MAX_COMPARED: usize = 4096;

/// A host among those to which pieces belong: a hash of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceClaimant(u64);

impl PieceClaimant {
    pub(super) fn new(id: &PeerId) -> Self {
        // FNV-1a.
        Self(id.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
    }

    /// The host with the highest share gets the piece.
    fn share(self, piece: u32) -> u64 {
        let mixed = (self.0 ^ u64::from(piece)).wrapping_mul(PRIME);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The prime of FNV.
const PRIME: u64 = 0x0100_0000_01b3;

/// A connection, by a number that no other one of this torrent has.
pub(super) type PeerNumber = u64;

/// The pieces that are under way, and how many peers have each piece.
#[derive(Debug)]
pub(super) struct PiecePicker {
    availability: Vec<u32>,
    under_way: HashMap<u32, PieceUnderWay>,
    /// Pieces whose bytes were wrong and came from several peers. They are asked of one peer alone, so that it is known
    /// who sends wrong bytes.
    suspects: HashSet<u32>,
    /// Peers that have given a right piece.
    proven: HashSet<PeerNumber>,
    /// The piece that the last choice has taken from other peers.
    taken_over: Option<u32>,
}

#[derive(Debug)]
struct PieceUnderWay {
    bytes: Vec<u8>,
    /// The blocks that are there.
    received: PieceSet,
    /// The peers that were asked for it and may still deliver.
    asked: Vec<PeerNumber>,
    /// The hosts whose blocks are in it.
    givers: Vec<IpAddr>,
    /// Since when it has been held by the peers that were asked for it.
    begun: Instant,
    /// When a peer was asked for it last.
    since: Instant,
    /// All blocks are there and are being checked.
    is_whole: bool,
}

/// What is to be decided for one peer.
pub(super) struct Choice<'a> {
    /// The peer.
    pub peer: PeerNumber,
    /// What it has.
    pub has: &'a PieceSet,
    /// This host.
    pub own: PieceClaimant,
    /// The connected peers that have not got everything, each with what it has.
    pub rivals: &'a [(PieceClaimant, &'a PieceSet)],
    /// How many of the connected peers have everything.
    pub seeds: u32,
    /// Whether a piece may be asked of peers.
    pub may: &'a dyn Fn(u32) -> bool,
    /// The piece that a client waits for.
    pub head: Option<u32>,
    /// How many pieces are missing, those of unknown hash included.
    pub missing: u32,
    /// The present time.
    pub now: Instant,
    /// Whether there is memory for another piece.
    pub has_room: bool,
    /// Whether the host takes its own pieces from the blob's end on, because the upstream delivers the blob from its beginning on.
    /// Both would bring the same pieces otherwise.
    pub from_end: bool,
}

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TakenBlock {
    /// Its piece is not under way, or the block is there already.
    Unwanted,
    /// It is kept, and its piece is not complete.
    Kept,
    /// It completes its piece: the bytes, the hosts that gave them, and peers that were asked for the piece.
    Completes {
        /// The piece's bytes.
        bytes: Vec<u8>,
        /// The hosts that gave them.
        givers: Vec<IpAddr>,
        /// The peers that may still deliver blocks of it.
        asked: Vec<PeerNumber>,
    },
}

impl PiecePicker {
    /// For a torrent of so many pieces.
    pub(super) fn new(count: u32) -> Self {
        Self {
            availability: vec![0; count as usize],
            under_way: HashMap::new(),
            suspects: HashSet::new(),
            proven: HashSet::new(),
            taken_over: None,
        }
    }

    /// A peer has a piece.
    pub(super) fn add(&mut self, piece: u32) {
        if let Some(count) = self.availability.get_mut(piece as usize) {
            *count += 1;
        }
    }

    /// A peer that had these pieces has left.
    pub(super) fn remove(&mut self, has: &PieceSet) {
        for piece in has.iter() {
            if let Some(count) = self.availability.get_mut(piece as usize) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// How many peers have a piece.
    pub(super) fn availability(&self, piece: u32) -> u32 {
        self.availability.get(piece as usize).copied().unwrap_or_default()
    }

    /// Whether peers were asked for a piece and may still deliver it.
    pub(super) fn is_under_way(&self, piece: u32) -> bool {
        self.under_way.get(&piece).is_some_and(|under_way| under_way.is_whole || !under_way.asked.is_empty())
    }

    /// How many pieces have memory.
    pub(super) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Chooses a piece for a peer: its missing blocks. `length_of` tells how long a piece is.
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
        // Two peers that deliver the same piece meet in the middle.
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
                self.under_way.get(&head).is_some_and(|head| choice.now.duration_since(since(head)) >= PATIENCE)
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

    /// The lower, the sooner: first by whose piece it is, then by how many peers have it. A host gets its own pieces in order,
    /// so that all together get the blob roughly in order. Of others' pieces chance chooses among equally rare ones, so that not
    /// all ask the same host.
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

    /// Whether a piece that is under way may be asked of this peer as well.
    fn may_ask_too(&self, peer: PeerNumber, piece: u32) -> bool {
        !self.suspects.contains(&piece)
            && self.under_way.get(&piece).is_some_and(|under_way| {
                !under_way.is_whole && under_way.asked.len() < MAX_ASKED && !under_way.asked.contains(&peer)
            })
    }

    /// Whether this peer may be asked for all of a piece that only others have been asked for, because it has given a right
    /// piece and they have not. Else hostile peers could hold a piece by giving it slowly, or wrong, one after the other.
    fn may_take_over(&self, peer: PeerNumber, piece: u32) -> bool {
        self.proven.contains(&peer)
            && self.under_way.get(&piece).is_some_and(|under_way| {
                !under_way.is_whole && !under_way.asked.iter().any(|asked| self.proven.contains(asked))
            })
    }

    /// The piece that the last choice has taken from other peers, whose blocks of it are not wanted any more.
    pub(super) fn taken_over(&mut self) -> Option<u32> {
        self.taken_over.take()
    }

    /// A peer has given a right piece.
    pub(super) fn prove(&mut self, peer: PeerNumber) {
        self.proven.insert(peer);
    }

    /// A peer is gone.
    pub(super) fn leave(&mut self, peer: PeerNumber, has: &PieceSet) {
        self.remove(has);
        self.release(peer);
        self.proven.remove(&peer);
    }

    /// Takes a block.
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
        // Both have the expected length.
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

    /// The bytes of a piece were wrong, and several peers gave them.
    pub(super) fn suspect(&mut self, piece: u32) {
        self.suspects.insert(piece);
    }

    /// A host has sent wrong bytes. Pieces with blocks of it begin again.
    pub(super) fn discard(&mut self, giver: IpAddr) {
        for under_way in self.under_way.values_mut().filter(|under_way| !under_way.is_whole) {
            if under_way.givers.contains(&giver) {
                under_way.begin_again();
            }
        }
    }

    /// A piece is there, or its bytes were wrong, or the upstream has brought it: it is not under way any more. Returns the
    /// peers that may still deliver blocks of it.
    pub(super) fn forget(&mut self, piece: u32) -> Vec<PeerNumber> {
        self.under_way.remove(&piece).map(|under_way| under_way.asked).unwrap_or_default()
    }

    /// A peer delivers no more. What it has delivered is kept.
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
    /// Throws away what has come.
    fn begin_again(&mut self) {
        self.givers.clear();
        self.received = PieceSet::empty(self.received.total());
        // What was asked for before does not cover the blocks that are thrown away.
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests;
