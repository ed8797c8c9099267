//! An announce as the store sees it, and its result.

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
    /// The public address that a peer in a private network claims, for clients that cannot use `place`.
    pub outside: Option<ZonedIp>,
    /// The address that the announce came from.
    pub source: IpAddr,
    /// The port at which the peer listens. `None` if clients cannot connect to it.
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
    /// Other peers, at addresses that the client can reach, the nearest first.
    pub peers: PeerLists,
    /// How many other clients announce from the peer's address. Claimed peers do not count. 0 unless the peer is new in
    /// the swarm, or announces at a slower pace than before.
    pub others_at_address: usize,
    /// What other instances may have to hear. `None` if no swarms are shared, or if the store recorded and removed
    /// nothing.
    pub hearing: Option<Hearing>,
}
