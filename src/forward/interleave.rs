//! Peers of several lists, interleaved so that no list displaces the others.

use std::collections::HashSet;

use crate::topology::reach::is_public;
use tracker_protocol::{Endpoint, Ip};

/// Peers of one family, without repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interleaved<A> {
    peers: Box<[Endpoint<A>]>,
    /// How many of the first peers were taken from all lists in turn. After these peers, a list is exhausted.
    even: usize,
    /// Whether all peers have public addresses.
    public: bool,
}

impl<A: Ip> Interleaved<A> {
    /// Returns the peers of one list, which has no repeats, in their order.
    pub(super) fn of_distinct(peers: impl Into<Box<[Endpoint<A>]>>) -> Self {
        let peers = peers.into();
        Self { even: peers.len(), public: peers.iter().all(|peer| is_public(peer.ip.into())), peers }
    }

    /// Returns the first `most` peers of several lists, one of each list in turn.
    pub(super) fn of_all(lists: &[&Self], most: usize) -> Self {
        let lengths = || lists.iter().map(|list| list.peers.len());
        let shortest = lengths().min().unwrap_or(0);
        let (mut peers, mut known, mut even) = (Vec::new(), HashSet::new(), 0);
        for turn in 0..lengths().max().unwrap_or(0) {
            let next = lists.iter().filter_map(|list| list.peers.get(turn)).copied();
            peers.extend(next.filter(|&endpoint| known.insert(endpoint)));
            if turn < shortest {
                even = peers.len();
            }
        }
        peers.truncate(most);
        Self { even: even.min(peers.len()), public: lists.iter().all(|list| list.public), peers: peers.into() }
    }

    /// Returns all peers, for a client that takes the first `room`. If there are more than `room`, they are rotated by a
    /// random number, so that each client gets a different part. The first `even` peers stay first if they fit into
    /// `room`: then only those behind them are rotated.
    pub fn part(&self, room: usize) -> impl Iterator<Item = &Endpoint<A>> {
        let (even, rest) = self.peers.split_at_checked(self.even).unwrap_or_default();
        let is_enough = even.len() > room;
        rotated(even, is_enough).chain(rotated(rest, !is_enough && self.peers.len() > room))
    }

    /// Returns whether all peers have public addresses. If so, the caller need not check each peer.
    pub fn is_public(&self) -> bool {
        self.public
    }

    /// Returns all peers in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint<A>> {
        self.peers.iter()
    }

    /// Returns how many bytes the peers take.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.peers)
    }
}

/// Returns all elements. If `random` is true, a random element comes first, and the elements before it come last.
fn rotated<T>(all: &[T], random: bool) -> impl Iterator<Item = &T> {
    let start = if random && !all.is_empty() { fastrand::usize(..all.len()) } else { 0 };
    let (end, beginning) = all.split_at_checked(start).unwrap_or_default();
    beginning.iter().chain(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::num::NonZeroU16;

    fn endpoint(list: u8, n: u8) -> Endpoint<Ipv4Addr> {
        Endpoint { ip: [1, 1, list, n].into(), port: NonZeroU16::MIN }
    }

    proptest! {
        #[test]
        fn each_peer_occurs_once_and_each_list_gets_its_share(
            lengths in proptest::collection::vec(1..40_u8, 1..6), room in 1..60_usize,
        ) {
            let list = |(list, &length): (u8, &u8)| Interleaved::of_distinct((0..length).map(|n| endpoint(list, n)).collect::<Vec<_>>());
            let lists: Vec<_> = (0..).zip(&lengths).map(list).collect();
            let interleave = Interleaved::of_all(&lists.iter().collect::<Vec<_>>(), usize::MAX);
            let part: Vec<_> = interleave.part(room).collect();
            let unique: HashSet<_> = part.iter().collect();
            prop_assert_eq!(unique.len(), lengths.iter().map(|&length| usize::from(length)).sum::<usize>());
            // As long as no list is exhausted, each list gives its share.
            let even = usize::from(*lengths.iter().min().unwrap()) * lengths.len();
            let share = room.min(even) / lengths.len();
            for (list, _) in (0..).zip(&lengths) {
                let given = part.iter().take(room).filter(|endpoint| endpoint.ip.octets()[2] == list).count();
                prop_assert!(given + 1 >= share, "{} of {} from {:?}", given, room, lengths);
            }
        }
    }

    #[test]
    fn a_peer_in_several_lists_occurs_once() {
        let list =
            |numbers: &[u8]| Interleaved::of_distinct(numbers.iter().map(|&n| endpoint(0, n)).collect::<Vec<_>>());
        let lists = [list(&[1, 2]), list(&[2])];
        let lists = lists.each_ref();
        let interleave = Interleaved::of_all(&lists, usize::MAX);
        assert_eq!(interleave.iter().collect::<Vec<_>>(), [&endpoint(0, 1), &endpoint(0, 2)]);
        assert_eq!(Interleaved::of_all(&lists, 1).iter().count(), 1);
    }
}
