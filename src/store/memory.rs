//! The TTL cache of swarms.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};

use super::swarm::Swarm;
use super::{Action, Age, Announcement, Moment, Picked};
use crate::bittorrent::{InfoHash, SwarmCounts};

/// What the store is told once.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How long a peer is kept after its latest announce. `-a`, `PEER_AGE`; 180 minutes.
    pub peer_age: Duration,
    /// Peers that are kept at most; a swarm counts as one peer at least. `--max-peers`, `MAX_PEERS`; 2 million.
    pub max_peers: u64,
}

/// The swarms in memory.
///
/// One cache entry is one swarm, because an entry of moka's costs five times what a peer does. Its weight is the number
/// of peers that it has room for; the cache's admission policy (TinyLFU) decides which swarms stay when the
/// room runs out. moka's own clock only decides when an abandoned swarm is dropped; whether a peer is still told is decided here.
#[derive(Debug)]
pub struct Store {
    swarms: Cache<InfoHash, Arc<Cell>, foldhash::fast::RandomState>,
    writers: [Mutex<()>; WRITERS],
    age: Age,
    tally: Arc<Tally>,
}

/// Locks for putting swarms into the cache, each for its share of the info-hashes.
const WRITERS: usize = 64;

/// A swarm in its lock. A plain mutex: it is held for about a microsecond, and never across an await.
#[derive(Debug, Default)]
struct Cell(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    swarm: Swarm,
    /// The weight that the cache was told, or is about to be.
    weight: u32,
    /// The cache has dropped this swarm: whoever still holds it must look it up anew.
    dropped: bool,
}

/// How many swarms and peers there are. Kept by hand: to walk the cache would take a microsecond a swarm.
#[derive(Debug, Default)]
struct Tally {
    swarms: AtomicI64,
    peers: [[AtomicI64; 2]; 2],
    evicted: AtomicI64,
}

/// How many swarms and peers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Swarms, empty ones that have not yet been dropped included.
    pub swarms: i64,
    /// Peers: IPv4 and IPv6, of each the seeds and the others.
    pub peers: [[i64; 2]; 2],
    /// Swarms that were dropped for want of room, since the start.
    pub evicted: i64,
}

impl Store {
    /// An empty store.
    pub fn new(options: StoreOptions) -> Self {
        let tally = Arc::new(Tally::default());
        let listener = {
            let tally = Arc::clone(&tally);
            move |_, cell: Arc<Cell>, cause| tally.drop_swarm(&cell, cause)
        };
        let swarms = Cache::builder()
            .max_capacity(options.max_peers)
            .weigher(|_, cell: &Arc<Cell>| cell.0.lock().weight)
            .time_to_idle(options.peer_age)
            // With a listener, moka bounds the time that one caller spends on expiry.
            .eviction_listener(listener)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { swarms, writers: std::array::from_fn(|_| Mutex::new(())), age: Age::new(options.peer_age), tally }
    }

    /// Carries out an announce and tells who else is in the swarm.
    pub fn announce(&self, now: Moment, info_hash: InfoHash, announcement: &Announcement) -> Picked {
        let creates = matches!(announcement.action, Action::Stay { .. }) && announcement.port.is_some();
        let mut found = self.swarms.get(&info_hash);
        loop {
            let cell = match found {
                Some(cell) => cell,
                None if creates => self.living(info_hash),
                None => return Picked::default(),
            };
            let mut inner = cell.0.lock();
            if inner.dropped {
                // Dropped between the look-up and the lock.
                found = None;
                continue;
            }
            let picked = self.tally.count(&mut inner.swarm, |swarm| swarm.announce(now, self.age, announcement));
            let outgrown = inner.reweigh();
            drop(inner);
            if outgrown {
                self.tell_weight(info_hash, &cell);
            }
            return picked;
        }
    }

    /// The counts of one swarm; zeros when nobody has announced it.
    pub fn scrape(&self, now: Moment, info_hash: InfoHash) -> SwarmCounts {
        let Some(cell) = self.swarms.get(&info_hash) else { return SwarmCounts::default() };
        let mut inner = cell.0.lock();
        if inner.dropped {
            return SwarmCounts::default();
        }
        self.tally.count(&mut inner.swarm, |swarm| {
            swarm.sweep(now, self.age);
            swarm.counts()
        })
    }

    /// How many swarms and peers there are.
    pub fn totals(&self) -> Totals {
        let load = |counter: &AtomicI64| counter.load(Relaxed);
        Totals {
            swarms: load(&self.tally.swarms),
            peers: self.tally.peers.each_ref().map(|family| family.each_ref().map(load)),
            evicted: load(&self.tally.evicted),
        }
    }

    /// Drops abandoned swarms. moka does this on its callers' time otherwise; to be called now and then.
    pub fn housekeep(&self) {
        self.swarms.run_pending_tasks();
    }

    /// The swarm, new if there is none, or only one that was dropped and put back: see [`Self::tell_weight`].
    fn living(&self, info_hash: InfoHash) -> Arc<Cell> {
        let _writer = self.writer(info_hash);
        // `contains_key` is no use of the swarm to moka. The announce has been counted as one; a second count for what is new
        // would make a flood of info-hashes look as if each had been asked for twice.
        let known = self.swarms.contains_key(&info_hash).then(|| self.swarms.get(&info_hash)).flatten();
        if let Some(cell) = known.filter(|cell| !cell.0.lock().dropped) {
            return cell;
        }
        let cell = Arc::new(Cell(Mutex::new(Inner { weight: 1, ..Inner::default() })));
        self.tally.swarms.fetch_add(1, Relaxed);
        self.swarms.insert(info_hash, Arc::clone(&cell));
        cell
    }

    /// Puts the same swarm into the cache again, which is how moka learns of a new weight, unless it is no longer there.
    /// moka may still drop it between the look and the put; then a dropped swarm is in the cache until its next
    /// announce replaces it.
    fn tell_weight(&self, info_hash: InfoHash, cell: &Arc<Cell>) {
        let _writer = self.writer(info_hash);
        if self.swarms.get(&info_hash).is_some_and(|current| Arc::ptr_eq(&current, cell)) {
            self.swarms.insert(info_hash, Arc::clone(cell));
        }
    }

    /// Whoever puts a swarm into the cache holds this: no two do so for one torrent at a time. Taken before a swarm's
    /// lock, never after.
    fn writer(&self, info_hash: InfoHash) -> Option<MutexGuard<'_, ()>> {
        let InfoHash([first, ..]) = info_hash;
        self.writers.get(usize::from(first) % WRITERS).map(Mutex::lock)
    }
}

impl Inner {
    /// Whether the cache must be told a new weight. It leaves some room, so that a growing swarm is not weighed at
    /// every peer.
    fn reweigh(&mut self) -> bool {
        let peers = u32::try_from(self.swarm.len()).unwrap_or(u32::MAX).max(1);
        let changed = peers > self.weight || peers < self.weight / 2;
        if changed {
            self.weight = peers.saturating_add(peers / 4);
        }
        changed
    }
}

impl Tally {
    /// Does something to a swarm and keeps count of what it did. Under the swarm's lock, so that no peer is counted
    /// twice or never.
    fn count<T>(&self, swarm: &mut Swarm, change: impl FnOnce(&mut Swarm) -> T) -> T {
        let before = swarm.census();
        let result = change(swarm);
        self.add(before, swarm.census());
        result
    }

    fn add(&self, before: [[usize; 2]; 2], after: [[usize; 2]; 2]) {
        for (counters, (before, after)) in self.peers.iter().zip(before.into_iter().zip(after)) {
            for (counter, (before, after)) in counters.iter().zip(before.into_iter().zip(after)) {
                if before != after {
                    counter.fetch_add(signed(after) - signed(before), Relaxed);
                }
            }
        }
    }

    fn drop_swarm(&self, cell: &Cell, cause: moka::notification::RemovalCause) {
        use moka::notification::RemovalCause::{Replaced, Size};
        let mut inner = cell.0.lock();
        // Replaced by itself, with another weight; or dropped before, and put back: see `Store::tell_weight`.
        if cause == Replaced || inner.dropped {
            return;
        }
        inner.dropped = true;
        self.evicted.fetch_add(i64::from(cause == Size), Relaxed);
        self.add(inner.swarm.census(), Default::default());
        self.swarms.fetch_sub(1, Relaxed);
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
