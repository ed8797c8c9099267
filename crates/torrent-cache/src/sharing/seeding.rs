//! The thread that announces and registers what this host offers.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet, LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;
use tracker_protocol::{Event, InfoHash};

use super::SharingOptions;
use super::reachability::log_reachability;
use super::schedule::AnnounceSchedule;
use super::seeds::{OfferedBlob, SeedIndex};
use super::tasks::{SeedingTask, StoredShare};
use super::tracker_health::TrackerWatch;
use crate::digest::Digest;
use crate::swarm_tracker::{
    ClusterSecret, ShareKey, SharedMetainfo, SwarmAnnounce, SwarmPeers, SwarmTracker, TrackerError, TrackerFault,
};

/// The most announces and registrations at the same time. Releases, complaints and the `stopped` announce of a swarm
/// that this host has left do not count: they must not wait behind thousands of others.
pub(super) const CALLS: usize = 8;
/// How often the tracker is asked whether it answers, and whether it has started again.
const BOOT_CHECK: Duration = Duration::from_secs(5);
/// How often a tracker that does not answer is asked.
const DOWN_CHECK: Duration = Duration::from_secs(1);
/// The interval of announces if the tracker does not tell an interval.
const INTERVAL: Duration = Duration::from_mins(30);
/// The shortest interval of announces, even if the tracker asks for less.
const SHORTEST_INTERVAL: Duration = Duration::from_mins(1);
/// The pause after an announce that failed.
const RETRY: Duration = Duration::from_secs(15);
/// After a fetch, this host leaves the swarm once it has had no peer for this time, or after [`LINGER_AT_MOST`].
const LINGER: Duration = Duration::from_secs(5);
const LINGER_AT_MOST: Duration = Duration::from_mins(10);

pub(super) struct Seeding {
    pub(super) tracker: Arc<SwarmTracker>,
    pub(super) seeds: Arc<SeedIndex>,
    health: Arc<TrackerWatch>,
    secret: Option<ClusterSecret>,
    is_expected: bool,
    has_warned: Cell<bool>,
    /// Whether the tracker was already asked to connect to this host's port. The log gets the result once.
    has_checked_port: Cell<bool>,
    pub(super) calls: Semaphore,
    /// Blobs whose announce or registration has failed. This host announces and registers them again.
    pub(super) unregistered: RefCell<HashSet<ShareKey>>,
    /// Complaints, and the calls that tell the tracker that a lease or a swarm has ended. The process waits for them
    /// before it ends.
    endings: TaskTracker,
    /// Blobs whose pieces are to be hashed, one after the other: hashing takes the disk and a processor.
    offers: UnboundedSender<OfferedBlob>,
    announced: UnboundedSender<(InfoHash, Instant)>,
}

/// What the thread receives from its own tasks.
struct SeedingNews {
    offers: UnboundedReceiver<OfferedBlob>,
    announced: UnboundedReceiver<(InfoHash, Instant)>,
}

/// Starts the thread. The thread first reads which blobs of the store have torrent files.
pub(super) fn start(
    tracker: &Arc<SwarmTracker>,
    seeds: &Arc<SeedIndex>,
    options: &SharingOptions,
    health: &Arc<TrackerWatch>,
) -> io::Result<UnboundedSender<SeedingTask>> {
    let (sender, tasks) = unbounded_channel();
    let (is_expected, secret) = (options.is_expected, options.secret.clone());
    let ((to_offer, offers), (to_announce, announced)) = (unbounded_channel(), unbounded_channel());
    let seeding = Seeding {
        tracker: Arc::clone(tracker),
        seeds: Arc::clone(seeds),
        health: Arc::clone(health),
        secret: secret.clone(),
        is_expected,
        has_warned: Cell::default(),
        has_checked_port: Cell::default(),
        calls: Semaphore::new(CALLS),
        unregistered: RefCell::default(),
        endings: TaskTracker::new(),
        offers: to_offer,
        announced: to_announce,
    };
    let news = SeedingNews { offers, announced };
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    thread::Builder::new().name("seeding".to_owned()).spawn(move || {
        let read = |key: &ShareKey, file: &[u8]| SharedMetainfo::read(file, key, secret.as_ref()).ok();
        if let Err(error) = seeding.seeds.load(read) {
            log::warn!("blobs that were stored before this start are not shared: {error}");
        }
        LocalSet::new().block_on(&runtime, Rc::new(seeding).run(tasks, news));
        runtime.shutdown_background();
    })?;
    Ok(sender)
}

impl Seeding {
    async fn run(self: Rc<Self>, mut tasks: UnboundedReceiver<SeedingTask>, news: SeedingNews) {
        let SeedingNews { offers, mut announced } = news;
        spawn_local(Rc::clone(&self).make_offers(offers));
        let mut boots = self.tracker.boot();
        let mut registration: Option<JoinHandle<()>> = None;
        let mut schedule = AnnounceSchedule::default();
        let mut shares = JoinSet::new();
        let mut boot_check = Instant::now();
        loop {
            let due = schedule.first().unwrap_or(boot_check).min(boot_check);
            tokio::select! {
                task = tasks.recv() => match task {
                    Some(SeedingTask::Stop(stopped)) => {
                        shares.shutdown().await;
                        self.end(tasks, &mut shares).await;
                        return drop(stopped);
                    }
                    Some(task) => self.obey(task, &mut shares),
                    None => return,
                },
                Some(ended) = shares.join_next() => {
                    if ended.is_err() {
                        log::error!("the task that shares a blob has panicked");
                    }
                }
                Some((info_hash, at)) = announced.recv() => schedule.set(info_hash, at),
                Ok(()) = boots.changed() => {
                    boots.mark_unchanged();
                    schedule.clear();
                    let seeding = Rc::clone(&self);
                    if let Some(before) = registration.replace(spawn_local(async move { seeding.register().await })) {
                        before.abort();
                    }
                }
                () = sleep_until(due) => {
                    let now = Instant::now();
                    if now >= boot_check {
                        boot_check = now + if self.health.is_up() { BOOT_CHECK } else { DOWN_CHECK };
                        let seeding = Rc::clone(&self);
                        spawn_local(async move { seeding.check_tracker().await });
                    }
                    let due = schedule.take_due(now);
                    if !due.is_empty() {
                        let seeding = Rc::clone(&self);
                        spawn_local(async move { seeding.announce_all(due).await });
                    }
                }
            }
        }
    }

    /// Does the queued tasks, and waits until the tracker knows which leases and swarms have ended. The caller has
    /// cancelled the tasks of `shares`. Each lease that these tasks held has queued a `Release`.
    async fn end(self: &Rc<Self>, mut tasks: UnboundedReceiver<SeedingTask>, shares: &mut JoinSet<()>) {
        while let Ok(task) = tasks.try_recv() {
            match task {
                // Dropping the share drops its lease, which queues a `Release` for this loop.
                SeedingTask::Stored(share) => drop(share),
                task => self.obey(task, shares),
            }
        }
        self.endings.close();
        self.endings.wait().await;
    }

    /// Asks the tracker whether it answers. The reply has the tracker's boot id, which shows a restart.
    async fn check_tracker(&self) {
        let checked = patiently(|| self.tracker.check()).await;
        let (was_up, is_up) = (self.health.note(&checked), checked.is_ok());
        match checked {
            Ok(()) if !was_up => log::info!("the tracker answers: blobs are shared with the other hosts"),
            Err(error) => {
                let is_new = !self.has_warned.replace(true) && self.is_expected;
                if was_up || is_new {
                    let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
                    log::warn!("blobs are not shared with other hosts: {error}{remedy}");
                }
            }
            Ok(()) => {}
        }
        if is_up {
            self.has_warned.set(false);
            if !self.has_checked_port.replace(true) {
                log_reachability(&self.tracker).await;
            }
            self.register_again().await;
        }
    }

    fn obey(self: &Rc<Self>, task: SeedingTask, shares: &mut JoinSet<()>) {
        let seeding = Rc::clone(self);
        match task {
            SeedingTask::Stored(share) => {
                shares.spawn_local(async move { seeding.stored(*share).await });
            }
            // The receiver lives as long as the loop.
            SeedingTask::Offer(blob) => drop(self.offers.send(blob)),
            SeedingTask::Evicted(digest) => self.forget(digest),
            SeedingTask::Left(info_hash) => {
                if self.seeds.get(info_hash).is_none() {
                    self.endings.spawn_local(async move { seeding.stopped(info_hash).await });
                }
            }
            SeedingTask::Release { key, generation } => {
                self.endings.spawn_local(async move {
                    told("a lease was not released", seeding.tracker.release(&key, generation).await);
                });
            }
            SeedingTask::Complain(key) => {
                self.endings.spawn_local(async move {
                    told("the complaint about wrong bytes failed", seeding.tracker.complain(&key).await);
                });
            }
            SeedingTask::Stop(_) => {}
        }
    }

    /// Stops offering a blob that is gone from the store.
    fn forget(self: &Rc<Self>, digest: Digest) {
        for info_hash in self.seeds.remove(digest) {
            let seeding = Rc::clone(self);
            spawn_local(async move {
                let _call = seeding.calls.acquire().await;
                seeding.stopped(info_hash).await;
            });
        }
    }

    /// Announces a complete blob and registers it. Then stays in the swarm of the fetch until all peers there have
    /// left, but at most for [`LINGER_AT_MOST`].
    async fn stored(self: &Rc<Self>, share: StoredShare) {
        let StoredShare { key, digest, metainfo, swarm } = share;
        let blob = OfferedBlob { key, digest, length: metainfo.length() };
        let info_hash = metainfo.info_hash();
        self.seeds.insert(info_hash, blob);
        // Announced before it is registered: a host that finds the torrent file must find a peer as well.
        let had_file = swarm.as_ref().is_some_and(|swarm| swarm.had_file());
        let event = if had_file { Event::Completed } else { Event::Started };
        self.announce(info_hash, Some(event)).await;
        if !had_file {
            self.put(&key, metainfo.encode()).await;
        }
        let seeds = Arc::clone(&self.seeds);
        match spawn_blocking(move || seeds.keep(blob, &metainfo)).await.map_err(io::Error::other).flatten() {
            Ok(true) => {}
            // The blob was evicted before this host began to offer it.
            Ok(false) => self.forget(digest),
            Err(error) => log::warn!("{key}: shared only until the next restart, because the store failed: {error}"),
        }
        let Some(swarm) = swarm else { return };
        swarm.end_lease();
        let (begun, mut used) = (Instant::now(), Instant::now());
        while used.elapsed() < LINGER && begun.elapsed() < LINGER_AT_MOST {
            sleep(LINGER / 5).await;
            if swarm.peers() > 0 {
                used = Instant::now();
            }
        }
        if swarm.info_hash() != info_hash {
            self.stopped(swarm.info_hash()).await;
        }
    }

    /// Makes the torrent files of blobs that have none, one after the other, and offers the blobs.
    async fn make_offers(self: Rc<Self>, mut offers: UnboundedReceiver<OfferedBlob>) {
        while let Some(blob) = offers.recv().await {
            // Without a tracker no other host finds this one, so the hashing can wait.
            self.health.answers().await;
            match self.hash(blob).await {
                Ok(Some(metainfo)) => {
                    let OfferedBlob { key, digest, .. } = blob;
                    let (seeding, share) = (Rc::clone(&self), StoredShare { key, digest, metainfo, swarm: None });
                    spawn_local(async move { seeding.stored(share).await });
                }
                Ok(None) => self.seeds.not_offered(&blob.key),
                Err(error) => {
                    self.seeds.not_offered(&blob.key);
                    log::warn!("{}: not shared: {error}", blob.key);
                }
            }
        }
    }

    /// Makes the torrent file of a blob. Returns `None` if the blob is gone.
    async fn hash(&self, blob: OfferedBlob) -> io::Result<Option<SharedMetainfo>> {
        let seeds = Arc::clone(&self.seeds);
        let hashes = spawn_blocking(move || seeds.hashes(&blob)).await.map_err(io::Error::other).flatten()?;
        let metainfo = hashes.map(|hashes| SharedMetainfo::new(&blob.key, self.secret.as_ref(), blob.length, hashes));
        metainfo.transpose().map_err(io::Error::other)
    }

    async fn announce_all(&self, torrents: Vec<InfoHash>) {
        let announce = |info_hash| async move {
            self.announce(info_hash, None).await;
        };
        stream::iter(torrents).for_each_concurrent(CALLS, announce).await;
    }

    /// Announces a blob, unless it is gone, and schedules the next announce. Returns whether the announce succeeded.
    pub(super) async fn announce(&self, info_hash: InfoHash, event: Option<Event>) -> bool {
        let _call = self.calls.acquire().await;
        if self.seeds.get(info_hash).is_none() {
            return false;
        }
        let announced = patiently(|| self.tell(info_hash, event)).await;
        let is_announced = announced.is_ok();
        let pause = match announced {
            Ok(found) => {
                self.seeds.counted(info_hash, found.seeds);
                found.interval.unwrap_or(INTERVAL).max(SHORTEST_INTERVAL)
            }
            Err(error) => {
                log::debug!("{info_hash}: the announce failed: {error}");
                RETRY
            }
        };
        // The receiver lives as long as the loop.
        let _ = self.announced.send((info_hash, Instant::now() + pause));
        is_announced
    }

    async fn stopped(&self, info_hash: InfoHash) {
        told("the stopped announce failed", self.tell(info_hash, Some(Event::Stopped)).await);
    }

    /// Announces a torrent with `left=0` and `numwant=0`: this host has the whole blob and wants no peers.
    async fn tell(&self, info_hash: InfoHash, event: Option<Event>) -> Result<SwarmPeers, TrackerError> {
        let announce = SwarmAnnounce { info_hash, event, uploaded: 0, downloaded: 0, left: 0, numwant: 0 };
        self.tracker.announce(&announce).await
    }
}

/// Makes a call. If the tracker's client is paused after another call failed, waits for the end of the pause and makes
/// the call once more.
async fn patiently<T, F: Future<Output = Result<T, TrackerError>>>(call: impl Fn() -> F) -> Result<T, TrackerError> {
    match call().await {
        Err(TrackerError { fault: TrackerFault::Paused(pause), .. }) => {
            sleep(pause).await;
            call().await
        }
        outcome => outcome,
    }
}

fn told<T>(what: &str, result: Result<T, TrackerError>) {
    if let Err(error) = result {
        log::debug!("{what}: {error}");
    }
}
