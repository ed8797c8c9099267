//! The explanation of what a client gets.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use tracker_protocol::{PeerId, Role, SwarmCounts};

use crate::topology::ZoneId;

/// A swarm as a client at one address sees it.
#[derive(Clone, Debug)]
pub struct SwarmExplanation {
    /// The peer at the client's address, if the swarm has one. The client is assumed to be this peer.
    pub client: Option<PeerAtAddress>,
    /// The counts that the client gets.
    pub counts: SwarmCounts,
    /// Peers of the swarm, those of the client's family first.
    pub peers: Vec<PeerExplanation>,
    /// How many further peers the swarm has, unexplained.
    pub more: usize,
}

/// A peer at the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAtAddress {
    /// The peer's port.
    pub port: NonZeroU16,
    /// The peer's role.
    pub role: Role,
    /// The peer's id. `None` if the store has only a part of it.
    pub id: Option<PeerId>,
}

/// A swarm as the operator sees it.
#[derive(Clone, Debug)]
pub struct SwarmListing {
    /// The counts.
    pub counts: SwarmCounts,
    /// Peers of the swarm, IPv4 first.
    pub peers: Vec<ListedPeer>,
    /// How many further peers the swarm has, unlisted.
    pub more: usize,
}

/// One address of a peer, and whether the client gets this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerExplanation {
    /// The peer.
    pub peer: ListedPeer,
    /// Whether the client gets this address.
    pub verdict: PeerVerdict,
}

/// One address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPeer {
    /// The address under which the peer is recorded.
    pub address: SocketAddr,
    /// The zone of the address.
    pub zone: Option<ZoneId>,
    /// The peer's role.
    pub role: Role,
    /// Whether replies have another address of this peer first.
    pub is_second: bool,
    /// Whether the peer claims this address with `ip=`, and does not announce from it.
    pub is_claimed: bool,
    /// The time since the peer's last announce.
    pub silent_for: Duration,
    /// Whether the peer has been silent for the peer age. No client gets an expired peer.
    pub is_expired: bool,
    /// The peer's id. `None` if the store has only a part of it.
    pub id: Option<PeerId>,
}

/// Whether a client gets a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerVerdict {
    /// The client gets this address of the peer, if the reply has room.
    Given(SocketAddr),
    /// The client does not get the peer.
    Hidden(HiddenPeer),
}

/// Why a client does not get a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenPeer {
    /// The peer has not announced for the peer age.
    Expired,
    /// The peer is the client itself.
    Itself,
    /// Neither the client nor the peer downloads.
    BothSeeds,
    /// The client can use the peer's first address, and does not need this public one.
    FirstAddressServes,
    /// The client cannot reach the peer's address.
    Unreachable,
    /// Clients get only peers of their own address family.
    OtherFamily,
    /// The client gets another peer with this address and port. Both are behind one NAT.
    SameAddress,
}
