//! The tasks of the thread that announces and registers blobs.

use std::sync::mpsc::SyncSender;

use tracker_protocol::InfoHash;

use super::seeds::OfferedBlob;
use crate::digest::Digest;
use crate::swarm_tracker::{ShareKey, SharedMetainfo};

/// A task of the thread that announces and registers blobs.
pub(super) enum SeedingTask {
    /// A blob is complete and stored.
    Stored(Box<StoredShare>),
    /// A blob of the store, which was fetched without the swarm, is to be offered.
    Offer(OfferedBlob),
    /// A blob was removed from the store.
    Evicted(Digest),
    /// This host has left a swarm.
    Left(InfoHash),
    /// A lease ends.
    Release { key: ShareKey, generation: u64 },
    /// The swarm gave wrong bytes.
    Complain(ShareKey),
    /// The process ends. The thread tells the tracker which leases and swarms have ended, drops this sender and ends.
    Stop(SyncSender<()>),
}

/// A blob that is complete and stored, with its torrent file.
pub(super) struct StoredShare {
    pub(super) key: ShareKey,
    pub(super) digest: Digest,
    pub(super) metainfo: SharedMetainfo,
    /// The swarm in which this host fetched the blob; `None` if it was fetched without a swarm.
    pub(super) swarm: Option<Box<dyn SwarmStay>>,
}

/// A swarm in which this host has fetched a blob. Until this value is dropped, this host stays, so that other hosts
/// there can finish their fetches.
pub(super) trait SwarmStay: Send {
    /// Returns whether there was a torrent file when this host joined.
    fn had_file(&self) -> bool;

    /// Returns the info-hash of the swarm.
    fn info_hash(&self) -> InfoHash;

    /// Returns how many peers are connected.
    fn peers(&self) -> usize;

    /// Gives up the lease, if this host holds one.
    fn end_lease(&self);
}
