//! Clients and peers of the other instances of this tracker.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use super::own_peers::OwnPeers;
use tracker_protocol::{InfoHash, PeerId};

/// Calls a function with each peer of a torrent that any instance knows, and its peer id, if known.
pub type VisitPeers = Box<dyn Fn(InfoHash, &mut dyn FnMut(SocketAddr, Option<PeerId>)) + Send + Sync>;

/// The peers of all instances.
pub(super) struct PeersElsewhere(VisitPeers);

impl PeersElsewhere {
    pub(super) fn new(visit: VisitPeers) -> Self {
        Self(visit)
    }

    /// Adds the peers of a torrent to our own clients.
    pub(super) fn add_to(&self, own: &mut OwnPeers, info_hash: InfoHash) {
        (self.0)(info_hash, &mut |endpoint, id| {
            if let Some(port) = NonZeroU16::new(endpoint.port()) {
                own.add(id, port, [endpoint.ip()]);
            }
        });
    }
}

impl fmt::Debug for PeersElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeersElsewhere")
    }
}

/// What another instance has heard of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientElsewhere {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The address that the other instance has recorded for the client.
    pub ip: IpAddr,
    /// Whether the client only claimed the address.
    pub is_claim: bool,
    /// The client's peer id.
    pub peer_id: PeerId,
    /// What the client did.
    pub news: ClientNews,
}

/// What a client did at another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientNews {
    /// It announced, and listens on this port.
    Announced(NonZeroU16),
    /// It left. If it did not name a port, it left all its ports.
    Left(Option<NonZeroU16>),
}
