//! How operations change the numbers of peers and swarms.

use tracker_protocol::{Ip, Role};

use super::client_id::ClientId;
use super::entry::Entry;
use super::zone_counts::ZoneCounts;
use crate::eviction::SourceWeights;

/// Numbers of peers, or changes of these numbers, by family (IPv4, IPv6) and by role (seeds, others).
pub(super) type PeerCounts = [[i64; 2]; 2];

/// How an operation has changed the numbers of peers and swarms.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountDelta<'a> {
    weights: &'a SourceWeights,
    zones: &'a ZoneCounts,
    pub(super) peer_counts: PeerCounts,
    pub(super) swarms: i64,
    /// Swarms that were evicted.
    pub(super) evicted: i64,
    /// Peers that were evicted.
    pub(super) evicted_peers: i64,
}

impl<'a> CountDelta<'a> {
    /// Makes a delta without changes. Every change updates `weights` and `zones`.
    pub(super) fn new(weights: &'a SourceWeights, zones: &'a ZoneCounts) -> Self {
        Self { weights, zones, peer_counts: PeerCounts::default(), swarms: 0, evicted: 0, evicted_peers: 0 }
    }

    /// Records that a peer has been added.
    pub(super) fn joined<A: Ip>(&mut self, peer: &Entry<A>) {
        self.weights.add(peer.source());
        self.tally(peer, 1);
    }

    /// Records that a peer has been removed.
    pub(super) fn gone<A: Ip>(&mut self, peer: &Entry<A>) {
        self.weights.remove(peer.source());
        self.tally(peer, -1);
    }

    /// Records that a peer has another state.
    pub(super) fn replaced<A: Ip>(&mut self, old: &Entry<A>, new: &Entry<A>) {
        if old.source() != new.source() {
            self.weights.remove(old.source());
            self.weights.add(new.source());
        }
        self.tally(old, -1);
        self.tally(new, 1);
    }

    fn tally<A: Ip>(&mut self, peer: &Entry<A>, more: i64) {
        let [v4, v6] = &mut self.peer_counts;
        let [seeds, others] = if A::VERSION == 4 { v4 } else { v6 };
        let role = peer.kind().role();
        *(if role == Role::Seed { seeds } else { others }) += more;
        self.zones.add(peer.zone, role, more);
    }

    /// Returns the change in the number of peers.
    pub(super) fn peers(&self) -> i64 {
        self.peer_counts.iter().flatten().sum()
    }
}

/// Clients that need another first address. `None` in a swarm where no client has several addresses.
pub(super) struct LostFirsts(pub(super) Option<Vec<ClientId>>);

impl LostFirsts {
    pub(super) fn of(has_seconds: bool) -> Self {
        Self(has_seconds.then(Vec::new))
    }

    pub(super) fn note<A: Ip>(&mut self, gone: &Entry<A>, change: &mut CountDelta<'_>) {
        change.gone(gone);
        if let Some(ids) = self.0.as_mut().filter(|_| !gone.is_second()) {
            ids.push(gone.id());
        }
    }
}
