//! The thread that announces and registers what this host offers.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tracker_protocol::{Event, InfoHash};

use super::SharingOptions;
use super::seeds::{OfferedBlob, SeedIndex};
use super::session::ShareSession;
use super::tracker_health::TrackerWatch;
use crate::digest::Digest;
use crate::swarm_tracker::{
    ClusterSecret, MetainfoPut, ShareKey, SharedMetainfo, SwarmAnnounce, SwarmTracker, TrackerError, TrackerFault,
};

/// Calls to the tracker at once.
const CALLS: usize = 8;
/// How often the tracker is asked whether it answers, and whether it has started again.
const BOOT_CHECK: Duration = Duration::from_secs(5);
/// The interval of announces if the tracker does not tell one.
const INTERVAL: Duration = Duration::from_mins(30);
/// At a tracker that has started again, what is not to be registered by this host is announced so much later.
const FIRST_ANNOUNCES: Duration = Duration::from_secs(1);
/// After an announce that failed.
const RETRY: Duration = Duration::from_secs(15);
/// A swarm in which this host has fetched is left after so long without a peer, or after [`LINGER_AT_MOST`].
const LINGER: Duration = Duration::from_secs(5);
const LINGER_AT_MOST: Duration = Duration::from_mins(10);

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
}

/// A blob that was fetched.
pub(super) struct StoredShare {
    pub(super) key: ShareKey,
    pub(super) digest: Digest,
    pub(super) metainfo: SharedMetainfo,
    /// The swarm in which it was fetched.
    pub(super) session: Option<ShareSession>,
}

struct Seeding {
    tracker: Arc<SwarmTracker>,
    seeds: Arc<SeedIndex>,
    health: Arc<TrackerWatch>,
    secret: Option<ClusterSecret>,
    is_expected: bool,
    has_warned: Cell<bool>,
}

/// When each torrent is announced next. Two of the same moment have different numbers.
#[derive(Default)]
struct Schedule {
    due: BTreeMap<(Instant, u64), InfoHash>,
    next: u64,
}

impl Schedule {
    fn add(&mut self, at: Instant, info_hash: InfoHash) {
        self.next += 1;
        self.due.insert((at, self.next), info_hash);
    }

    fn first(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Instant) -> Option<InfoHash> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// Starts the thread. It first reads which blobs are there.
pub(super) fn start(
    tracker: &Arc<SwarmTracker>,
    seeds: &Arc<SeedIndex>,
    options: &SharingOptions,
    health: &Arc<TrackerWatch>,
) -> io::Result<UnboundedSender<SeedingTask>> {
    let (sender, tasks) = unbounded_channel();
    let (is_expected, secret) = (options.is_expected, options.secret.clone());
    let seeding = Seeding {
        tracker: Arc::clone(tracker),
        seeds: Arc::clone(seeds),
        health: Arc::clone(health),
        secret: secret.clone(),
        is_expected,
        has_warned: Cell::default(),
    };
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    thread::Builder::new().name("seeding".to_owned()).spawn(move || {
        let read = |key: &ShareKey, file: &[u8]| SharedMetainfo::read(file, key, secret.as_ref()).ok();
        if let Err(error) = seeding.seeds.load(read) {
            log::warn!("what was stored before is not shared: {error}");
        }
        LocalSet::new().block_on(&runtime, Rc::new(seeding).run(tasks));
        runtime.shutdown_background();
    })?;
    Ok(sender)
}

impl Seeding {
    async fn run(self: Rc<Self>, mut tasks: UnboundedReceiver<SeedingTask>) {
        let mut boots = self.tracker.boot();
        let mut boot: Option<Arc<str>> = None;
        let mut schedule = Schedule::default();
        let (announced, mut next) = unbounded_channel();
        let mut boot_check = Instant::now();
        loop {
            let due = schedule.first().unwrap_or(boot_check).min(boot_check);
            tokio::select! {
                task = tasks.recv() => match task {
                    Some(task) => self.obey(task, &mut schedule),
                    None => return,
                },
                Some((at, info_hash)) = next.recv() => schedule.add(at, info_hash),
                Ok(()) = boots.changed() => {
                    let now = boots.borrow_and_update().clone();
                    if boot != now {
                        boot = now;
                        self.register(&mut schedule);
                    }
                }
                () = sleep_until(due) => {
                    let now = Instant::now();
                    if now >= boot_check {
                        boot_check = now + BOOT_CHECK;
                        let seeding = Rc::clone(&self);
                        spawn_local(async move { seeding.check_tracker().await });
                    }
                    let due: Vec<_> = std::iter::from_fn(|| schedule.take_due(now)).collect();
                    let (seeding, announced) = (Rc::clone(&self), announced.clone());
                    spawn_local(async move {
                        stream::iter(due).for_each_concurrent(CALLS, |info_hash| {
                            let (seeding, announced) = (&seeding, &announced);
                            async move {
                                if let Some(at) = seeding.announce(info_hash, None).await {
                                    let _ = announced.send((at, info_hash));
                                }
                            }
                        }).await;
                    });
                }
            }
        }
    }

    /// Finds out whether the tracker answers. Its boot id comes with the reply.
    async fn check_tracker(&self) {
        let mut checked = self.tracker.check().await;
        if let Err(TrackerError { fault: TrackerFault::Paused(pause), .. }) = &checked {
            // Another call has just failed. This one is to find out why.
            sleep(*pause).await;
            checked = self.tracker.check().await;
        }
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
        }
    }

    fn obey(self: &Rc<Self>, task: SeedingTask, schedule: &mut Schedule) {
        let seeding = Rc::clone(self);
        match task {
            SeedingTask::Stored(share) => {
                schedule.add(Instant::now() + INTERVAL, share.metainfo.info_hash());
                spawn_local(async move { seeding.stored(*share).await });
            }
            SeedingTask::Offer(blob) => {
                spawn_local(async move { seeding.offer(blob).await });
            }
            SeedingTask::Evicted(digest) => {
                for info_hash in self.seeds.remove(digest) {
                    let seeding = Rc::clone(self);
                    spawn_local(async move { seeding.stopped(info_hash).await });
                }
            }
            SeedingTask::Left(info_hash) => {
                if self.seeds.get(info_hash).is_none() {
                    spawn_local(async move { seeding.stopped(info_hash).await });
                }
            }
            SeedingTask::Release { key, generation } => {
                spawn_local(
                    async move { told("a lease was not ended", seeding.tracker.release(&key, generation).await) },
                );
            }
            SeedingTask::Complain(key) => {
                spawn_local(async move { told("the complaint was lost", seeding.tracker.complain(&key).await) });
            }
        }
    }

    /// Announces a blob that is complete, registers it, and stays in its swarm until those who fetch there are done.
    async fn stored(self: &Rc<Self>, share: StoredShare) {
        let StoredShare { key, digest, metainfo, session } = share;
        let blob = OfferedBlob { key, digest, length: metainfo.length() };
        let info_hash = metainfo.info_hash();
        self.seeds.insert(info_hash, blob);
        // Other hosts that find the torrent file must find a peer as well, so the announce comes first.
        let had_file = session.as_ref().is_some_and(ShareSession::had_file);
        let event = if had_file { Event::Completed } else { Event::Started };
        self.announce(info_hash, Some(event)).await;
        if !had_file {
            self.put(&key, metainfo.encode()).await;
        }
        let seeds = Arc::clone(&self.seeds);
        let kept = spawn_blocking(move || seeds.keep(blob, &metainfo)).await.map_err(io::Error::other).flatten();
        if let Err(error) = kept {
            log::warn!("{key}: after the next start it is not shared: {error}");
        }
        let Some(session) = session else { return };
        session.end_lease();
        let (begun, mut used) = (Instant::now(), Instant::now());
        while used.elapsed() < LINGER && begun.elapsed() < LINGER_AT_MOST {
            sleep(LINGER / 5).await;
            if session.peers() > 0 {
                used = Instant::now();
            }
        }
        if session.info_hash() != info_hash {
            self.stopped(session.info_hash()).await;
        }
    }

    /// Makes the torrent file of a blob that has none, and offers the blob.
    async fn offer(self: Rc<Self>, blob: OfferedBlob) {
        let seeds = Arc::clone(&self.seeds);
        let hashes = spawn_blocking(move || seeds.hashes(&blob)).await.map_err(io::Error::other).flatten();
        let OfferedBlob { key, digest, length } = blob;
        let metainfo = match hashes {
            Ok(Some(hashes)) => SharedMetainfo::new(&key, self.secret.as_ref(), length, hashes),
            Ok(None) => return,
            Err(error) => return log::warn!("{key}: not shared: {error}"),
        };
        match metainfo {
            Ok(metainfo) => self.stored(StoredShare { key, digest, metainfo, session: None }).await,
            Err(error) => log::warn!("{key}: not shared: {error}"),
        }
    }

    /// Registers all blobs at a tracker that has started again, and announces them. Other hosts that find a torrent file must
    /// find a peer as well, so each blob is announced before it is registered.
    fn register(self: &Rc<Self>, schedule: &mut Schedule) {
        let all = self.seeds.all();
        *schedule = Schedule::default();
        let seeding = Rc::clone(self);
        let keys: Vec<_> = all.iter().map(|(_, blob)| blob.key).collect();
        all.iter().for_each(|(info_hash, _)| schedule.add(Instant::now() + FIRST_ANNOUNCES, *info_hash));
        spawn_local(async move {
            let missing: HashSet<_> = match seeding.tracker.missing(&keys).await {
                Ok(missing) => missing.into_iter().collect(),
                Err(error) => return log::debug!("the blobs of this host could not be registered: {error}"),
            };
            let missing = all.iter().filter(|(_, blob)| missing.contains(&blob.key));
            let register = |(info_hash, blob): &(InfoHash, OfferedBlob)| seeding.register_one(*info_hash, blob.key);
            stream::iter(missing).for_each_concurrent(CALLS, register).await;
        });
    }

    /// Announces and registers a blob, by its file in the store.
    async fn register_one(&self, info_hash: InfoHash, key: ShareKey) {
        let seeds = Arc::clone(&self.seeds);
        self.announce(info_hash, Some(Event::Started)).await;
        match spawn_blocking(move || seeds.file(&key)).await.map_err(io::Error::other).flatten() {
            Ok(Some(file)) => self.put(&key, file).await,
            Ok(None) => {}
            Err(error) => log::warn!("{key}: not registered: {error}"),
        }
    }

    async fn put(&self, key: &ShareKey, file: Vec<u8>) {
        match self.tracker.put_metainfo(key, file.into()).await {
            Ok(MetainfoPut::New | MetainfoPut::Same) => {}
            Ok(MetainfoPut::Conflict) => log::warn!("the tracker has another torrent file of {key}"),
            Err(error) => log::debug!("{key}: not registered: {error}"),
        }
    }

    /// Announces a blob. Returns when to announce it again; `None`: it is gone.
    async fn announce(&self, info_hash: InfoHash, event: Option<Event>) -> Option<Instant> {
        self.seeds.get(info_hash)?;
        let announce = SwarmAnnounce { info_hash, event, uploaded: 0, downloaded: 0, left: 0, numwant: 0 };
        let pause = match self.tracker.announce(&announce).await {
            Ok(found) => found.interval.unwrap_or(INTERVAL),
            Err(error) => {
                log::debug!("{info_hash}: the announce failed: {error}");
                RETRY
            }
        };
        Some(Instant::now() + pause)
    }

    async fn stopped(&self, info_hash: InfoHash) {
        let event = Some(Event::Stopped);
        let announce = SwarmAnnounce { info_hash, event, uploaded: 0, downloaded: 0, left: 0, numwant: 0 };
        told("the end of a torrent was not announced", self.tracker.announce(&announce).await);
    }
}

fn told<T>(what: &str, result: Result<T, TrackerError>) {
    if let Err(error) = result {
        log::debug!("{what}: {error}");
    }
}
