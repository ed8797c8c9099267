//! Finds our own clients among the peers that an upstream returns.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use tracker_protocol::upstream::UpstreamReply;
use tracker_protocol::{Ip, Peer, PeerId};

/// Our own clients that a reply may list: the clients of this instance, and those of the other instances.
#[derive(Debug, Default)]
pub(super) struct OwnPeers {
    /// Our addresses as the upstream sees them. The upstream may list our clients under these addresses.
    addresses: HashSet<IpAddr>,
    /// The ports and the peer ids in the reply. Clients with other ports and ids are not kept here.
    listed_ports: HashSet<NonZeroU16>,
    listed_ids: HashSet<PeerId>,
    /// The ids and ports of our clients that are in the reply, and the endpoints of clients with such a port.
    ids: HashSet<PeerId>,
    ports: HashSet<NonZeroU16>,
    endpoints: HashSet<(IpAddr, NonZeroU16)>,
}

impl OwnPeers {
    /// Returns a set without clients, for this reply. `addresses` are our addresses as the upstream sees them.
    pub(super) fn in_reply(reply: &UpstreamReply, addresses: Vec<IpAddr>) -> Self {
        let (v4, v6) = (&reply.peers.v4, &reply.peers.v6);
        let ports = v4.iter().map(|peer| peer.endpoint.port).chain(v6.iter().map(|peer| peer.endpoint.port));
        let ids = v4.iter().filter_map(|peer| peer.id).chain(v6.iter().filter_map(|peer| peer.id));
        let addresses = addresses.into_iter().collect();
        Self { addresses, listed_ports: ports.collect(), listed_ids: ids.collect(), ..Self::default() }
    }

    /// Adds a client of ours, with the addresses that it announces from.
    pub(super) fn add(&mut self, peer_id: Option<PeerId>, port: NonZeroU16, ips: impl IntoIterator<Item = IpAddr>) {
        self.ids.extend(peer_id.filter(|id| self.listed_ids.contains(id)));
        if self.listed_ports.contains(&port) {
            self.ports.insert(port);
            self.endpoints.extend(ips.into_iter().map(|ip| (ip, port)));
        }
    }

    /// Returns whether a peer of the reply is one of our clients.
    pub(super) fn contains<A: Ip>(&self, peer: &Peer<A>) -> bool {
        let (ip, port) = (peer.endpoint.ip.into(), peer.endpoint.port);
        self.endpoints.contains(&(ip, port))
            || (self.ports.contains(&port) && self.addresses.contains(&ip))
            || peer.id.is_some_and(|id| self.ids.contains(&id))
    }
}
