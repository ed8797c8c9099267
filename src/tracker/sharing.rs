//! What the part for shared blobs asks the tracker, and what other instances hear of announces.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use tracker_protocol::InfoHash;

use super::Tracker;
use crate::clock::{Clock, Timestamp};
use crate::metrics::ShareSent;
use crate::share::{ShareReason, SharedSwarms};
use crate::store::{Announcement, PeerChange, Selection};
use crate::topology::ZonedIp;

/// Hands announces on to other instances, and counts them.
#[derive(Debug)]
pub(super) struct SwarmSharing {
    swarms: Arc<SharedSwarms>,
    sent: ShareSent,
}

impl SwarmSharing {
    /// Shares an announce that the store has carried out, if the other instances must hear of it.
    pub(super) fn heard(
        &self,
        now: Timestamp,
        info_hash: InfoHash,
        announcement: &Announcement,
        selection: &Selection,
    ) {
        let ShareSent { joined, changed, completed, left, due, resync } = &self.sent;
        let Some(reason) = self.swarms.heard(now, info_hash, announcement, selection) else { return };
        let counter = match reason {
            ShareReason::Change(PeerChange::Joined) => joined,
            ShareReason::Change(PeerChange::Changed) => changed,
            ShareReason::Change(PeerChange::Completed) => completed,
            ShareReason::Change(PeerChange::Left) => left,
            ShareReason::Due => due,
            ShareReason::Resync => resync,
        };
        counter.inc();
    }
}

impl Tracker {
    /// The same tracker, but other instances hear of its announces through `swarms`. `sent` counts them.
    #[must_use]
    pub fn sharing(self, swarms: Arc<SharedSwarms>, sent: ShareSent) -> Self {
        Self { swarm_sharing: Some(SwarmSharing { swarms, sent }), ..self }
    }

    /// The clock by which the tracker knows how old peers are.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether a local swarm has peers.
    pub fn has_peers(&self, info_hash: InfoHash) -> bool {
        let counts = self.counts(info_hash);
        counts.complete > 0 || counts.incomplete > 0
    }

    /// An address with its zone.
    pub fn zoned(&self, ip: IpAddr) -> ZonedIp {
        self.topology.zoned(ip)
    }

    /// Where the host at `asks` reaches the host at `peer`. `None` if it cannot.
    pub fn reachable_at(&self, asks: IpAddr, peer: ZonedIp, port: NonZeroU16) -> Option<SocketAddr> {
        let ip = self.topology.visible_address(self.zoned(asks), peer)?;
        Some(SocketAddr::new(ip, port.get()))
    }
}
