//! How a torrent handles messages of peers, requests pieces from peers, and announces pieces to them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::Instant;

use super::content::{PieceFault, PieceHash};
use super::outbox::MAX_QUEUE;
use super::peer::ConnectedPeer;
use super::picker::{Choice, PeerNumber, PieceClaimant, TakenBlock};
use super::torrent::{OWN_NAME, PIECE_HASHES_ID, PeerFault, SwarmTorrent, TorrentState};
use crate::peer_wire::{BlockRequest, EXTENSION_HANDSHAKE_ID, ExtensionHandshake, PeerMessage, PieceHashes, PieceSet};

/// The most bytes of pieces under way, of all torrents together.
const MAX_UNDER_WAY: u64 = 32 << 20;
/// When a client has waited this long for a piece, the piece is requested before all others.
const LATE: Duration = Duration::from_millis(700);

impl SwarmTorrent {
    /// Handles a message from a peer.
    pub(super) fn receive(self: &Rc<Self>, number: PeerNumber, message: PeerMessage) -> Result<(), PeerFault> {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(peer) = state.peers.get_mut(&number) else { return Ok(()) };
        peer.heard(now);
        let is_first = !std::mem::replace(&mut peer.has_spoken, true);
        if peer.is_noisy(noise(&message, &peer.has)) {
            return Err(PeerFault::Noise);
        }
        match message {
            PeerMessage::KeepAlive | PeerMessage::Interested | PeerMessage::NotInterested => {}
            PeerMessage::Choke => {
                peer.is_choking = true;
                peer.asked.clear();
                // Other peers are asked only at the next tick. Otherwise a peer that chokes again and again would keep
                // this host busy.
                self.with_picker(state, |picker| picker.release(number));
            }
            PeerMessage::Unchoke => {
                peer.is_choking = false;
                if peer.is_quiet() {
                    self.fill(state, number, now);
                }
            }
            PeerMessage::Have(piece) => {
                if peer.has.insert(piece) {
                    state.picker.add(piece);
                    self.now_has(state, number, now);
                }
            }
            PeerMessage::Bitfield(has) => {
                // BEP 10 lets the extension handshake come before the bitfield.
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

    /// Shows interest in a peer that has more pieces than before, and requests pieces from it.
    fn now_has(&self, state: &mut TorrentState, number: PeerNumber, now: Instant) {
        let Some(peer) = state.peers.get_mut(&number) else { return };
        if self.content.is_complete() {
            // Two hosts that have all pieces need nothing from each other.
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
            peer.is_torrent_cache = handshake.client.is_some_and(|client| client.starts_with(OWN_NAME));
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
        if !peer.delivered(&BlockRequest { piece, begin, length }, now) {
            self.host.counters.wasted(length.into());
            return if peer.is_flooding() { Err(PeerFault::Flood) } else { Ok(()) };
        }
        match state.picker.take(peer.address.ip(), piece, begin, data) {
            TakenBlock::Kept => {}
            TakenBlock::Unwanted => self.host.counters.wasted(length.into()),
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

    /// Verifies a piece whose blocks have all come, and stores the piece if its hash is right.
    async fn check(&self, piece: u32, bytes: Vec<u8>, givers: Vec<IpAddr>) {
        let content = Arc::clone(&self.content);
        let length = bytes.len() as u64;
        let put = spawn_blocking(move || content.put(piece, &bytes)).await;
        let mut state = self.state.borrow_mut();
        self.with_picker(&mut state, |picker| picker.forget(piece));
        match put {
            Ok(Ok(true)) => {
                self.host.counters.received(length);
                state.prove(&givers);
            }
            Ok(Ok(false)) => self.host.counters.wasted(length),
            Ok(Err(PieceFault::Differs(piece))) => {
                log::warn!(
                    "{}: piece {piece} from peers differs from the upstream's bytes; no peer is asked for this piece any more",
                    self.info_hash
                );
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

    /// Handles a wrong piece. If one host sent the whole piece, bans or doubts the host and ends its connections.
    /// Unless a host was banned, one peer alone is asked for the piece next time.
    fn wrong(&self, state: &mut TorrentState, piece: u32, givers: &[IpAddr], fault: &PieceFault) {
        self.host.counters.wrong();
        state.is_wary = true;
        let leader = state.leader.map(|leader| leader.ip());
        match givers {
            // The leader's hash can be wrong instead of the host's bytes. So the host is not banned, but only refused
            // until the leader changes.
            [giver] if self.is_forming && leader != Some(*giver) => {
                state.picker.suspect(piece);
                state.picker.discard(*giver);
                state.doubted.insert(*giver);
                state.peers.values().filter(|peer| peer.address.ip() == *giver).for_each(|peer| peer.out.close());
            }
            [giver] => {
                log::warn!("{}: {giver} is banned for ten minutes: {fault}", self.info_hash);
                self.host.banned.borrow_mut().insert(*giver, Instant::now());
                state.picker.discard(*giver);
                state.peers.values().filter(|peer| peer.address.ip() == *giver).for_each(|peer| peer.out.close());
            }
            _ => state.picker.suspect(piece),
        }
    }

    /// Requests pieces from a peer until it has enough requests.
    fn fill(&self, state: &mut TorrentState, number: PeerNumber, now: Instant) {
        let shape = self.content.shape();
        let progress = self.content.progress_now();
        let head = state.head(shape.piece_at(progress.prefix), now);
        let is_stranger = state.is_stranger(number, shape.piece_at(progress.prefix));
        loop {
            let Some(peer) = state.peers.get(&number).filter(|peer| peer.has_room(state.picker.is_proven(number)))
            else {
                return;
            };
            // The first piece has the link for itself, so that the client gets its first byte early.
            if progress.prefix == 0 && !peer.asked.is_empty() {
                return;
            }
            let before = state.picker.count();
            let rivals = state.peers.values().filter(|peer| !peer.has.is_complete());
            let rivals: Vec<_> = rivals.map(|peer| (peer.claimant, &peer.has)).collect();
            let requests = self.content.choose(|may, has_claim| {
                let choice = Choice {
                    peer: number,
                    has: &peer.has,
                    own: PieceClaimant::new(&self.host.id),
                    rivals: &rivals,
                    seeds: u32::try_from(state.peers.len() - rivals.len()).unwrap_or(u32::MAX),
                    may,
                    head: head.filter(|_| !is_stranger),
                    missing: shape.count - progress.pieces,
                    now,
                    has_room: self.host.under_way.get() < MAX_UNDER_WAY,
                    from_end: has_claim || is_stranger,
                };
                state.picker.pick(&choice, |piece| shape.length_of(piece))
            });
            self.account(before, state.picker.count());
            if let Some(piece) = state.picker.taken_over() {
                state.peers.values_mut().for_each(|peer| peer.cancel(piece, now));
            }
            let Some(peer) = state.peers.get_mut(&number).filter(|_| !requests.is_empty()) else { return };
            peer.ask(&requests, now);
        }
    }

    pub(super) fn fill_all(&self, state: &mut TorrentState) {
        let now = Instant::now();
        let mut numbers: Vec<_> = state.peers.keys().copied().collect();
        fastrand::shuffle(&mut numbers);
        for number in numbers {
            self.fill(state, number, now);
        }
    }

    /// Announces new pieces to peers, withdraws requests for these pieces, and requests others.
    pub(super) fn spread(&self) {
        let now = Instant::now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let least = state.peers.values().map(|peer| peer.told).min().unwrap_or_default();
        let new = self.content.since(least);
        for (piece, _) in &new {
            // The upstream may have delivered a piece that was requested from peers.
            for asked in self.with_picker(state, |picker| picker.forget(*piece)) {
                if let Some(peer) = state.peers.get_mut(&asked) {
                    peer.cancel(*piece, now);
                }
            }
        }
        let is_complete = self.content.is_complete();
        for (piece, _) in &new {
            // No peer has the piece, so it came from the upstream. The piece is offered to one peer first: see
            // `turns.rs`.
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
        Self::end_turns(state, is_complete, now);
        self.fill_all(state);
    }

    /// Announces pieces to all peers after the turns for these pieces have ended.
    pub(super) fn end_turns(state: &mut TorrentState, all: bool, now: Instant) {
        let peers = &mut state.peers;
        for (piece, turn) in state.turns.end(now, |peer| !peers.contains_key(&peer), all) {
            for peer in peers.values_mut().filter(|peer| peer.number != turn && !peer.has.contains(piece)) {
                peer.send(&PeerMessage::Have(piece), now);
            }
        }
    }
}

impl TorrentState {
    /// Records a right piece. If one host sent all of it, that host's peers count as proven.
    fn prove(&mut self, givers: &[IpAddr]) {
        let [giver] = givers else { return };
        for peer in self.peers.values().filter(|peer| peer.address.ip() == *giver) {
            self.picker.prove(peer.number);
        }
    }

    /// Returns whether the peer has given no right piece yet, but a proven peer can give this piece. No peer is a
    /// stranger until some peer has sent wrong bytes, or an unproven peer was too slow.
    fn is_stranger(&self, number: PeerNumber, piece: u32) -> bool {
        let gives = |peer: &ConnectedPeer| peer.has.contains(piece) && !peer.is_choking && !peer.is_slow;
        self.is_wary
            && !self.picker.is_proven(number)
            && self.peers.iter().any(|(number, peer)| self.picker.is_proven(*number) && gives(peer))
    }

    /// Returns the piece that a client waits for, if this piece is to be requested before rarer pieces: it is the
    /// blob's first piece, several peers have it, or it is late. If the piece that a client waits for always came
    /// first, all hosts would ask one peer for the same piece, and would have nothing to swap.
    fn head(&mut self, piece: u32, now: Instant) -> Option<u32> {
        if self.head.0 != piece {
            self.head = (piece, now);
        }
        let is_late = now.duration_since(self.head.1) >= LATE;
        (piece == 0 || is_late || self.picker.availability(piece) > 1).then_some(piece)
    }
}

/// Returns for how much noise a message counts. `has` holds the pieces that the peer has announced.
fn noise(message: &PeerMessage, has: &PieceSet) -> u32 {
    match message {
        PeerMessage::Have(piece) if !has.contains(*piece) => 0,
        PeerMessage::KeepAlive
        | PeerMessage::Choke
        | PeerMessage::Unchoke
        | PeerMessage::Interested
        | PeerMessage::NotInterested
        | PeerMessage::Have(_)
        | PeerMessage::Bitfield(_) => 1,
        // This host answers an extension handshake with all piece hashes that it knows.
        PeerMessage::Extended { id: EXTENSION_HANDSHAKE_ID, .. } => 20,
        // Requests and blocks have their own limits. Piece hashes are no noise: a peer sends them for each new piece.
        PeerMessage::Request(_) | PeerMessage::Cancel(_) | PeerMessage::Piece { .. } | PeerMessage::Extended { .. } => {
            0
        }
    }
}

/// Sends the known hashes of these pieces to a peer, if the peer reads piece hashes.
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
