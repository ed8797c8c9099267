//! Which peer is offered a new piece first.
//!
//! A host offers a piece from the upstream to one peer only, which passes the piece on. Otherwise all peers would
//! request it at once, and the host's link would carry it once per peer. After two seconds the host offers the piece to
//! all peers that still lack it. Super-seeding (BEP 16) is the same rule for a seed.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::picker::PeerNumber;

/// The time that a peer has to fetch a piece and to pass it on.
const TURN: Duration = Duration::from_secs(2);

/// The pieces that are offered to one peer each.
#[derive(Debug, Default)]
pub(super) struct OfferTurns(HashMap<u32, (PeerNumber, Instant)>);

impl OfferTurns {
    /// Gives the turn for a new piece to the peer with the fewest turns. Returns `None` if there are fewer than two
    /// peers.
    pub(super) fn choose(
        &mut self,
        piece: u32,
        peers: impl Iterator<Item = PeerNumber>,
        now: Instant,
    ) -> Option<PeerNumber> {
        let mut turns: HashMap<PeerNumber, usize> = peers.map(|peer| (peer, 0)).collect();
        if turns.len() < 2 {
            return None;
        }
        for (peer, _) in self.0.values() {
            turns.entry(*peer).and_modify(|count| *count += 1);
        }
        let (peer, _) = turns.into_iter().min_by_key(|(_, count)| (*count, fastrand::u32(..)))?;
        self.0.insert(piece, (peer, now));
        Some(peer)
    }

    /// Returns the only peer that this piece is offered to, or `None` if it is offered to all.
    pub(super) fn of(&self, piece: u32) -> Option<PeerNumber> {
        self.0.get(&piece).map(|(peer, _)| *peer)
    }

    /// Ends the turns whose time is over or whose peer is gone. With `all`, ends every turn. Returns the pieces of the
    /// ended turns, each with the peer that had the turn. These pieces are now to be offered to all peers.
    pub(super) fn end(
        &mut self,
        now: Instant,
        is_gone: impl Fn(PeerNumber) -> bool,
        all: bool,
    ) -> Vec<(u32, PeerNumber)> {
        let ended = self.0.extract_if(|_, (peer, since)| all || now.duration_since(*since) >= TURN || is_gone(*peer));
        ended.map(|(piece, (peer, _))| (piece, peer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_turn() {
        let (mut turns, now) = (OfferTurns::default(), Instant::now());
        assert_eq!(turns.choose(0, [5].into_iter(), now), None);
        let mut chosen: Vec<_> = (0..6).map(|piece| turns.choose(piece, [1, 2, 3].into_iter(), now).unwrap()).collect();
        assert_eq!(turns.of(5), Some(chosen[5]));
        chosen.sort_unstable();
        assert_eq!(chosen, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_turn_ends_by_time_and_with_its_peer() {
        let (mut turns, now) = (OfferTurns::default(), Instant::now());
        let peer = turns.choose(7, [1, 2].into_iter(), now).unwrap();
        assert_eq!(turns.end(now, |_| false, false), []);
        assert_eq!(turns.end(now + TURN, |_| false, false), [(7, peer)]);
        assert_eq!(turns.of(7), None);
        let peer = turns.choose(8, [1, 2].into_iter(), now).unwrap();
        assert_eq!(turns.end(now, |gone| gone == peer, false), [(8, peer)]);
        turns.choose(9, [1, 2].into_iter(), now);
        assert_eq!(turns.end(now, |_| false, true).len(), 1);
    }
}
