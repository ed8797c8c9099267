//! Puts local and upstream peers into one reply.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::forward::{Interleaved, UpstreamPeers};
use crate::topology::{Topology, ZonedIp};
use crate::tracker::explain::ListUse;
use tracker_protocol::{AnnounceReply, Endpoint, Ip, Peer, PeerLists};

/// Adds the upstream trackers' counts to the counts of the reply.
pub(super) fn add_counts(reply: &mut AnnounceReply, upstream: &UpstreamPeers) {
    // UDP replies and many clients keep a count in a signed 32-bit integer, so no sum may exceed `i32::MAX`.
    let sum = |local: u32, theirs: u32| local.saturating_add(theirs).min(i32::MAX.unsigned_abs());
    reply.complete = sum(reply.complete, upstream.complete);
    reply.incomplete = sum(reply.incomplete, upstream.incomplete);
}

/// The client that gets a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    /// The address under which the client is recorded.
    pub(super) place: ZonedIp,
    /// The client's address outside of its network, if it differs from that in `place`.
    pub(super) outside: Option<IpAddr>,
    /// The port on which the client listens for peers.
    pub(super) port: Option<NonZeroU16>,
    /// The client gets at most this many peers.
    pub(super) want: usize,
    /// Whether the reply includes the upstream trackers' counts.
    pub(super) counts: bool,
}

impl Recipient {
    /// Returns the address at which the client reaches the peer at `ip`; `None` if the client cannot reach the peer.
    fn address_of(self, ip: IpAddr, topology: &Topology) -> Option<IpAddr> {
        topology.visible_address(self.place, topology.zoned(ip))
    }

    /// Returns whether a peer is the client itself.
    fn is<A: Ip>(self, peer: Endpoint<A>) -> bool {
        let ip = peer.ip.into();
        Some(peer.port) == self.port && (ip == self.place.ip || Some(ip) == self.outside)
    }

    /// Returns whether the client can reach an upstream peer at exactly this address. Nothing is translated: our zones'
    /// external addresses do not apply to upstream peers.
    fn can_use<A: Ip>(self, ip: A, topology: &Topology) -> bool {
        self.address_of(ip.into(), topology) == Some(ip.into())
    }
}

/// Returns whether local and upstream peers together are as many as the client wants.
pub(super) fn enough(
    local: &PeerLists,
    client: Recipient,
    topology: &Topology,
    upstream: &[Arc<UpstreamPeers>],
) -> bool {
    if local.len() >= client.want || upstream.is_empty() {
        return local.len() >= client.want;
    }
    let mut peers = local.clone();
    add_peers(&mut peers, client, topology, &UpstreamPeers::combined(upstream));
    peers.len() >= client.want
}

/// Adds upstream peers after the local peers, up to the number that the client wants of both families. Peers of the
/// client's own family come first.
pub(super) fn add_peers(peers: &mut PeerLists, client: Recipient, topology: &Topology, upstream: &UpstreamPeers) {
    let room = client.want.saturating_sub(peers.len());
    let other = |added: usize| if topology.mixes_families() { room - added } else { 0 };
    if client.place.ip.is_ipv4() {
        let added = add(&mut peers.v4, room, &upstream.v4, client, topology);
        add(&mut peers.v6, other(added), &upstream.v6, client, topology);
    } else {
        let added = add(&mut peers.v6, room, &upstream.v6, client, topology);
        add(&mut peers.v4, other(added), &upstream.v4, client, topology);
    }
}

/// Counts the peers of a forwarder's list that the client may get. Counts the other peers by the reason why the client
/// does not get them. `local` are the reply's local peers.
pub(super) fn list_use(local: &PeerLists, client: Recipient, topology: &Topology, upstream: &UpstreamPeers) -> ListUse {
    let mut counts = ListUse::default();
    let is_v4 = client.place.ip.is_ipv4();
    count(&mut counts, is_v4, &local.v4, &upstream.v4, client, topology);
    count(&mut counts, !is_v4, &local.v6, &upstream.v6, client, topology);
    counts
}

fn count<A: Ip>(
    counts: &mut ListUse,
    is_own_family: bool,
    local: &[Peer<A>],
    upstream: &Interleaved<A>,
    client: Recipient,
    topology: &Topology,
) {
    let local = KnownEndpoints::new(local);
    for &peer in upstream.iter() {
        *match peer {
            _ if !is_own_family && !topology.mixes_families() => &mut counts.other_family,
            peer if client.is(peer) => &mut counts.itself,
            peer if local.has(peer) => &mut counts.local,
            peer if upstream.is_public() || client.can_use(peer.ip, topology) => &mut counts.useful,
            _ => &mut counts.unreachable,
        } += 1;
    }
}

/// Appends at most `room` upstream peers that the client can use and `peers` lacks. Returns how many were appended.
fn add<A: Ip>(
    peers: &mut Vec<Peer<A>>,
    room: usize,
    upstream: &Interleaved<A>,
    client: Recipient,
    topology: &Topology,
) -> usize {
    let room = room.min(upstream.iter().count());
    let local = KnownEndpoints::new(peers);
    let before = peers.len();
    let is_useful = |peer: Endpoint<A>| {
        (upstream.is_public() || client.can_use(peer.ip, topology)) && !client.is(peer) && !local.has(peer)
    };
    peers.reserve_exact(room);
    let useful = upstream.part(room).filter(|&&peer| is_useful(peer)).take(room);
    peers.extend(useful.map(|&endpoint| Peer { endpoint, id: None }));
    peers.len() - before
}

/// Up to this many peers are compared one by one: filling a hash set would take longer.
const COMPARE: usize = 16;

/// The endpoints of the peers that are in the reply already.
struct KnownEndpoints<A> {
    few: SmallVec<[Endpoint<A>; COMPARE]>,
    many: HashSet<Endpoint<A>>,
    /// Bit `port % 64` is set for each peer in the reply. An endpoint with an unset bit needs no comparison.
    ports: u64,
}

impl<A: Ip> KnownEndpoints<A> {
    fn new(peers: &[Peer<A>]) -> Self {
        let endpoints = peers.iter().map(|peer| peer.endpoint);
        let ports = peers.iter().fold(0, |bits, peer| bits | bit(peer.endpoint.port));
        if peers.len() > COMPARE {
            Self { few: SmallVec::new(), many: endpoints.collect(), ports }
        } else {
            Self { few: endpoints.collect(), many: HashSet::new(), ports }
        }
    }

    fn has(&self, endpoint: Endpoint<A>) -> bool {
        self.ports & bit(endpoint.port) != 0 && (self.few.contains(&endpoint) || self.many.contains(&endpoint))
    }
}

fn bit(port: NonZeroU16) -> u64 {
    1 << (port.get() % 64)
}

#[cfg(test)]
mod tests;
