//! What a host knows of a blob when it begins to fetch the blob.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Sharing;
use super::lease::OwnLease;
use crate::swarm::PieceHash;
use crate::swarm_tracker::{LeaseClaim, LeaseView, ShareKey, SharedMetainfo, TrackerError};

/// How long a fetch waits for the tracker. Waiting longer costs more than the swarm saves.
const PATIENCE: Duration = Duration::from_millis(300);

/// How a blob is shared at this moment.
#[derive(Debug)]
pub enum ShareStart {
    /// Other hosts have the blob. This is its torrent file.
    Known(SharedMetainfo),
    /// No host has the blob, and this host is to fetch it.
    Lead(OwnLease),
    /// Another host fetches the blob.
    Follow(LeaseView),
}

impl ShareStart {
    /// Returns the blob's length, if it is known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Known(metainfo) => Some(metainfo.length()),
            Self::Lead(_) => None,
            Self::Follow(lease) => lease.size,
        }
    }

    /// Returns the hashes of all pieces, if other hosts have the blob.
    pub fn hashes(&self) -> Vec<PieceHash> {
        match self {
            Self::Known(metainfo) => metainfo.piece_hashes().to_vec(),
            Self::Lead(_) | Self::Follow(_) => Vec::new(),
        }
    }

    /// Notes that this host fetches the blob for itself, because the blob is too small or its length is not known.
    /// Returns the lease if this host holds it. Other hosts see the length in the lease, so they do not wait for this
    /// host.
    pub async fn alone(self, length: Option<u64>) -> Option<OwnLease> {
        let Self::Lead(lease) = self else { return None };
        lease.tell(length).await;
        Some(lease)
    }
}

impl Sharing {
    /// Asks the tracker how this blob is shared. Returns `None` to fetch it without the swarm: the tracker does not
    /// answer, or the swarm gave wrong bytes of it.
    pub async fn begin(self: &Arc<Self>, key: &ShareKey) -> Option<ShareStart> {
        if self.is_distrusted(key) || !self.health.is_up() {
            return None;
        }
        // A task of its own, which goes on after the timeout. It drops a lease that is granted too late, so that other
        // hosts do not wait for this host.
        let (sharing, key) = (Arc::clone(self), *key);
        let asked = tokio::spawn(async move { sharing.ask(&key).await });
        match timeout(PATIENCE, asked)
            .await
            .map(|asked| asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())))
        {
            Ok(Ok(start)) => return Some(start),
            Ok(Err(error)) => log::debug!("{key}: fetched without the swarm: {error}"),
            Err(_) => log::debug!("{key}: fetched without the swarm: the tracker does not answer within {PATIENCE:?}"),
        }
        None
    }

    async fn ask(self: &Arc<Self>, key: &ShareKey) -> Result<ShareStart, TrackerError> {
        if let Some(file) = self.tracker.metainfo(key).await? {
            match SharedMetainfo::read(&file, key, self.secret.as_ref()) {
                Ok(metainfo) => return Ok(ShareStart::Known(metainfo)),
                Err(error) => log::warn!("the torrent file of {key} is not used: {error}"),
            }
        }
        self.claim(key, None).await
    }

    /// Claims the lease.
    pub(super) async fn claim(self: &Arc<Self>, key: &ShareKey, size: Option<u64>) -> Result<ShareStart, TrackerError> {
        Ok(match self.tracker.claim(key, Some(self.rendezvous(key)), size).await? {
            LeaseClaim::Granted { generation, .. } => ShareStart::Lead(OwnLease::new(self, *key, generation)),
            LeaseClaim::Held(lease) => ShareStart::Follow(lease),
        })
    }
}
