//! The lease that this host holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Sharing;
use super::tasks::SeedingTask;
use crate::swarm::SharedContent;
use crate::swarm_tracker::{LeaseRenewal, ShareKey};

/// How often a lease is renewed. After three seconds without a renewal, the tracker gives the lease to another host.
const RENEWAL: Duration = Duration::from_secs(1);

/// A lease of this host. When this value is dropped, the lease is released.
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

    /// Tells the tracker the length of the blob, or 0 if it is not known. The tracker shows the length to other hosts,
    /// so that they do not wait for a blob that is not shared.
    pub(super) async fn tell(&self, length: Option<u64>) {
        if let Err(error) = self.sharing.tracker.renew(&self.key, self.generation, 0, length.or(Some(0))).await {
            log::debug!("{}: cannot tell the tracker the blob's length: {error}", self.key);
        }
    }

    /// Renews the lease until this value is dropped. The returned value becomes `true` when the lease has ended or
    /// another host holds it. While the tracker does not answer, this host keeps the lease.
    pub(super) fn keep(self: &Arc<Self>, content: &Arc<SharedContent>) -> watch::Receiver<bool> {
        let (lease, content) = (Arc::downgrade(self), Arc::clone(content));
        let (lost, is_lost) = watch::channel(false);
        tokio::spawn(async move {
            while let Some(lease) = lease.upgrade() {
                if !lease.renew(&content).await {
                    lost.send_replace(true);
                    return;
                }
                drop(lease);
                sleep(RENEWAL).await;
            }
        });
        is_lost
    }

    /// Renews the lease. Returns whether this host still holds it.
    async fn renew(&self, content: &SharedContent) -> bool {
        let (shape, progress) = (content.shape(), content.progress_now());
        let have = progress.prefix.max(u64::from(progress.pieces) * u64::from(shape.piece_length)).min(shape.length);
        match self.sharing.tracker.renew(&self.key, self.generation, have, Some(shape.length)).await {
            Ok(LeaseRenewal::Renewed) => true,
            Ok(LeaseRenewal::Ended | LeaseRenewal::Superseded) => false,
            Err(error) => {
                log::debug!("{}: the lease could not be renewed: {error}", self.key);
                true
            }
        }
    }
}

impl Drop for OwnLease {
    fn drop(&mut self) {
        self.sharing.tell(SeedingTask::Release { key: self.key, generation: self.generation });
    }
}
