//! An announce as the store sees it, and what it gets.

use std::net::IpAddr;
use std::num::NonZeroU16;

use tracker_protocol::{PeerId, PeerLists, Role, SwarmCounts};

use crate::topology::ZonedIp;

/// What an announce means for a swarm.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    /// Where the peer is: the address that it is recorded under, and its zone.
    pub place: ZonedIp,
    /// Whether the peer only claims that address, by `ip=`: the announce came from another one.
    pub is_claim: bool,
    /// A second address, for clients that cannot use the first: a public one that a peer in a private network claims.
    pub outside: Option<ZonedIp>,
    /// The address that the announce came from.
    pub source: IpAddr,
    /// Where it listens there.
    pub port: Option<NonZeroU16>,
    /// Its id.
    pub peer_id: PeerId,
    /// What it does in the swarm.
    pub role: Role,
    /// What becomes of it.
    pub action: Action,
    /// How many others it wants to be told of.
    pub want: usize,
    /// Whether it wants to know their ids.
    pub ids: bool,
}

/// What becomes of a peer that announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is recorded, if it names a port. Others cannot connect to one that does not.
    Stay {
        /// Whether it has just finished its download.
        completed: bool,
    },
    /// It is removed.
    Leave,
    /// Nothing: it wants to be told of others only.
    Peek,
}

/// What a swarm answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The swarm after the announce.
    pub counts: SwarmCounts,
    /// Other peers, under the addresses by which the announcer reaches them: those of its own family before those of the
    /// other, of each the nearest first.
    pub peers: PeerLists,
    /// How many other clients are at the peer's address at the same time, as far as their announces tell; those that others
    /// claim for them do not count. Looked up when the peer is new in the swarm, or has turned out to announce at a slower
    /// pace, which is when it can be compared with the others; 0 at all other times.
    pub others_at_address: usize,
}
