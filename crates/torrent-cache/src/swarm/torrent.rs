//! One torrent: its peers, what is asked of them, and what they are told.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::Instant;
use tracker_protocol::{InfoHash, PeerId};

use super::content::{ContentProgress, PieceFault, PieceHash, SharedContent};
use super::counters::SwarmCounters;
use super::outbox::{MAX_QUEUE, PeerOutbox};
use super::peer::{ConnectedPeer, NewPeer, PeerTick};
use super::picker::{Choice, PeerNumber, PieceClaimant, PiecePicker, TakenBlock};
use super::turns::OfferTurns;
use crate::peer_wire::{
    BlockRequest, EXTENSION_HANDSHAKE_ID, ExtensionHandshake, NotAnExtensionHandshake, NotPieceHashes, PeerMessage,
    PeerMessageFault, PieceHashes,
};

/// The most connections of one torrent.
const MAX_PEERS: usize = 64;
/// The most bytes of pieces under way, of all torrents together.
const MAX_UNDER_WAY: u64 = 32 << 20;
/// A client that has waited for a piece for so long gets it next.
const LATE: Duration = Duration::from_millis(700);
/// Our id for messages with hashes of pieces.
const PIECE_HASHES_ID: NonZeroU8 = NonZeroU8::MIN;

/// What all torrents of a host share.
pub(super) struct OwnHost {
    pub(super) id: PeerId,
    /// The port on which peers reach this host.
    pub(super) port: u16,
    pub(super) counters: Arc<SwarmCounters>,
    /// Bytes of pieces under way.
    pub(super) under_way: Cell<u64>,
    /// Hosts that sent wrong pieces.
    pub(super) banned: RefCell<HashMap<IpAddr, Instant>>,
}

/// One torrent with its peers.
pub(super) struct SwarmTorrent {
    pub(super) info_hash: InfoHash,
    pub(super) content: Arc<SharedContent>,
    /// Whether hashes of pieces are told and learned, because there is no torrent file.
    is_forming: bool,
    host: Rc<OwnHost>,
    state: RefCell<TorrentState>,
    status: watch::Sender<SwarmStatus>,
}

struct TorrentState {
    peers: HashMap<PeerNumber, ConnectedPeer>,
    picker: PiecePicker,
    /// The host whose hashes of pieces are believed.
    leader: Option<SocketAddr>,
    next: PeerNumber,
    /// The first piece that is missing, and since when it is.
    head: (u32, Instant),
    turns: OfferTurns,
}

/// What the owner of a torrent sees of its swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmStatus {
    /// Connected peers.
    pub peers: usize,
    /// Connected peers that have pieces.
    pub sources: usize,
    /// Whether the leader is connected.
    pub has_leader: bool,
}

/// Why a connection ends.
#[derive(Debug, Error)]
pub(super) enum PeerFault {
    #[error(transparent)]
    Message(#[from] PeerMessageFault),
    #[error(transparent)]
    Extension(#[from] NotAnExtensionHandshake),
    #[error(transparent)]
    Hashes(#[from] NotPieceHashes),
    #[error("it asked for bytes outside of a piece, or of a piece that is not here")]
    Request,
    #[error("it asked for more than {MAX_QUEUE} blocks at once")]
    TooManyRequests,
    #[error("it sent blocks that were not asked for")]
    Flood,
    #[error("it sent a bitfield too late")]
    LateBitfield,
    #[error("there are enough peers")]
    Full,
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
            next: 0,
            head: (0, Instant::now()),
            turns: OfferTurns::default(),
        };
        let state = RefCell::new(state);
        let torrent = Rc::new(Self { info_hash, content, is_forming, host, state, status: watch::Sender::default() });
        torrent.watch_content();
        torrent
    }

    /// The state of the swarm, and when it changes.
    pub(super) fn status(&self) -> watch::Receiver<SwarmStatus> {
        self.status.subscribe()
    }

    /// How many peers are connected.
    pub(super) fn count(&self) -> usize {
        self.state.borrow().peers.len()
    }

    /// Whether a peer at this address, at which it accepts connections, is connected.
    pub(super) fn is_connected(&self, address: SocketAddr) -> bool {
        self.state.borrow().peers.values().any(|peer| peer.listens == Some(address))
    }

    /// Believes the hashes of the host at this address from now on, and asks it for those that it has told before.
    pub(super) fn set_leader(&self, leader: Option<SocketAddr>) {
        let mut state = self.state.borrow_mut();
        if state.leader == leader {
            return;
        }
        state.leader = leader;
        let now = Instant::now();
        let greeting = self.greeting();
        for peer in state.peers.values_mut().filter(|peer| leader.is_some() && peer.listens == leader) {
            peer.send(&greeting, now);
        }
        self.report(&state);
    }

    /// A peer has shaken hands. Returns its number and its outbox.
    ///
    /// Two hosts can dial each other at the same moment. Both then keep the connection that the host with the lower id
    /// has opened.
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
        if let Some(other) = state.peers.values().find(|peer| peer.id == id) {
            let is_ours_kept = self.host.id.0 < id.0;
            if other.is_dialled == is_dialled || is_dialled != is_ours_kept {
                return Err(PeerFault::Twice);
            }
            other.out.close();
        } else if state.peers.len() >= MAX_PEERS {
            return Err(PeerFault::Full);
        }
        let number = state.next;
        state.next += 1;
        let pieces = self.content.shape().count;
        let mut peer = ConnectedPeer::new(&NewPeer { number, id, address, is_dialled, pieces }, now);
        let (have, told) = self.content.have();
        peer.told = told;
        // The bitfield must be the first message. A peer without pieces may leave it out.
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

    /// What we say of ourselves (BEP 10).
    fn greeting(&self) -> PeerMessage {
        let handshake = ExtensionHandshake {
            piece_hashes: self.is_forming.then_some(PIECE_HASHES_ID),
            port: NonZeroU16::new(self.host.port),
            request_queue: u32::try_from(MAX_QUEUE).ok().and_then(std::num::NonZeroU32::new),
            client: Some(concat!("torrent-cache ", env!("CARGO_PKG_VERSION")).to_owned()),
        };
        PeerMessage::Extended { id: EXTENSION_HANDSHAKE_ID, payload: handshake.encode() }
    }

    /// The connection has ended.
    pub(super) fn leave(&self, number: PeerNumber) {
        let mut state = self.state.borrow_mut();
        let Some(peer) = state.peers.remove(&number) else { return };
        state.picker.remove(&peer.has);
        self.with_picker(&mut state, |picker| picker.release(number));
        self.host.counters.left();
        self.fill_all(&mut state);
        self.report(&state);
    }

    /// Takes a message of a peer.
    pub(super) fn receive(self: &Rc<Self>, number: PeerNumber, message: PeerMessage) -> Result<(), PeerFault> {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(peer) = state.peers.get_mut(&number) else { return Ok(()) };
        peer.heard(now);
        let is_first = !std::mem::replace(&mut peer.has_spoken, true);
        match message {
            PeerMessage::KeepAlive | PeerMessage::Interested | PeerMessage::NotInterested => {}
            PeerMessage::Choke => {
                peer.is_choking = true;
                peer.asked.clear();
                self.with_picker(state, |picker| picker.release(number));
                self.fill_all(state);
            }
            PeerMessage::Unchoke => {
                peer.is_choking = false;
                self.fill(state, number, now);
            }
            PeerMessage::Have(piece) => {
                if peer.has.insert(piece) {
                    state.picker.add(piece);
                    self.now_has(state, number, now);
                }
            }
            PeerMessage::Bitfield(has) => {
                // BEP 10 lets the extension handshake come first.
                if !is_first && peer.has.count() > 0 {
                    return Err(PeerFault::LateBitfield);
                }
                has.iter().for_each(|piece| state.picker.add(piece));
                peer.has = has;
                self.now_has(state, number, now);
            }
            PeerMessage::Request(block) => {
                let shape = self.content.shape();
                if !block.is_inside(shape.length_of(block.piece)) || !self.content.has(block.piece) {
                    return Err(PeerFault::Request);
                }
                if !peer.out.upload(block) {
                    return Err(PeerFault::TooManyRequests);
                }
            }
            PeerMessage::Cancel(block) => peer.out.cancel(&block),
            PeerMessage::Piece { piece, begin, data } => self.block(state, number, piece, begin, &data, now)?,
            PeerMessage::Extended { id, payload } => self.extended(state, number, id, &payload, now)?,
        }
        Ok(())
    }

    /// A peer has more pieces than before.
    fn now_has(&self, state: &mut TorrentState, number: PeerNumber, now: Instant) {
        let Some(peer) = state.peers.get_mut(&number) else { return };
        if self.content.is_complete() {
            // Two hosts that have everything have nothing to say to each other.
            if peer.has.is_complete() {
                peer.out.close();
            }
        } else if !peer.is_interesting {
            let (have, _) = self.content.have();
            if peer.has.iter().any(|piece| !have.contains(piece)) {
                peer.is_interesting = true;
                peer.send(&PeerMessage::Interested, now);
            }
        }
        self.fill(state, number, now);
        self.report(state);
    }

    fn extended(
        &self,
        state: &mut TorrentState,
        number: PeerNumber,
        id: u8,
        payload: &Bytes,
        now: Instant,
    ) -> Result<(), PeerFault> {
        let Some(peer) = state.peers.get_mut(&number) else { return Ok(()) };
        if id == EXTENSION_HANDSHAKE_ID {
            let handshake = ExtensionHandshake::decode(payload)?;
            if let Some(queue) = handshake.request_queue {
                peer.queue = (u32::from(queue) as usize).clamp(2, MAX_QUEUE);
            }
            if let (Some(port), None) = (handshake.port, peer.listens) {
                peer.listens = Some(SocketAddr::new(peer.address.ip(), port.into()));
            }
            peer.reads_hashes = handshake.piece_hashes.filter(|_| self.is_forming);
            tell_hashes(peer, &self.content.known_hashes(), now);
            self.report(state);
        } else if id == PIECE_HASHES_ID.get() && self.is_forming {
            let hashes = PieceHashes::decode(payload, self.content.shape().count)?;
            if state.leader.is_some() && peer.listens == state.leader {
                self.content.learn(hashes.iter());
            }
        }
        Ok(())
    }

    fn block(
        self: &Rc<Self>,
        state: &mut TorrentState,
        number: PeerNumber,
        piece: u32,
        begin: u32,
        data: &Bytes,
        now: Instant,
    ) -> Result<(), PeerFault> {
        let Some(peer) = state.peers.get_mut(&number) else { return Ok(()) };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let was_asked = peer.delivered(&BlockRequest { piece, begin, length }, now);
        let taken = match was_asked {
            true => state.picker.take(peer.address.ip(), piece, begin, data),
            false => TakenBlock::Unwanted,
        };
        match taken {
            TakenBlock::Kept => {}
            TakenBlock::Unwanted => {
                self.host.counters.wasted(length.into());
                if !was_asked && peer.is_flooding() {
                    return Err(PeerFault::Flood);
                }
            }
            TakenBlock::Completes { bytes, givers, asked } => {
                for peer in asked {
                    if let Some(peer) = state.peers.get_mut(&peer) {
                        peer.cancel(piece, now);
                    }
                }
                let torrent = Rc::clone(self);
                spawn_local(async move { torrent.check(piece, bytes, givers).await });
            }
        }
        self.fill(state, number, now);
        Ok(())
    }

    /// Checks a piece that is complete, and keeps it if it is right.
    async fn check(&self, piece: u32, bytes: Vec<u8>, givers: Vec<IpAddr>) {
        let content = Arc::clone(&self.content);
        let length = bytes.len() as u64;
        let put = spawn_blocking(move || content.put(piece, &bytes)).await;
        let mut state = self.state.borrow_mut();
        self.with_picker(&mut state, |picker| picker.forget(piece));
        match put {
            Ok(Ok(true)) => self.host.counters.received(length),
            Ok(Ok(false)) => self.host.counters.wasted(length),
            Ok(Err(PieceFault::Differs(piece))) => {
                log::warn!("{}: peers have another piece {piece} than the upstream", self.info_hash);
                self.content.distrust(piece);
            }
            Ok(Err(fault @ PieceFault::WrongHash(_))) => self.wrong(&mut state, piece, &givers, &fault),
            Ok(Err(PieceFault::Disk(error))) => {
                log::warn!("{}: a piece could not be written: {error}", self.info_hash);
                self.content.fail();
            }
            Err(_) => self.content.fail(),
        }
        self.fill_all(&mut state);
    }

    /// Somebody sent wrong bytes. If they came from one host, it is banned.
    fn wrong(&self, state: &mut TorrentState, piece: u32, givers: &[IpAddr], fault: &PieceFault) {
        self.host.counters.wrong();
        match givers {
            [giver] => {
                log::warn!("{}: {giver} is banned: {fault}", self.info_hash);
                self.host.banned.borrow_mut().insert(*giver, Instant::now());
                state.picker.discard(*giver);
                state.peers.values().filter(|peer| peer.address.ip() == *giver).for_each(|peer| peer.out.close());
            }
            _ => state.picker.suspect(piece),
        }
    }

    /// Asks a peer for pieces until it has enough to do.
    fn fill(&self, state: &mut TorrentState, number: PeerNumber, now: Instant) {
        let shape = self.content.shape();
        let progress = self.content.progress_now();
        let head = state.head(shape.piece_at(progress.prefix), now);
        loop {
            let Some(peer) = state.peers.get(&number).filter(|peer| peer.has_room()) else { return };
            // Until the client has its first byte, nothing else shares the link with the first piece.
            if progress.prefix == 0 && !peer.asked.is_empty() {
                return;
            }
            let before = state.picker.count();
            let rivals = state.peers.values().filter(|peer| !peer.has.is_complete());
            let rivals: Vec<_> = rivals.map(|peer| (peer.claimant, &peer.has)).collect();
            let requests = self.content.choose(|may| {
                let choice = Choice {
                    peer: number,
                    has: &peer.has,
                    own: PieceClaimant::new(&self.host.id),
                    rivals: &rivals,
                    seeds: u32::try_from(state.peers.len() - rivals.len()).unwrap_or(u32::MAX),
                    may,
                    head,
                    missing: shape.count - progress.pieces,
                    now,
                    has_room: self.host.under_way.get() < MAX_UNDER_WAY,
                };
                state.picker.pick(&choice, |piece| shape.length_of(piece))
            });
            self.account(before, state.picker.count());
            let Some(peer) = state.peers.get_mut(&number).filter(|_| !requests.is_empty()) else { return };
            peer.ask(&requests, now);
        }
    }

    fn fill_all(&self, state: &mut TorrentState) {
        let now = Instant::now();
        let mut numbers: Vec<_> = state.peers.keys().copied().collect();
        fastrand::shuffle(&mut numbers);
        for number in numbers {
            self.fill(state, number, now);
        }
    }

    fn with_picker<T>(&self, state: &mut TorrentState, work: impl FnOnce(&mut PiecePicker) -> T) -> T {
        let before = state.picker.count();
        let result = work(&mut state.picker);
        self.account(before, state.picker.count());
        result
    }

    /// Counts the memory of pieces under way.
    fn account(&self, before: usize, after: usize) {
        let bytes = |count: usize| count as u64 * u64::from(self.content.shape().piece_length);
        let under_way = &self.host.under_way;
        under_way.set((under_way.get() + bytes(after)).saturating_sub(bytes(before)));
    }

    /// Tells peers of each piece that comes, and asks for what can be asked for now.
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

    fn spread(&self) {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let least = state.peers.values().map(|peer| peer.told).min().unwrap_or_default();
        let new = self.content.since(least);
        for (piece, _) in &new {
            // The upstream may have brought a piece that peers were asked for.
            for asked in self.with_picker(state, |picker| picker.forget(*piece)) {
                if let Some(peer) = state.peers.get_mut(&asked) {
                    peer.cancel(*piece, now);
                }
            }
        }
        let is_complete = self.content.is_complete();
        for (piece, _) in &new {
            // No peer has it, so it came from the upstream.
            if !is_complete && state.picker.availability(*piece) == 0 {
                let peers = state.peers.values().filter(|peer| !peer.is_slow).map(|peer| peer.number);
                state.turns.choose(*piece, peers, now);
            }
        }
        for peer in state.peers.values_mut() {
            let untold = new.get(peer.told - least..).unwrap_or_default();
            tell_hashes(peer, untold, now);
            for (piece, _) in untold {
                if state.turns.of(*piece).is_none_or(|turn| turn == peer.number) {
                    peer.send(&PeerMessage::Have(*piece), now);
                }
            }
            peer.told = least + new.len();
            if is_complete && peer.is_interesting {
                peer.is_interesting = false;
                peer.send(&PeerMessage::NotInterested, now);
            }
            if is_complete && peer.has.is_complete() {
                peer.out.close();
            }
        }
        self.end_turns(state, is_complete, now);
        self.fill_all(state);
    }

    /// Offers to all peers what was offered to one long enough.
    fn end_turns(&self, state: &mut TorrentState, all: bool, now: Instant) {
        let peers = &mut state.peers;
        for (piece, turn) in state.turns.end(now, |peer| !peers.contains_key(&peer), all) {
            for peer in peers.values_mut().filter(|peer| peer.number != turn && !peer.has.contains(piece)) {
                peer.send(&PeerMessage::Have(piece), now);
            }
        }
    }

    /// Lets time pass. Must be called ten times a second.
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
        for number in slow {
            self.with_picker(&mut state, |picker| picker.release(number));
        }
        self.end_turns(&mut state, false, now);
        self.fill_all(&mut state);
    }

    /// Claims a piece for the upstream: the first that no peer has and that is not under way. With `anything`, one that
    /// peers have is better than none. Returns where its first byte is that is not there.
    pub(super) fn claim(&self, anything: bool) -> Option<u64> {
        let state = self.state.borrow();
        let (have, _) = self.content.have();
        let idle = || have.missing().filter(|piece| !state.picker.is_under_way(*piece));
        let rare = idle().find(|piece| state.picker.availability(*piece) == 0);
        let chosen = rare.or_else(|| idle().next().filter(|_| anything));
        chosen.and_then(|piece| self.content.claim(piece))
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        self.state.borrow().peers.values().for_each(|peer| peer.out.close());
    }

    pub(super) fn counters(&self) -> &SwarmCounters {
        &self.host.counters
    }

    fn report(&self, state: &TorrentState) {
        // A leader that has started again has nothing, so it does not lead any more.
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

impl TorrentState {
    /// The piece that a client waits for, if it comes before rarer ones: the first of the blob, one that several peers
    /// have, or one that is late. If every host asked for the next piece of the stream first, all of them would ask the
    /// same peer for the same piece, and could give each other nothing.
    fn head(&mut self, piece: u32, now: Instant) -> Option<u32> {
        if self.head.0 != piece {
            self.head = (piece, now);
        }
        let is_late = now.duration_since(self.head.1) >= LATE;
        (piece == 0 || is_late || self.picker.availability(piece) > 1).then_some(piece)
    }
}

/// Tells a peer hashes of pieces, if it reads them.
fn tell_hashes(peer: &mut ConnectedPeer, pieces: &[(u32, Option<PieceHash>)], now: Instant) {
    let Some(id) = peer.reads_hashes else { return };
    let known: Vec<_> = pieces.iter().filter_map(|(piece, hash)| Some((*piece, (*hash)?))).collect();
    for run in known.chunk_by(|(before, _), (after, _)| before + 1 == *after) {
        let Some((first, _)) = run.first() else { continue };
        let hashes: Vec<_> = run.iter().map(|(_, hash)| *hash).collect();
        for message in PieceHashes::split(*first, &hashes) {
            peer.send(&PeerMessage::Extended { id: id.get(), payload: message.encode() }, now);
        }
    }
}

impl Drop for SwarmTorrent {
    fn drop(&mut self) {
        self.account(self.state.borrow().picker.count(), 0);
    }
}
