//! Shares announces with other instances, and counts what is shared.

use std::sync::Arc;

use tracker_protocol::InfoHash;

use crate::clock::Timestamp;
use crate::metrics::ShareSent;
use crate::share::{ShareReason, SharedSwarms};
use crate::store::{Announcement, PeerChange, Selection};

/// Shares announces with other instances, and counts the shared announces by reason.
#[derive(Debug)]
pub(super) struct SwarmSharing {
    swarms: Arc<SharedSwarms>,
    sent: ShareSent,
}

impl SwarmSharing {
    pub(super) fn new(swarms: Arc<SharedSwarms>, sent: ShareSent) -> Self {
        Self { swarms, sent }
    }

    /// Shares an announce that other instances must hear of. `selection` is the store's answer to the announce.
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
