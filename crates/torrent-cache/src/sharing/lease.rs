//! The lease that this host holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Sharing;
use super::tasks::SeedingTask;
use crate::swarm::SharedContent;
use crate::swarm_tracker::{LeaseRenewal, ShareKey};

/// How often a lease is renewed. The tracker gives it away after three seconds of silence.
const RENEWAL: Duration = Duration::from_secs(1);

/// A lease of this host. It ends when this is dropped.
#[derive(Debug)]
pub struct OwnLease {
    sharing: Arc<Sharing>,
    key: ShareKey,
    generation: u64,
}

impl OwnLease {
    pub(super) fn new(sharing: &Arc<Sharing>, key: ShareKey, generation: u64) -> Self {
        Self { sharing: Arc::clone(sharing), key, generation }
    }

    /// Tells how long the blob is.
    pub(super) async fn tell(&self, length: Option<u64>) {
        if let Err(error) = self.sharing.tracker.renew(&self.key, self.generation, 0, length.or(Some(0))).await {
            log::debug!("{}: the length could not be told: {error}", self.key);
        }
    }

    /// Renews the lease until another host holds it. A tracker that cannot be reached takes nothing away.
    pub(super) async fn keep(&self, content: &SharedContent) {
        let mut renewals = interval(RENEWAL);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            renewals.tick().await;
            let (shape, progress) = (content.shape(), content.progress_now());
            let have =
                progress.prefix.max(u64::from(progress.pieces) * u64::from(shape.piece_length)).min(shape.length);
            match self.sharing.tracker.renew(&self.key, self.generation, have, Some(shape.length)).await {
                Ok(LeaseRenewal::Renewed) => {}
                Ok(LeaseRenewal::Ended | LeaseRenewal::Superseded) => return,
                Err(error) => log::debug!("{}: the lease could not be renewed: {error}", self.key),
            }
        }
    }
}

impl Drop for OwnLease {
    fn drop(&mut self) {
        self.sharing.tell(SeedingTask::Release { key: self.key, generation: self.generation });
    }
}
