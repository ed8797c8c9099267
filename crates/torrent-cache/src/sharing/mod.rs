//! How the hosts of a network share blobs: which of them fetches a blob from its upstream, and how the others get it.
//!
//! A blob that some host has has a torrent file at the tracker, and is fetched from peers ([`ShareStart::Known`]). For one
//! that no host has, one host of each site holds the lease. It *leads*: it fetches from the upstream, and gives each piece
//! with its hash to the others as soon as it has it. They *follow*, in a swarm whose info-hash comes from the blob's key.
//!
//! - **As long as the swarm works, the leader alone asks the upstream**, and only for pieces that no peer has. A host whose leader is gone asks
//!   for the lease and goes on where the network's bytes end.
//! - **No pull is slower than without the swarm.** A host that gets nothing asks the upstream itself, with or without the
//!   lease: see `patience.rs`. Without a tracker everything comes from the upstream.
//! - **Hashes of pieces prove nothing.** They come from the leader. The owner of the content compares the whole with its
//!   digest, and calls [`ShareSession::was_wrong`] if it differs.
//! - **What is complete is shared on**, by a thread of its own (`seeding.rs`): it announces every blob, and registers all of
//!   them again at a tracker that has started again. The replies tell which blobs other hosts have, too: the store evicts
//!   those first.

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

/// Blobs below this length are not shared: to find a peer takes as long as to fetch them.
pub const SMALLEST: u64 = 256 * 1024;
/// After wrong bytes a blob is fetched from its upstream alone for so long.
const DISTRUST: Duration = Duration::from_mins(10);

/// What this host needs to share blobs.
pub struct SharingOptions {
    /// How it takes part in swarms.
    pub peering: PeeringOptions,
    /// The secret of the hosts that share, if they have one.
    pub secret: Option<ClusterSecret>,
    /// Whether the operator has named a tracker. One that does not answer is worth a warning then.
    pub is_expected: bool,
}

/// All that this host shares.
pub struct Sharing {
    swarm: Arc<PeerSwarm>,
    tracker: Arc<SwarmTracker>,
    secret: Option<ClusterSecret>,
    seeds: Arc<SeedIndex>,
    seeding: UnboundedSender<SeedingTask>,
    health: Arc<TrackerWatch>,
    is_expected: bool,
    /// Blobs of which the swarm gave wrong bytes, and since when.
    distrusted: Mutex<HashMap<ShareKey, Instant>>,
}

impl Sharing {
    /// Binds a port for peers, and begins to share what the store has. `tracker` makes the client of the tracker, which
    /// must know the port.
    ///
    /// # Errors
    /// No port is free, or no thread can be started.
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
        // The store outlives the thread, which ends when this value is dropped.
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

    /// The port on which peers reach this host.
    pub fn port(&self) -> u16 {
        self.swarm.port()
    }

    /// What was sent to peers and received from them.
    pub fn sample(&self) -> SwarmSample {
        self.swarm.sample()
    }

    /// How many blobs this host offers.
    pub fn seeds(&self) -> usize {
        self.seeds.count()
    }

    /// How the tracker did when it was asked last, a few seconds ago.
    pub fn tracker_health(&self) -> TrackerHealth {
        self.health.health()
    }

    /// Whether the operator has named a tracker.
    pub fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// Offers a blob of the store to other hosts, unless it is offered already, or too short.
    pub fn offer(&self, key: ShareKey, digest: Digest, length: u64) {
        if length >= SMALLEST && self.seeds.is_new(&key) {
            self.tell(SeedingTask::Offer(OfferedBlob { key, digest, length }));
        }
    }

    /// Stops the thread that speaks to the tracker, at the end of the process. Blocks until the tracker was told of the leases
    /// and swarms that this host has given up, but no longer than `within`.
    pub fn stop(&self, within: Duration) {
        let (stopped, end) = sync_channel(0);
        self.tell(SeedingTask::Stop(stopped));
        // The thread sends nothing: it drops its end.
        if end.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            log::info!("the tracker does not answer: other hosts take over this host's leases after some seconds");
        }
    }

    fn is_distrusted(&self, key: &ShareKey) -> bool {
        let mut distrusted = self.distrusted.lock();
        distrusted.retain(|_, since| since.elapsed() < DISTRUST);
        distrusted.contains_key(key)
    }

    /// An error means that the thread has ended. Then there is nothing to do.
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
