//! Whom a piece is offered to first.
//!
//! A host that brings a piece from the upstream offers it to one peer only, which passes it on. If it offered each new piece to
//! all, all would ask at once, and its link would carry every piece as often as there are peers. What is not passed on within
//! two seconds is offered to all. Super-seeding (BEP 16) does the same for a seed.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::picker::PeerNumber;

/// How long a peer has to fetch a piece and to pass it on.
const TURN: Duration = Duration::from_secs(2);

/// The pieces that are offered to one peer each.
#[derive(Debug, Default)]
pub(super) struct OfferTurns(HashMap<u32, (PeerNumber, Instant)>);

impl OfferTurns {
    /// Chooses one of these peers for a new piece: the one with the fewest turns. `None`: there are not several.
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

    /// The peer to which alone this piece is offered.
    pub(super) fn of(&self, piece: u32) -> Option<PeerNumber> {
        self.0.get(&piece).map(|(peer, _)| *peer)
    }

    /// The pieces that are to be offered to all now, with the peers whose turns have ended: their time is over, or they are
    /// gone. With `all`, every piece.
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
