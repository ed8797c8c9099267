//! How the hosts of a network share blobs: which host fetches a blob from its upstream, and how the other hosts get it.
//!
//! If some host has a blob, the tracker has its torrent file, and other hosts fetch the blob from peers
//! ([`ShareStart::Known`]). If no host has it, the tracker gives the lease to one host of each site. This host *leads*:
//! it fetches the blob from the upstream, and passes on each piece with its hash as soon as the piece is there. The
//! other hosts *follow*, in a swarm whose info-hash comes from the blob's key.
//!
//! - **As long as the swarm works, only the leader asks the upstream**, and only for pieces that no peer has. If the
//!   leader is gone, another host claims the lease, and fetches the pieces that no host has.
//! - **No pull is slower than without the swarm.** A host that gets nothing from the swarm asks the upstream itself,
//!   with or without the lease (`patience.rs`). Without a tracker, each host fetches everything from the upstream.
//! - **Hashes of pieces prove nothing**, because the leader sends them. The flight verifies the digest of the whole
//!   blob, and calls [`ShareSession::was_wrong`] if the digest differs.
//! - **A thread of its own offers complete blobs to other hosts** (`seeding.rs`). It announces every blob. When the
//!   tracker has restarted, the thread announces all blobs again, and registers those whose torrent files the tracker
//!   lacks. The tracker's replies also tell which blobs other hosts have. The store evicts those blobs first.

mod feeder;
mod lease;
mod patience;
mod reachability;
mod registration;
mod schedule;
mod seeding;
mod seeds;
mod session;
mod start;
mod tasks;
mod tracker_health;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tracker_protocol::InfoHash;

use crate::digest::Digest;
use crate::store::BlobStore;
use crate::swarm::{PeerSwarm, PeeringOptions, SwarmSample};
use crate::swarm_tracker::{ClusterSecret, ShareKey, SwarmTracker};

pub use feeder::PieceFeeder;
pub use lease::OwnLease;
pub use session::ShareSession;
pub use start::ShareStart;
pub use tracker_health::TrackerHealth;

use seeds::{OfferedBlob, SeedIndex};
use tasks::SeedingTask;
use tracker_health::TrackerWatch;

/// Shorter blobs are not shared, because finding a peer takes as long as fetching such a blob.
pub const SMALLEST: u64 = 256 * 1024;
/// How long a blob is fetched from its upstream alone after the swarm gave wrong bytes of it.
const DISTRUST: Duration = Duration::from_mins(10);

/// What this host needs to share blobs.
pub struct SharingOptions {
    /// How this host takes part in swarms.
    pub peering: PeeringOptions,
    /// The secret of the hosts that share, if they have one.
    pub secret: Option<ClusterSecret>,
    /// Whether the operator has named a tracker. Then a tracker that does not answer is logged as a warning.
    pub is_expected: bool,
}

/// This host's part in sharing: the swarms, the blobs that it offers, and the tracker.
pub struct Sharing {
    swarm: Arc<PeerSwarm>,
    tracker: Arc<SwarmTracker>,
    secret: Option<ClusterSecret>,
    seeds: Arc<SeedIndex>,
    seeding: UnboundedSender<SeedingTask>,
    health: Arc<TrackerWatch>,
    is_expected: bool,
    /// Blobs of which the swarm gave wrong bytes, and when it did.
    distrusted: Mutex<HashMap<ShareKey, Instant>>,
}

impl Sharing {
    /// Binds a port for peers, and begins to share the blobs of the store. `tracker` is called with the port, and makes
    /// the client of the tracker.
    pub fn start(
        options: SharingOptions,
        store: &BlobStore,
        tracker: impl FnOnce(u16) -> io::Result<SwarmTracker>,
    ) -> io::Result<Arc<Self>> {
        let seeds = Arc::new(SeedIndex::new(store.clone()));
        let swarm = Arc::new(PeerSwarm::start(options.peering.clone(), Arc::clone(&seeds) as _)?);
        let tracker = Arc::new(tracker(swarm.port())?);
        let health = Arc::<TrackerWatch>::default();
        let seeding = seeding::start(&tracker, &seeds, &options, &health)?;
        // The hook holds a weak sender, because the store outlives this value. The thread ends when this value is
        // dropped.
        let evicted = seeding.downgrade();
        store.on_removal(move |digest| {
            if let Some(seeding) = evicted.upgrade() {
                let _ = seeding.send(SeedingTask::Evicted(digest));
            }
        });
        let SharingOptions { secret, is_expected, .. } = options;
        let distrusted = Mutex::default();
        Ok(Arc::new(Self { swarm, tracker, secret, seeds, seeding, health, is_expected, distrusted }))
    }

    /// Returns the port on which peers reach this host.
    pub fn port(&self) -> u16 {
        self.swarm.port()
    }

    /// Returns what was sent to peers and received from them.
    pub fn sample(&self) -> SwarmSample {
        self.swarm.sample()
    }

    /// Returns how many blobs this host offers.
    pub fn seeds(&self) -> usize {
        self.seeds.count()
    }

    /// Returns whether the tracker answered this host's last question. This host asks every few seconds.
    pub fn tracker_health(&self) -> TrackerHealth {
        self.health.health()
    }

    /// Whether the operator has named a tracker.
    pub fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// Offers a blob of the store to other hosts, unless the blob is offered already or is shorter than [`SMALLEST`].
    pub fn offer(&self, key: ShareKey, digest: Digest, length: u64) {
        if length >= SMALLEST && self.seeds.is_new(&key) {
            self.tell(SeedingTask::Offer(OfferedBlob { key, digest, length }));
        }
    }

    /// Stops the thread that speaks to the tracker, at the end of the process. Blocks until the tracker knows which
    /// leases and swarms this host has given up, at most for `within`.
    pub fn stop(&self, within: Duration) {
        let (stopped, end) = sync_channel(0);
        self.tell(SeedingTask::Stop(stopped));
        // The thread sends nothing. It drops its end of the channel when it is done.
        if end.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            log::info!("the tracker does not answer: this host's leases are not released, and end after some seconds");
        }
    }

    fn is_distrusted(&self, key: &ShareKey) -> bool {
        let mut distrusted = self.distrusted.lock();
        distrusted.retain(|_, since| since.elapsed() < DISTRUST);
        distrusted.contains_key(key)
    }

    /// Gives a task to the thread that announces and registers blobs. On an error the thread has ended, and the task is
    /// not needed any more.
    fn tell(&self, task: SeedingTask) {
        let _ = self.seeding.send(task);
    }

    fn rendezvous(&self, key: &ShareKey) -> InfoHash {
        key.rendezvous(self.secret.as_ref())
    }
}

impl std::fmt::Debug for Sharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sharing")
    }
}

#[cfg(test)]
mod tests;
