//! Methods of the tracker for the calls about shared blobs, and for sharing swarms with other instances.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use tracker_protocol::InfoHash;

use super::Tracker;
use super::hearings::SwarmSharing;
use crate::clock::Clock;
use crate::metrics::ShareSent;
use crate::share::SharedSwarms;
use crate::topology::ZonedIp;

impl Tracker {
    /// Makes the tracker share its announces through `swarms`. `sent` counts them.
    #[must_use]
    pub fn sharing(self, swarms: Arc<SharedSwarms>, sent: ShareSent) -> Self {
        Self { swarm_sharing: Some(SwarmSharing::new(swarms, sent)), ..self }
    }

    /// Returns the clock by which the tracker knows how old peers are.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns whether the local swarm of this torrent has peers.
    pub fn has_peers(&self, info_hash: InfoHash) -> bool {
        let counts = self.counts(info_hash);
        counts.complete > 0 || counts.incomplete > 0
    }

    /// Returns an address with its zone.
    pub fn zoned(&self, ip: IpAddr) -> ZonedIp {
        self.topology.zoned(ip)
    }

    /// Returns the address at which the host at `asks` reaches the host at `peer`; `None` if it cannot.
    pub fn reachable_at(&self, asks: IpAddr, peer: ZonedIp, port: NonZeroU16) -> Option<SocketAddr> {
        let ip = self.topology.visible_address(self.zoned(asks), peer)?;
        Some(SocketAddr::new(ip, port.get()))
    }
}
