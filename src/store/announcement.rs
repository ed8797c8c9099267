//! An announce as the store sees it, and what the announce gets from the store.

use std::net::IpAddr;
use std::num::NonZeroU16;

use tracker_protocol::{PeerId, PeerLists, Role, SwarmCounts};

use super::record::Hearing;
use crate::topology::ZonedIp;

/// What the store needs to know of an announce.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    /// The address under which the peer is recorded, with the zone of that address.
    pub place: ZonedIp,
    /// Whether the peer claims `place` with `ip=`, but announced from another address.
    pub is_claim: bool,
    /// A second address of the peer, for clients that cannot use `place`. It is a public address that a peer in a
    /// private network claims.
    pub outside: Option<ZonedIp>,
    /// The address that the announce came from.
    pub source: IpAddr,
    /// The port at which the peer listens. `None` if other clients cannot connect to the peer.
    pub port: Option<NonZeroU16>,
    /// The peer's id.
    pub peer_id: PeerId,
    /// The peer's role in the swarm.
    pub role: Role,
    /// Whether the peer says that it has just started.
    pub started: bool,
    /// What to do with the peer.
    pub action: Action,
    /// How many other peers the peer wants.
    pub want: usize,
    /// Whether the peer wants the ids of the other peers.
    pub ids: bool,
}

/// What to do with a peer that announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Record the peer, if it has a port.
    Stay {
        /// Whether the peer has just finished its download.
        completed: bool,
    },
    /// Remove the peer.
    Leave,
    /// Only read the swarm.
    Peek,
}

/// The counts and the peers that an announce gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The counts of the swarm after the announce.
    pub counts: SwarmCounts,
    /// Other peers, at the addresses at which the client reaches them. Peers of the client's own address family are
    /// picked first, and each list begins with the nearest peers.
    pub peers: PeerLists,
    /// How many other clients announce from the peer's address at the same time. Claimed peers do not count. The store
    /// determines the number only if the announcing peer is new in the swarm, or announces at a slower pace than
    /// before. Otherwise the number is 0.
    pub others_at_address: usize,
    /// What other instances may have to hear of the announce. `None` if no swarms are shared, or if the store neither
    /// recorded nor removed the peer.
    pub hearing: Option<Hearing>,
}
