//! Keeps the nearest of the peers that are offered.

use crate::topology::Nearness;
use tracker_protocol::{Endpoint, Ip, Peer, PeerId};

/// Up to `want` peers, the nearest first.
#[derive(Debug)]
pub(super) struct Ranked<'a, A> {
    peers: &'a mut Vec<Peer<A>>,
    want: usize,
    /// The position behind the peers of the client's zone, and the position behind the peers of its subnet, which
    /// follow them.
    ends: [usize; 2],
    /// Whether endpoints may repeat, because the reply may have peers at other addresses than their own.
    translated: bool,
}

impl<'a, A: Ip> Ranked<'a, A> {
    /// Makes a list without peers. [`Self::put`] adds peers to `peers`, which must be empty.
    pub(super) fn new(peers: &'a mut Vec<Peer<A>>, want: usize) -> Self {
        Self { peers, want, ends: [0; 2], translated: false }
    }

    /// Like [`Self::new`], but no endpoint is added twice.
    pub(super) fn without_repeats(peers: &'a mut Vec<Peer<A>>, want: usize) -> Self {
        Self { translated: true, ..Self::new(peers, want) }
    }

    pub(super) fn want(&self) -> usize {
        self.want
    }

    pub(super) fn is_full(&self) -> bool {
        self.peers.len() >= self.want
    }

    /// Returns whether a peer of this nearness would be taken.
    pub(super) fn wants(&self, nearness: Nearness) -> bool {
        !self.is_full() || self.farthest().is_some_and(|farthest| nearness < farthest)
    }

    /// Returns whether the list has a peer with this endpoint.
    pub(super) fn has(&self, endpoint: Endpoint<A>) -> bool {
        self.peers.iter().any(|other| other.endpoint == endpoint)
    }

    /// Adds a wanted peer. A full list drops one of the farthest. `is_translated`: the reply has the peer at another
    /// address than its own. From the first translated peer on, peers whose endpoints are already in the list are
    /// skipped: peers behind one NAT may share an external address and port, and the NAT forwards the port to only one.
    pub(super) fn put(
        &mut self,
        endpoint: Endpoint<A>,
        id: impl FnOnce() -> Option<PeerId>,
        nearness: Nearness,
        is_translated: bool,
    ) {
        self.translated |= is_translated;
        if self.translated && self.has(endpoint) {
            return;
        }
        if self.is_full() {
            self.peers.pop();
            self.ends = self.ends.map(|end| end.min(self.peers.len()));
        }
        let mut at = self.peers.len();
        self.peers.push(Peer { endpoint, id: id() });
        let [zone, subnet] = &mut self.ends;
        // Moves the peer in front of all farther ones. Equally near peers have no order.
        for (end, last) in [(subnet, Nearness::Prefix), (zone, Nearness::Zone)] {
            if nearness <= last {
                // Usually all peers are equally near, and stay where they are.
                if *end < at {
                    self.peers.swap(*end, at);
                }
                at = *end;
                *end += 1;
            }
        }
    }

    fn farthest(&self) -> Option<Nearness> {
        let [zone, subnet] = self.ends;
        match self.peers.len() {
            0 => None,
            len if subnet < len => Some(Nearness::Elsewhere),
            len if zone < len => Some(Nearness::Prefix),
            _ => Some(Nearness::Zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::num::NonZeroU16;

    fn any_nearness() -> impl Strategy<Value = Nearness> {
        prop_oneof![Just(Nearness::Zone), Just(Nearness::Prefix), Just(Nearness::Elsewhere)]
    }

    proptest! {
        #[test]
        fn the_nearest_are_kept_and_come_first(all in proptest::collection::vec(any_nearness(), 0..40), want in 0..20_usize) {
            let mut peers = Vec::new();
            let mut ranked = Ranked::new(&mut peers, want);
            for (n, &nearness) in (1..).zip(&all) {
                let ip = Ipv4Addr::from([10, 0, 0, n]);
                if ranked.wants(nearness) {
                    ranked.put(Endpoint { ip, port: NonZeroU16::MIN }, || None, nearness, false);
                }
            }
            let mut expected = all.clone();
            expected.sort_unstable();
            expected.truncate(want);
            let visible: Vec<_> = peers.iter().map(|peer| all[usize::from(peer.endpoint.ip.octets()[3]) - 1]).collect();
            prop_assert_eq!(visible, expected);
            peers.dedup();
            prop_assert_eq!(peers.len(), all.len().min(want));
        }
    }
}
