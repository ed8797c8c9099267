//! The types that explain to the operator what a client gets.

use std::net::IpAddr;
use std::num::NonZeroU16;

use crate::forward::TorrentAtForwarder;
use crate::store::{PeerVerdict, SwarmExplanation, SwarmListing};
use tracker_protocol::{PeerLists, Role};

/// What a client at one address would get now, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The address of the client.
    pub ip: IpAddr,
    /// The name of the zone of the address.
    pub zone: Option<String>,
    /// The client's role: a leecher if the swarm has no peer at its address.
    pub role: Role,
    /// How many peers a client gets at most if it does not say how many it wants.
    pub usual: usize,
    /// The local swarm. `None` if the store has no swarm for the torrent.
    pub swarm: Option<SwarmExplanation>,
    /// The forwarders.
    pub forwarders: Vec<ForwarderExplanation>,
}

/// One torrent, for the operator.
#[derive(Clone, Debug)]
pub struct TorrentView {
    /// The local swarm. `None` if the store has no swarm for the torrent.
    pub swarm: Option<SwarmListing>,
    /// The torrent at each forwarder.
    pub forwarders: Vec<TorrentAtForwarder>,
}

/// What a forwarder contributes to the reply.
#[derive(Clone, Debug)]
pub struct ForwarderExplanation {
    /// What the forwarder knows of the torrent.
    pub at: TorrentAtForwarder,
    /// How many peers of the forwarder's list the client may get. `None` without a list.
    pub list: Option<ListUse>,
}

/// How many peers of a forwarder's list the client may get, and why not the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListUse {
    /// Peers that the client gets if its reply has room for them.
    pub useful: usize,
    /// Peers that the client cannot reach.
    pub unreachable: usize,
    /// Peers that are the client itself.
    pub itself: usize,
    /// Peers that are among the local peers of the reply.
    pub local: usize,
    /// Peers of the other address family, if clients get only peers of their own family.
    pub other_family: usize,
}

/// Returns the local peers that a client gets if its reply has room for them.
pub(super) fn given(swarm: Option<&SwarmExplanation>) -> PeerLists {
    let mut given = PeerLists::default();
    for explained in swarm.into_iter().flat_map(|swarm| &swarm.peers) {
        if let PeerVerdict::Given(address) = explained.verdict
            && let Some(port) = NonZeroU16::new(address.port())
        {
            given.push(address.ip(), port, None);
        }
    }
    given
}
