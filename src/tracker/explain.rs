//! The explanation of what a client gets, for the operator.

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
    /// The role of the client: that of the peer at its address, or else a leecher.
    pub role: Role,
    /// The most peers that a client gets that does not say how many it wants.
    pub usual: usize,
    /// The local swarm. `None` if no client has announced the torrent lately.
    pub swarm: Option<SwarmExplanation>,
    /// The forwarders.
    pub forwarders: Vec<ForwarderExplanation>,
}

/// One torrent, for the operator.
#[derive(Clone, Debug)]
pub struct TorrentView {
    /// The local swarm. `None` if it has expired.
    pub swarm: Option<SwarmListing>,
    /// The torrent at each forwarder.
    pub forwarders: Vec<TorrentAtForwarder>,
}

/// What a forwarder contributes.
#[derive(Clone, Debug)]
pub struct ForwarderExplanation {
    /// What the forwarder knows and gave.
    pub at: TorrentAtForwarder,
    /// What the client gets of the forwarder's list. `None` if there is no list.
    pub list: Option<ListUse>,
}

/// How many peers of a forwarder's list the client may get, and why it does not get the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListUse {
    /// Peers that the client gets if there is room.
    pub useful: usize,
    /// Peers that the client cannot reach.
    pub unreachable: usize,
    /// Peers that are the client itself.
    pub itself: usize,
    /// Peers that the client gets as local ones.
    pub local: usize,
    /// Peers of the other address family, if clients get only their own.
    pub other_family: usize,
}

/// The local peers that a client gets if there is room.
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
