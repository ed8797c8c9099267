//! What instances of the tracker tell each other about peers.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use thiserror::Error;

use crate::clock::Timestamp;
use tracker_protocol::{PeerId, Role};

/// What an instance has heard of a peer. The zone of the peer is not part of it, because each instance numbers its
/// zones itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// The address under which the instance has recorded the peer.
    pub ip: IpAddr,
    /// Whether the peer claims this address, and announced from another one.
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
        /// The port at which the peer listened; `None` if the peer did not name one.
        port: Option<NonZeroU16>,
    },
}

/// What the store has done with a record of another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The peer is recorded, as after an announce at this instance.
    Recorded,
    /// The peer has left. It may have been unknown here.
    Left,
    /// Nothing but the count of downloads may have changed, because the store knows something newer of the peer.
    Outdated,
}

/// Why the store has dropped a record of another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordRefusal {
    /// The address leads nowhere, or is an IPv4 address in the form of IPv6. No client could ever be told of it.
    #[error("no client can reach the address of the peer")]
    Address,
    /// The record is older than the peer age.
    #[error("the record is older than the peer age")]
    Expired,
    /// The record claims the address of a peer that itself announces from there.
    #[error("another peer announces from the address that the peer claims")]
    Claimed,
}

/// What an announce has changed, as far as other instances must hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// When the peer was heard. The store counts in ticks, so this is the beginning of the present tick.
    pub at: Timestamp,
    /// The time since the store heard of the peer before, by an announce or from another instance. It is a whole number
    /// of ticks, so the end of one peer's silence is the beginning of its next one. `None` if the peer was not known.
    pub silence: Option<Duration>,
    /// What other instances must hear at once.
    pub change: Option<PeerChange>,
}

/// What other instances must hear at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerChange {
    /// The peer is new in the swarm, or says that it has just started.
    Joined,
    /// The peer has another role than before, or another id, or it announces from an address that was claimed before.
    Changed,
    /// The peer has finished its download, and the download was counted.
    Completed,
    /// The peer has left the swarm.
    Left,
}
