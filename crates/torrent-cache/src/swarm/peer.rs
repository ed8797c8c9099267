//! What is known of one connected peer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tracker_protocol::PeerId;

use super::outbox::PeerOutbox;
use super::picker::{PeerNumber, PieceClaimant};
use crate::peer_wire::{BlockRequest, PeerMessage, PieceSet};

/// A peer that was asked for blocks and has sent none for so long counts as slow. Its pieces are asked of others.
const SILENCE: Duration = Duration::from_millis(600);
/// A slow peer that has sent no block for so long is left.
const SLOW_FOR: Duration = Duration::from_secs(20);
/// A peer that has sent nothing at all for so long is left. Clients send something every two minutes.
const IDLE: Duration = Duration::from_secs(150);
/// After so long without a message to the peer a keep-alive is sent.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
/// A peer is asked for another piece when at most so many blocks are still to come from it: half of a piece.
const LOW_WATER: usize = 16;
/// So many blocks that this host has not asked for are a flood.
const MAX_UNWANTED: u32 = 512;
/// So much noise is a flood. Noise is messages of which a client needs a few a minute.
const MAX_NOISE: u32 = 1000;
/// A peer with less noise than this is answered at once.
const QUIET: u32 = 50;
/// So much noise is forgotten at each tick.
const NOISE_FORGOTTEN: u32 = 10;

/// One connected peer.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has these states, and each changes by itself")]
pub(super) struct ConnectedPeer {
    pub(super) number: PeerNumber,
    pub(super) id: PeerId,
    pub(super) claimant: PieceClaimant,
    /// The other end of the connection.
    pub(super) address: SocketAddr,
    /// Where it accepts connections, if that is known.
    pub(super) listens: Option<SocketAddr>,
    /// Whether we opened the connection.
    pub(super) is_dialled: bool,
    pub(super) has: PieceSet,
    /// Whether the first message has come, after which there is no bitfield.
    pub(super) has_spoken: bool,
    /// Whether it answers no requests.
    pub(super) is_choking: bool,
    /// Whether we told it that it has pieces that we lack.
    pub(super) is_interesting: bool,
    /// The blocks that it was asked for.
    pub(super) asked: HashSet<BlockRequest>,
    /// How many requests it keeps.
    pub(super) queue: usize,
    /// How many of the content's pieces it was told of.
    pub(super) told: usize,
    /// The id of messages with hashes of pieces, if it reads them.
    pub(super) reads_hashes: Option<NonZeroU8>,
    pub(super) out: Rc<PeerOutbox>,
    pub(super) is_slow: bool,
    last_block: Instant,
    last_heard: Instant,
    last_sent: Instant,
    unwanted: u32,
    noise: u32,
}

/// How a connection begins.
pub(super) struct NewPeer {
    pub(super) number: PeerNumber,
    pub(super) id: PeerId,
    pub(super) address: SocketAddr,
    pub(super) is_dialled: bool,
    pub(super) pieces: u32,
}

impl ConnectedPeer {
    pub(super) fn new(new: &NewPeer, now: Instant) -> Self {
        Self {
            number: new.number,
            id: new.id,
            claimant: PieceClaimant::new(&new.id),
            address: new.address,
            listens: new.is_dialled.then_some(new.address),
            is_dialled: new.is_dialled,
            has: PieceSet::empty(new.pieces),
            has_spoken: false,
            is_choking: true,
            is_interesting: false,
            asked: HashSet::new(),
            queue: 64,
            told: 0,
            reads_hashes: None,
            out: Rc::default(),
            is_slow: false,
            last_block: now,
            last_heard: now,
            last_sent: now,
            unwanted: 0,
            noise: 0,
        }
    }

    pub(super) fn send(&mut self, message: &PeerMessage, now: Instant) {
        self.last_sent = now;
        self.out.send(message);
    }

    /// Whether it may be asked for another piece.
    pub(super) fn has_room(&self) -> bool {
        !self.is_choking && !self.is_slow && self.asked.len() <= LOW_WATER.min(self.queue / 2)
    }

    /// Asks for blocks.
    pub(super) fn ask(&mut self, blocks: &[BlockRequest], now: Instant) {
        if self.asked.is_empty() {
            self.last_block = now;
        }
        for block in blocks {
            if self.asked.insert(*block) {
                self.send(&PeerMessage::Request(*block), now);
            }
        }
    }

    /// Withdraws the requests for a piece that came from elsewhere.
    pub(super) fn cancel(&mut self, piece: u32, now: Instant) {
        let gone: Vec<_> = self.asked.extract_if(|block| block.piece == piece).collect();
        for block in gone {
            self.send(&PeerMessage::Cancel(block), now);
        }
    }

    /// A block has come. Returns whether it was asked for. A peer is slow also if it sends other blocks.
    pub(super) fn delivered(&mut self, block: &BlockRequest, now: Instant) -> bool {
        let was_asked = self.asked.remove(block);
        if was_asked {
            self.last_block = now;
            self.is_slow = false;
        }
        was_asked
    }

    /// A block has come that is of no use. Returns whether these are too many.
    pub(super) fn is_flooding(&mut self) -> bool {
        self.unwanted += 1;
        self.unwanted > MAX_UNWANTED
    }

    /// A message has come that costs work and brings nothing. Returns whether there were too many.
    pub(super) fn is_noisy(&mut self, noise: u32) -> bool {
        self.noise = self.noise.saturating_add(noise);
        self.noise > MAX_NOISE
    }

    /// Whether it has sent few such messages of late.
    pub(super) fn is_quiet(&self) -> bool {
        self.noise < QUIET
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Looks at the time. Returns what follows from it.
    pub(super) fn tick(&mut self, now: Instant) -> PeerTick {
        let silence = now.duration_since(self.last_block);
        self.noise = self.noise.saturating_sub(NOISE_FORGOTTEN);
        if now.duration_since(self.last_heard) > IDLE || self.is_slow && silence > SLOW_FOR {
            return PeerTick::Leave;
        }
        if now.duration_since(self.last_sent) > KEEP_ALIVE {
            self.send(&PeerMessage::KeepAlive, now);
        }
        if !self.is_slow && !self.asked.is_empty() && silence > SILENCE {
            self.is_slow = true;
            return PeerTick::TurnedSlow;
        }
        PeerTick::Nothing
    }
}

/// What follows for a peer when time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerTick {
    Nothing,
    /// Its pieces are to be asked of others.
    TurnedSlow,
    /// The connection is to end.
    Leave,
}
