//! What this host knows of one connected peer.

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

/// A peer that sends none of the requested blocks for this long is slow. Other peers are then asked for its pieces.
const SILENCE: Duration = Duration::from_millis(600);
/// The connection ends when a slow peer has sent no requested block for this long.
const SLOW_FOR: Duration = Duration::from_secs(20);
/// The connection ends when the peer has sent nothing at all for this long. Clients send something every two minutes.
const IDLE: Duration = Duration::from_secs(150);
/// A keep-alive is sent after this long without a message to the peer.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
/// A peer is asked for another piece once at most this many requested blocks (half of a piece) are outstanding.
const LOW_WATER: usize = 16;
/// The same limit for a peer that runs another program and has delivered a right piece. Some programs answer requests
/// only now and then: Transmission does so each half second.
const LOW_WATER_OF_OTHERS: usize = 128;
/// The most blocks that a peer may send without a request. If the peer sends more, the connection ends.
const MAX_UNWANTED: u32 = 512;
/// The most noise that a peer may make. If the peer makes more, the connection ends. Noise counts messages that clients
/// need only a few times a minute.
const MAX_NOISE: u32 = 1000;
/// A peer with less noise than this gets requests as soon as it unchokes this host. Other peers wait for the next tick.
const QUIET: u32 = 50;
/// How much noise each tick forgives.
const NOISE_FORGOTTEN: u32 = 10;

/// One connected peer.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has these states, and each changes by itself")]
pub(super) struct ConnectedPeer {
    pub(super) number: PeerNumber,
    pub(super) id: PeerId,
    pub(super) claimant: PieceClaimant,
    /// The peer's end of the connection.
    pub(super) address: SocketAddr,
    /// The address at which the peer accepts connections, if known.
    pub(super) listens: Option<SocketAddr>,
    /// Whether this host opened the connection.
    pub(super) is_dialled: bool,
    pub(super) has: PieceSet,
    /// Whether the peer has sent a message. After its first message, a bitfield is refused if the peer has announced
    /// pieces.
    pub(super) has_spoken: bool,
    /// Whether the peer chokes this host. A choking peer answers no requests.
    pub(super) is_choking: bool,
    /// Whether this host has sent "interested", because the peer has pieces that this host lacks.
    pub(super) is_interesting: bool,
    /// The blocks that were requested from the peer and have not come.
    pub(super) asked: HashSet<BlockRequest>,
    /// How many requests the peer keeps while they wait (`reqq`).
    pub(super) queue: usize,
    /// How many pieces, in the order of `SharedContent::since`, this host has told the peer of, or has first offered to
    /// another peer.
    pub(super) told: usize,
    /// The id that the peer chose for messages with piece hashes. `None` if the peer does not read them.
    pub(super) reads_hashes: Option<NonZeroU8>,
    /// Whether the peer's program is torrent-cache too.
    pub(super) is_torrent_cache: bool,
    pub(super) out: Rc<PeerOutbox>,
    pub(super) is_slow: bool,
    last_block: Instant,
    last_heard: Instant,
    last_sent: Instant,
    unwanted: u32,
    noise: u32,
}

/// What is known of a peer when its connection begins.
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
            is_torrent_cache: false,
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

    /// Returns whether the peer may be asked for another piece.
    ///
    /// `is_proven` tells whether the peer has delivered a right piece.
    pub(super) fn has_room(&self, is_proven: bool) -> bool {
        let low_water = if is_proven && !self.is_torrent_cache { LOW_WATER_OF_OTHERS } else { LOW_WATER };
        !self.is_choking && !self.is_slow && self.asked.len() <= low_water.min(self.queue / 2)
    }

    /// Requests blocks from the peer.
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

    /// Withdraws the requests for a piece that the peer need not deliver any more.
    pub(super) fn cancel(&mut self, piece: u32, now: Instant) {
        let gone: Vec<_> = self.asked.extract_if(|block| block.piece == piece).collect();
        for block in gone {
            self.send(&PeerMessage::Cancel(block), now);
        }
    }

    /// Records a block that has come. Returns whether the block was requested. A requested block ends the peer's
    /// slowness. Any other block does not.
    pub(super) fn delivered(&mut self, block: &BlockRequest, now: Instant) -> bool {
        let was_asked = self.asked.remove(block);
        if was_asked {
            self.last_block = now;
            self.is_slow = false;
        }
        was_asked
    }

    /// Counts a block that this host did not request. Returns whether the peer has sent too many such blocks.
    pub(super) fn is_flooding(&mut self) -> bool {
        self.unwanted += 1;
        self.unwanted > MAX_UNWANTED
    }

    /// Counts the noise of a message. Returns whether the peer has made too much noise.
    pub(super) fn is_noisy(&mut self, noise: u32) -> bool {
        self.noise = self.noise.saturating_add(noise);
        self.noise > MAX_NOISE
    }

    /// Returns whether the peer has made little noise lately.
    pub(super) fn is_quiet(&self) -> bool {
        self.noise < QUIET
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Finds out whether the peer is slow or silent. Sends a keep-alive when one is due.
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

/// What follows from [`ConnectedPeer::tick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerTick {
    Nothing,
    /// The peer has become slow, so other peers are to be asked for its pieces.
    TurnedSlow,
    /// The connection is to end.
    Leave,
}
