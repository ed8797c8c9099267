//! One torrent: its peers, what is asked of them, and what they are told.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::Instant;
use tracker_protocol::{InfoHash, PeerId};

use super::content::{ContentProgress, SharedContent};
use super::counters::SwarmCounters;
use super::outbox::{MAX_QUEUE, PeerOutbox};
use super::peer::{ConnectedPeer, NewPeer, PeerTick};
use super::picker::{PeerNumber, PiecePicker};
use super::turns::OfferTurns;
use crate::peer_wire::{
    EXTENSION_HANDSHAKE_ID, ExtensionHandshake, NotAnExtensionHandshake, NotPieceHashes, PeerMessage, PeerMessageFault,
};

const MAX_PEERS: usize = 64;
/// The most connections of one torrent with one IP address, so that one host cannot take all places. More than one is
/// allowed, because several programs on one host can be peers.
const MAX_PEERS_OF_HOST: usize = 8;
/// The id that this host chose for messages with piece hashes (BEP 10).
pub(super) const PIECE_HASHES_ID: NonZeroU8 = NonZeroU8::MIN;

/// What all torrents of this host share.
pub(super) struct OwnHost {
    pub(super) id: PeerId,
    /// The port on which peers reach this host.
    pub(super) port: u16,
    pub(super) counters: Arc<SwarmCounters>,
    /// Bytes of memory for pieces under way, of all torrents together.
    pub(super) under_way: Cell<u64>,
    /// Banned hosts, and when each was banned.
    pub(super) banned: RefCell<HashMap<IpAddr, Instant>>,
}

/// How this program begins its name in the extension handshake.
pub(super) const OWN_NAME: &str = "torrent-cache";

pub(super) struct SwarmTorrent {
    pub(super) info_hash: InfoHash,
    pub(super) content: Arc<SharedContent>,
    /// Whether the blob has no torrent file yet, so that hosts send each other piece hashes.
    pub(super) is_forming: bool,
    pub(super) host: Rc<OwnHost>,
    pub(super) state: RefCell<TorrentState>,
    status: watch::Sender<SwarmStatus>,
}

pub(super) struct TorrentState {
    pub(super) peers: HashMap<PeerNumber, ConnectedPeer>,
    pub(super) picker: PiecePicker,
    /// The leader, the only host whose piece hashes are believed.
    pub(super) leader: Option<SocketAddr>,
    /// Hosts whose bytes do not match the leader's piece hashes. The hashes may be wrong, and not the bytes. So these
    /// hosts are not banned, but only refused until the leader changes.
    pub(super) doubted: HashSet<IpAddr>,
    pub(super) next: PeerNumber,
    /// The first missing piece, and since when it has been the first.
    pub(super) head: (u32, Instant),
    /// Whether some peer has sent wrong bytes, or no bytes in time. Then a peer that has not delivered a right piece is
    /// not asked first for the piece that a client waits for, as long as a proven peer can deliver that piece.
    pub(super) is_wary: bool,
    pub(super) turns: OfferTurns,
}

/// What the owner of a torrent sees of its swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmStatus {
    /// Connected peers.
    pub peers: usize,
    /// Connected peers that have pieces.
    pub sources: usize,
    /// Whether the leader is connected. Once this host has pieces, a leader without pieces does not count.
    pub has_leader: bool,
}

/// Why a connection to a peer is refused or ended.
#[derive(Debug, Error)]
pub(super) enum PeerFault {
    #[error(transparent)]
    Message(#[from] PeerMessageFault),
    #[error(transparent)]
    Extension(#[from] NotAnExtensionHandshake),
    #[error(transparent)]
    Hashes(#[from] NotPieceHashes),
    #[error(
        "it requested a block that is too long, that is outside of its piece, or whose piece this host does not have"
    )]
    Request,
    #[error("it asked for more than {MAX_QUEUE} blocks at once")]
    TooManyRequests,
    #[error("it sent blocks that were not asked for")]
    Flood,
    #[error("it sent too many messages that say nothing new")]
    Noise,
    #[error("it sent a bitfield too late")]
    LateBitfield,
    #[error("the torrent has no place for another peer, or for another peer with this address")]
    Full,
    #[error("it has sent bytes that do not match the leader's piece hashes")]
    Doubted,
    #[error("it is connected already, or it is this host")]
    Twice,
}

impl SwarmTorrent {
    pub(super) fn new(
        info_hash: InfoHash,
        content: Arc<SharedContent>,
        is_forming: bool,
        host: Rc<OwnHost>,
    ) -> Rc<Self> {
        let picker = PiecePicker::new(content.shape().count);
        let state = TorrentState {
            peers: HashMap::new(),
            picker,
            leader: None,
            doubted: HashSet::new(),
            next: 0,
            head: (0, Instant::now()),
            is_wary: false,
            turns: OfferTurns::default(),
        };
        let state = RefCell::new(state);
        let torrent = Rc::new(Self { info_hash, content, is_forming, host, state, status: watch::Sender::default() });
        torrent.watch_content();
        torrent
    }

    /// Returns a receiver of the swarm's state, which notices each change.
    pub(super) fn status(&self) -> watch::Receiver<SwarmStatus> {
        self.status.subscribe()
    }

    /// Returns how many peers are connected.
    pub(super) fn count(&self) -> usize {
        self.state.borrow().peers.len()
    }

    /// Returns whether a peer is connected that accepts connections at this address.
    pub(super) fn is_connected(&self, address: SocketAddr) -> bool {
        self.state.borrow().peers.values().any(|peer| peer.listens == Some(address))
    }

    /// Sets the leader, whose piece hashes are believed. Sends a connected leader another extension handshake, which
    /// peers answer with all hashes that they know.
    pub(super) fn set_leader(&self, leader: Option<SocketAddr>) {
        let mut state = self.state.borrow_mut();
        if state.leader == leader {
            return;
        }
        state.leader = leader;
        state.doubted.clear();
        let now = Instant::now();
        let greeting = self.greeting();
        for peer in state.peers.values_mut().filter(|peer| leader.is_some() && peer.listens == leader) {
            peer.send(&greeting, now);
        }
        self.report(&state);
    }

    /// Adds a peer after the handshakes. Returns its number and its outbox.
    ///
    /// When two hosts dial each other at once, both keep the connection that the host with the lower peer id opened.
    pub(super) fn join(
        &self,
        id: PeerId,
        address: SocketAddr,
        is_dialled: bool,
        has_extensions: bool,
    ) -> Result<(PeerNumber, Rc<PeerOutbox>), PeerFault> {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        if id == self.host.id {
            return Err(PeerFault::Twice);
        }
        if state.doubted.contains(&address.ip()) {
            return Err(PeerFault::Doubted);
        }
        // The address must match too. Otherwise a host could use another host's peer id to keep that host away.
        let is_same = |peer: &&ConnectedPeer| peer.id == id && peer.address.ip() == address.ip();
        let of_host = state.peers.values().filter(|peer| peer.address.ip() == address.ip()).count();
        if let Some(other) = state.peers.values().find(is_same) {
            let is_ours_kept = self.host.id.0 < id.0;
            if other.is_dialled == is_dialled || is_dialled != is_ours_kept {
                return Err(PeerFault::Twice);
            }
            other.out.close();
        } else if state.peers.len() >= MAX_PEERS || of_host >= MAX_PEERS_OF_HOST {
            return Err(PeerFault::Full);
        }
        let number = state.next;
        state.next += 1;
        let pieces = self.content.shape().count;
        let mut peer = ConnectedPeer::new(&NewPeer { number, id, address, is_dialled, pieces }, now);
        let (have, told) = self.content.have();
        peer.told = told;
        // The bitfield must be the first message. Without pieces it can be left out.
        if have.count() > 0 {
            peer.send(&PeerMessage::Bitfield(have), now);
        }
        if has_extensions {
            peer.send(&self.greeting(), now);
        }
        peer.send(&PeerMessage::Unchoke, now);
        let out = Rc::clone(&peer.out);
        state.peers.insert(number, peer);
        self.host.counters.joined();
        self.report(&state);
        Ok((number, out))
    }

    /// Returns the extension handshake of this host (BEP 10).
    fn greeting(&self) -> PeerMessage {
        let handshake = ExtensionHandshake {
            piece_hashes: self.is_forming.then_some(PIECE_HASHES_ID),
            port: NonZeroU16::new(self.host.port),
            request_queue: u32::try_from(MAX_QUEUE).ok().and_then(std::num::NonZeroU32::new),
            client: Some(format!("{OWN_NAME} {}", env!("CARGO_PKG_VERSION"))),
        };
        PeerMessage::Extended { id: EXTENSION_HANDSHAKE_ID, payload: handshake.encode() }
    }

    /// Removes a peer whose connection has ended.
    pub(super) fn leave(&self, number: PeerNumber) {
        let mut state = self.state.borrow_mut();
        let Some(peer) = state.peers.remove(&number) else { return };
        self.with_picker(&mut state, |picker| picker.leave(number, &peer.has));
        self.host.counters.left();
        self.fill_all(&mut state);
        self.report(&state);
    }

    pub(super) fn with_picker<T>(&self, state: &mut TorrentState, work: impl FnOnce(&mut PiecePicker) -> T) -> T {
        let before = state.picker.count();
        let result = work(&mut state.picker);
        self.account(before, state.picker.count());
        result
    }

    /// Updates the memory for pieces under way after their number has changed from `before` to `after`.
    pub(super) fn account(&self, before: usize, after: usize) {
        let bytes = |count: usize| count as u64 * u64::from(self.content.shape().piece_length);
        let under_way = &self.host.under_way;
        under_way.set((under_way.get() + bytes(after)).saturating_sub(bytes(before)));
    }

    /// Starts a task that calls [`Self::spread`] when new pieces or piece hashes have come.
    fn watch_content(self: &Rc<Self>) {
        let (torrent, mut progress) = (Rc::downgrade(self), self.content.progress());
        spawn_local(async move {
            let mut seen = ContentProgress::default();
            while progress.changed().await.is_ok() {
                let Some(torrent) = torrent.upgrade() else { return };
                let now = *progress.borrow_and_update();
                if (now.pieces, now.hashes) != (seen.pieces, seen.hashes) {
                    seen = now;
                    torrent.spread();
                }
            }
        });
    }

    /// Finds slow and silent peers, ends turns, and asks for pieces. Must be called ten times a second.
    pub(super) fn tick(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        let mut slow = Vec::new();
        for peer in state.peers.values_mut() {
            match peer.tick(now) {
                PeerTick::Nothing => {}
                PeerTick::TurnedSlow => slow.push(peer.number),
                PeerTick::Leave => peer.out.close(),
            }
        }
        state.is_wary |= slow.iter().any(|number| !state.picker.is_proven(*number));
        for number in slow {
            self.with_picker(&mut state, |picker| picker.release(number));
        }
        Self::end_turns(&mut state, false, now);
        self.fill_all(&mut state);
    }

    /// Claims for the upstream the first piece that is not under way and that no peer can deliver. Without such a
    /// piece, `anything` allows the first piece that is not under way. Returns the offset in the blob of the claimed
    /// piece's first missing byte.
    pub(super) fn claim(&self, anything: bool) -> Option<u64> {
        let state = self.state.borrow();
        let (have, _) = self.content.have();
        let idle = || have.missing().filter(|piece| !state.picker.is_under_way(*piece));
        // A piece whose hash is not known cannot come from peers, because nothing verifies it.
        let rare =
            self.content.choose(|may, _| idle().find(|piece| state.picker.availability(*piece) == 0 || !may(*piece)));
        let chosen = rare.or_else(|| idle().next().filter(|_| anything));
        chosen.and_then(|piece| self.content.claim(piece))
    }

    pub(super) fn close(&self) {
        self.state.borrow().peers.values().for_each(|peer| peer.out.close());
    }

    pub(super) fn counters(&self) -> &SwarmCounters {
        &self.host.counters
    }

    pub(super) fn report(&self, state: &TorrentState) {
        // A leader that lost its pieces in a restart does not lead any more.
        let has_begun = self.content.progress_now().pieces > 0;
        let is_leading = |peer: &ConnectedPeer| peer.listens == state.leader && (peer.has.count() > 0 || !has_begun);
        let status = SwarmStatus {
            peers: state.peers.len(),
            sources: state.peers.values().filter(|peer| peer.has.count() > 0).count(),
            has_leader: state.leader.is_some() && state.peers.values().any(is_leading),
        };
        self.status.send_if_modified(|before| std::mem::replace(before, status) != status);
    }
}

impl Drop for SwarmTorrent {
    fn drop(&mut self) {
        self.account(self.state.borrow().picker.count(), 0);
    }
}
