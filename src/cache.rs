//! One thing per torrent, for as long as somebody asks for it: the TTL cache under what is known of upstream trackers. The
//! local swarms, of which there are more and smaller ones, have one of their own (`store::memory`).
//!
//! One cache entry is one torrent, because an entry of moka's costs five times what a peer does. Each has a weight,
//! which may change; the cache's admission policy (`TinyLFU`) decides which torrents stay when the room runs out, so that
//! a flood of info-hashes that are announced once each does not push out those that people use.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};

use crate::bittorrent::InfoHash;

/// Locks for putting things into the cache, each for its share of the info-hashes.
const WRITERS: usize = 64;

/// How much room something takes, in the unit of the cache's capacity.
pub trait Weigh {
    /// At present. It may change whenever the thing does.
    fn weight(&self) -> u32;
}

/// Things in memory by torrent.
pub struct TorrentCache<T> {
    cells: Cache<InfoHash, Arc<Cell<T>>, foldhash::fast::RandomState>,
    writers: [Mutex<()>; WRITERS],
    count: Arc<Count>,
}

/// One torrent's thing, found without a look-up.
#[derive(Debug)]
pub struct Held<T> {
    info_hash: InfoHash,
    cell: Arc<Cell<T>>,
}

/// One thing in its lock. A plain mutex: it is held for microseconds, and never across an await.
#[derive(Debug, Default)]
struct Cell<T>(Mutex<Inner<T>>);

#[derive(Debug, Default)]
struct Inner<T> {
    thing: T,
    /// The weight that the cache was told, or is about to be.
    weight: u32,
    /// The cache has dropped this thing: whoever still holds it must look it up anew.
    dropped: bool,
}

/// Kept by hand: to walk the cache would take a microsecond a torrent.
#[derive(Debug, Default)]
struct Count {
    torrents: AtomicI64,
    evicted: AtomicI64,
}

impl<T: Weigh + Default + Send + 'static> TorrentCache<T> {
    /// An empty cache for things of `capacity` together, each of which is kept until nobody has asked for it for
    /// `idle`. `on_drop` sees each when it goes.
    pub fn new(capacity: u64, idle: Duration, on_drop: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        let count = Arc::new(Count::default());
        let listener = {
            let count = Arc::clone(&count);
            move |_, cell: Arc<Cell<T>>, cause| {
                let mut inner = cell.0.lock();
                // Replaced by itself, with another weight; or dropped before, and put back: see `tell_weight`.
                if cause == RemovalCause::Replaced || inner.dropped {
                    return;
                }
                inner.dropped = true;
                count.evicted.fetch_add(i64::from(cause == RemovalCause::Size), Relaxed);
                count.torrents.fetch_sub(1, Relaxed);
                on_drop(&mut inner.thing);
            }
        };
        let cells = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, cell: &Arc<Cell<T>>| cell.0.lock().weight)
            .time_to_idle(idle)
            // With a listener, moka bounds the time that one caller spends on expiry.
            .eviction_listener(listener)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { cells, writers: std::array::from_fn(|_| Mutex::new(())), count }
    }

    /// Does something to a torrent's thing, which is new if there is none.
    pub fn with<R>(&self, info_hash: InfoHash, change: impl FnOnce(&mut T) -> R) -> R {
        let (mut found, mut change) = (self.cells.get(&info_hash), change);
        loop {
            let cell = found.take().unwrap_or_else(|| self.living(info_hash));
            match self.change(info_hash, &cell, change) {
                Ok(result) => return result,
                Err(again) => change = again,
            }
        }
    }

    /// The same if there is such a thing.
    pub fn with_known<R>(&self, info_hash: InfoHash, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.change(info_hash, &self.cells.get(&info_hash)?, change).ok()
    }

    /// Drops what nobody asks for. moka does this on its callers' time otherwise; to be called now and then.
    pub fn housekeep(&self) {
        self.cells.run_pending_tasks();
    }

    /// The torrents that are known at present, in no order. To look at them so is no use of them to the cache.
    pub fn iter(&self) -> impl Iterator<Item = Held<T>> + '_ {
        self.cells.iter().map(|(info_hash, cell)| Held { info_hash: *info_hash, cell })
    }

    /// Does something to a torrent's thing, unless it has been dropped.
    pub fn with_held<R>(&self, held: &Held<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.change(held.info_hash, &held.cell, change).ok()
    }

    /// How many torrents there are, those included that nobody asks for and that have not yet been dropped.
    pub fn len(&self) -> i64 {
        self.count.torrents.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Torrents that were dropped for want of room, since the start.
    pub fn evicted(&self) -> i64 {
        self.count.evicted.load(Relaxed)
    }

    /// Gives `change` back when the cell was dropped between the look-up and the lock.
    fn change<R, F: FnOnce(&mut T) -> R>(&self, info_hash: InfoHash, cell: &Arc<Cell<T>>, change: F) -> Result<R, F> {
        let mut inner = cell.0.lock();
        if inner.dropped {
            return Err(change);
        }
        let result = change(&mut inner.thing);
        let outgrown = inner.reweigh();
        drop(inner);
        if outgrown {
            self.tell_weight(info_hash, cell);
        }
        Ok(result)
    }

    /// The torrent's cell, new if there is none, or only one that was dropped and put back: see [`Self::tell_weight`].
    fn living(&self, info_hash: InfoHash) -> Arc<Cell<T>> {
        let _writer = self.writer(info_hash);
        // `contains_key` is no use of the torrent to moka. The look-up before has been counted as one; a second count for
        // what is new would make a flood of info-hashes look as if each had been asked for twice.
        let known = self.cells.contains_key(&info_hash).then(|| self.cells.get(&info_hash)).flatten();
        if let Some(cell) = known.filter(|cell| !cell.0.lock().dropped) {
            return cell;
        }
        let thing = T::default();
        let weight = thing.weight().max(1);
        let cell = Arc::new(Cell(Mutex::new(Inner { thing, weight, dropped: false })));
        self.count.torrents.fetch_add(1, Relaxed);
        self.cells.insert(info_hash, Arc::clone(&cell));
        cell
    }

    /// Puts the same cell into the cache again, which is how moka learns of a new weight, unless it is no longer there.
    /// moka may still drop it between the look and the put; then a dropped cell is in the cache until its next use
    /// replaces it.
    fn tell_weight(&self, info_hash: InfoHash, cell: &Arc<Cell<T>>) {
        let _writer = self.writer(info_hash);
        if self.cells.get(&info_hash).is_some_and(|current| Arc::ptr_eq(&current, cell)) {
            self.cells.insert(info_hash, Arc::clone(cell));
        }
    }

    /// Whoever puts a cell into the cache holds this: no two do so for one torrent at a time. Taken before a cell's
    /// lock, never after.
    fn writer(&self, info_hash: InfoHash) -> Option<MutexGuard<'_, ()>> {
        let InfoHash([first, ..]) = info_hash;
        self.writers.get(usize::from(first) % WRITERS).map(Mutex::lock)
    }
}

impl<T: Weigh> Inner<T> {
    /// Whether the cache must be told a new weight. It leaves some room, so that what grows is not weighed at every
    /// step.
    fn reweigh(&mut self) -> bool {
        let weight = self.thing.weight().max(1);
        let changed = weight > self.weight || weight < self.weight / 2;
        if changed {
            self.weight = weight.saturating_add(weight / 4);
        }
        changed
    }
}

impl<T> fmt::Debug for TorrentCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorrentCache").field("count", &self.count).finish_non_exhaustive()
    }
}
