//! Finds our own clients among the peers that an upstream returns.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use tracker_protocol::upstream::UpstreamReply;
use tracker_protocol::{Ip, Peer, PeerId};

/// Our own clients that a reply may list, of this instance and the others.
#[derive(Debug, Default)]
pub(super) struct OwnPeers {
    /// Our addresses as the upstream sees them, under which it may list our clients.
    addresses: Vec<IpAddr>,
    /// The reply's ports and peer ids. Clients with other ones are not kept.
    listed_ports: HashSet<NonZeroU16>,
    listed_ids: HashSet<PeerId>,
    ids: HashSet<PeerId>,
    endpoints: HashSet<(IpAddr, NonZeroU16)>,
}

impl OwnPeers {
    /// Returns a set for this reply, still without clients. `addresses` are ours as the upstream sees them.
    pub(super) fn in_reply(reply: &UpstreamReply, addresses: Vec<IpAddr>) -> Self {
        let (v4, v6) = (&reply.peers.v4, &reply.peers.v6);
        let ports = v4.iter().map(|peer| peer.endpoint.port).chain(v6.iter().map(|peer| peer.endpoint.port));
        let ids = v4.iter().filter_map(|peer| peer.id).chain(v6.iter().filter_map(|peer| peer.id));
        Self { addresses, listed_ports: ports.collect(), listed_ids: ids.collect(), ..Self::default() }
    }

    /// Adds a client of ours, with the addresses that it announces from.
    pub(super) fn add(&mut self, peer_id: Option<PeerId>, port: NonZeroU16, ips: impl IntoIterator<Item = IpAddr>) {
        self.ids.extend(peer_id.filter(|id| self.listed_ids.contains(id)));
        if self.listed_ports.contains(&port) {
            let known = self.addresses.iter().copied();
            self.endpoints.extend(ips.into_iter().chain(known).map(|ip| (ip, port)));
        }
    }

    /// Returns whether a peer of the reply is one of our clients.
    pub(super) fn contains<A: Ip>(&self, peer: &Peer<A>) -> bool {
        self.endpoints.contains(&(peer.endpoint.ip.into(), peer.endpoint.port))
            || peer.id.is_some_and(|id| self.ids.contains(&id))
    }
}
