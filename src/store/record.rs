//! What instances of the tracker tell each other about peers.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use thiserror::Error;

use crate::clock::Timestamp;
use tracker_protocol::{PeerId, Role};

/// What an instance has heard of a peer. A record does not contain the peer's zone, because each instance numbers its
/// zones itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// The address under which the instance has recorded the peer.
    pub ip: IpAddr,
    /// Whether the peer claims this address, but announced from another address.
    pub is_claim: bool,
    /// The peer's id.
    pub peer_id: PeerId,
    /// What the peer has announced.
    pub news: PeerNews,
    /// How many downloads of the torrent the instance has counted.
    pub downloaded: u32,
}

/// What a peer has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerNews {
    /// The peer is in the swarm.
    Stays {
        /// The port at which the peer listens.
        port: NonZeroU16,
        /// The peer's role in the swarm.
        role: Role,
        /// Whether the peer has just finished its download.
        completed: bool,
    },
    /// The peer has left the swarm.
    Left {
        /// The port at which the peer listened. `None` if the peer did not name a port.
        port: Option<NonZeroU16>,
    },
}

/// What the store has done with a record of another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The peer is recorded, as after an announce at this instance.
    Recorded,
    /// The peer has left. The store may not have known the peer.
    Left,
    /// The record changed at most the count of downloads, because the store has newer news of the peer.
    Outdated,
}

/// Why the store has dropped a record of another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordRefusal {
    /// No client can reach the address, or the record has an IPv4 address in the form of IPv6.
    #[error("no client can reach the address of the peer")]
    Address,
    /// The record is older than the peer age.
    #[error("the record is older than the peer age")]
    Expired,
    /// The record claims the address of a peer that itself announces from there.
    #[error("another peer announces from the address that the peer claims")]
    Claimed,
}

/// What other instances may have to hear of an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// When the peer announced, rounded down to the beginning of a tick, because the store counts time in ticks.
    pub at: Timestamp,
    /// The time since the store last heard of the peer, by an announce or from another instance. `None` if the peer was
    /// not known. The time is a whole number of ticks, so that no time is lost between two silences of a peer.
    pub silence: Option<Duration>,
    /// What other instances must hear at once.
    pub change: Option<PeerChange>,
}

/// A change of a peer, of which other instances must hear at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerChange {
    /// The peer is new in the swarm, or says that it has just started.
    Joined,
    /// The peer has another role or another id than before. Or the peer was claimed before and now announces itself, or
    /// the reverse.
    Changed,
    /// The peer has finished its download, and the download was counted.
    Completed,
    /// The peer has left the swarm.
    Left,
}
