//! What the thread that announces and registers is told.

use std::sync::mpsc::SyncSender;

use tracker_protocol::InfoHash;

use super::seeds::OfferedBlob;
use crate::digest::Digest;
use crate::swarm_tracker::{ShareKey, SharedMetainfo};

/// What the thread is told.
pub(super) enum SeedingTask {
    /// A blob is complete and stored.
    Stored(Box<StoredShare>),
    /// A blob was fetched without the swarm, or before there was one.
    Offer(OfferedBlob),
    /// A blob was removed from the store.
    Evicted(Digest),
    /// This host has left a swarm.
    Left(InfoHash),
    /// A lease ends.
    Release { key: ShareKey, generation: u64 },
    /// The swarm gave wrong bytes.
    Complain(ShareKey),
    /// The process ends. The thread ends when it has told the tracker what ended before, and drops the sender then.
    Stop(SyncSender<()>),
}

/// A blob that was fetched.
pub(super) struct StoredShare {
    pub(super) key: ShareKey,
    pub(super) digest: Digest,
    pub(super) metainfo: SharedMetainfo,
    /// The swarm in which it was fetched.
    pub(super) swarm: Option<Box<dyn SwarmStay>>,
}

/// A swarm in which this host has fetched a blob. The host stays in it as long as this is kept, for those who fetch there.
pub(super) trait SwarmStay: Send {
    /// Whether there was a torrent file at the beginning.
    fn had_file(&self) -> bool;

    /// The torrent of the swarm.
    fn info_hash(&self) -> InfoHash;

    /// How many peers are connected.
    fn peers(&self) -> usize;

    /// This host does not lead any more.
    fn end_lease(&self);
}
