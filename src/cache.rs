//! Keeps one value per torrent while the torrent is used: a TTL cache of what forwarding keeps. Local swarms are
//! smaller and more numerous, so they have a cache of their own (`store::memory`). Both caches evict by the same rule
//! ([`crate::eviction`]).

use std::fmt;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracker_protocol::InfoHash;

use crate::clock;
use crate::eviction::{Rank, Search, Source, SourceWeights, candidates, random_order};
use crate::hash::SEED;

/// The number of shards, each with its own lock; a power of two.
const SHARDS: usize = 64;

/// The most torrents that are evicted to make room after one announce.
const GROWTH: usize = 4;

/// How much room a value takes, in the unit of the cache's capacity.
pub trait Weigh {
    /// Returns the value's present weight, which may change whenever the value changes.
    fn weight(&self) -> u32;
}

/// The torrents of one shard.
type CacheShard<T> = Mutex<HashTable<Arc<Cell<T>>>>;

/// Values in memory by torrent.
pub struct TorrentCache<T> {
    shards: Box<[CacheShard<T>; SHARDS]>,
    /// For each source, the number of torrents that this source was the first to use.
    weights: SourceWeights,
    capacity: i64,
    /// How long an unused torrent is kept.
    idle: Duration,
    weight: AtomicI64,
    torrents: AtomicI64,
    evicted: AtomicI64,
}

/// A torrent that was looked up before. The cache may have dropped it since.
#[derive(Debug)]
pub struct Handle<T>(Arc<Cell<T>>);

/// One torrent. The mutex is not async: it is held for microseconds, and never across an await.
#[derive(Debug)]
struct Cell<T> {
    info_hash: InfoHash,
    /// The source that was the first to use the torrent.
    source: Source,
    contents: Mutex<Contents<T>>,
}

#[derive(Debug)]
struct Contents<T> {
    value: T,
    /// The weight with which the cache counts the value.
    weight: u32,
    used: Instant,
    is_used_again: bool,
    /// Whether the cache has dropped this value. If so, look the torrent up again.
    is_dropped: bool,
}

impl<T: Weigh + Default> TorrentCache<T> {
    /// Returns an empty cache for values of the total weight `capacity`. Torrents unused for `idle` are dropped.
    pub fn new(capacity: u32, idle: Duration) -> Self {
        Self {
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            weights: SourceWeights::new(),
            capacity: capacity.into(),
            idle,
            weight: AtomicI64::new(0),
            torrents: AtomicI64::new(0),
            evicted: AtomicI64::new(0),
        }
    }

    /// Changes a torrent's value for a client at `source`. An unknown torrent starts with a default value. Counts as a
    /// use.
    pub fn with<R>(&self, info_hash: InfoHash, source: IpAddr, now: Instant, change: impl FnOnce(&mut T) -> R) -> R {
        let mut change = change;
        loop {
            let cell = self.find_or_insert(info_hash, source, now);
            match self.change(&cell, Some(now), change) {
                Ok(result) => return result,
                Err(again) => change = again,
            }
        }
    }

    /// Changes a torrent's value if the torrent is known. If `used` is given, the change counts as a use at that time.
    pub fn with_known<R>(
        &self,
        info_hash: InfoHash,
        used: Option<Instant>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        self.change(&self.find(info_hash)?, used, change).ok()
    }

    /// Changes a torrent's value, unless the cache has dropped the torrent. Does not count as a use.
    pub fn with_handle<R>(&self, Handle(cell): &Handle<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.change(cell, None, change).ok()
    }

    /// Drops a torrent if it has been unused for the cache's idle time.
    pub fn drop_if_idle(&self, Handle(cell): &Handle<T>, now: Instant) {
        let is_idle = now.saturating_duration_since(cell.contents.lock().used) >= self.idle;
        if is_idle {
            self.drop_cell(cell);
        }
    }

    /// Returns the torrents that are known at present, in no order. Iterating does not count as a use.
    pub fn iter(&self) -> impl Iterator<Item = Handle<T>> + '_ {
        // One shard's handles at a time are copied, so that the caller works without a lock.
        self.shards.iter().flat_map(|shard| {
            let cells = shard.lock();
            cells.iter().map(|cell| Handle(Arc::clone(cell))).collect::<Vec<_>>()
        })
    }

    /// Returns the number of torrents, including unused torrents that have not been dropped yet.
    pub fn len(&self) -> i64 {
        self.torrents.load(Relaxed)
    }

    /// Returns whether the cache has no torrents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many torrents were dropped for lack of room since the start.
    pub fn evicted(&self) -> i64 {
        self.evicted.load(Relaxed)
    }

    /// Returns the weight of all values, and the most that all values may weigh.
    pub fn load(&self) -> (u64, u64) {
        (self.weight.load(Relaxed).try_into().unwrap_or_default(), self.capacity.unsigned_abs())
    }

    /// Returns the shard of a torrent, by the last byte of the info-hash.
    fn shard(&self, InfoHash([.., last]): InfoHash) -> &CacheShard<T> {
        #[allow(clippy::indexing_slicing, reason = "the index is less than the length")]
        &self.shards[usize::from(last) % SHARDS]
    }

    fn find(&self, info_hash: InfoHash) -> Option<Arc<Cell<T>>> {
        self.shard(info_hash).lock().find(hash(info_hash), |cell| cell.info_hash == info_hash).cloned()
    }

    fn find_or_insert(&self, info_hash: InfoHash, source: IpAddr, now: Instant) -> Arc<Cell<T>> {
        let mut shard = self.shard(info_hash).lock();
        let is_it = |cell: &Arc<Cell<T>>| cell.info_hash == info_hash;
        match shard.entry(hash(info_hash), is_it, |cell| hash(cell.info_hash)) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(vacant) => {
                let value = T::default();
                let contents = Contents { value, weight: 0, used: now, is_used_again: false, is_dropped: false };
                let source = Source::own(source);
                let cell = Arc::new(Cell { info_hash, source, contents: Mutex::new(contents) });
                vacant.insert(Arc::clone(&cell));
                self.weights.add(source);
                self.torrents.fetch_add(1, Relaxed);
                cell
            }
        }
    }

    /// Changes a value. If the cache dropped the cell before this call locked it, the error gives `change` back,
    /// unused. If `used` is given, the change counts as a use at that time.
    fn change<R, F: FnOnce(&mut T) -> R>(&self, cell: &Arc<Cell<T>>, used: Option<Instant>, change: F) -> Result<R, F> {
        let mut contents = cell.contents.lock();
        if contents.is_dropped {
            return Err(change);
        }
        let is_new = contents.weight == 0;
        let result = change(&mut contents.value);
        if let Some(now) = used {
            contents.used = now;
            contents.is_used_again = !is_new;
        }
        let weight = contents.value.weight().max(1);
        let growth = i64::from(weight) - i64::from(std::mem::replace(&mut contents.weight, weight));
        drop(contents);
        self.weight.fetch_add(growth, Relaxed);
        if growth > 0 && self.is_too_full() {
            self.make_room(cell, is_new);
        }
        Ok(result)
    }

    fn is_too_full(&self) -> bool {
        self.weight.load(Relaxed) > self.capacity
    }

    /// Drops torrents until there is room for the torrent `grown`, whose weight has grown. If `grown` is new, `grown`
    /// itself may be dropped.
    fn make_room(&self, grown: &Arc<Cell<T>>, is_new: bool) {
        for _ in 0..GROWTH {
            let Some(victim) = self.victim(grown, is_new) else { return };
            if self.drop_cell(&victim) {
                self.evicted.fetch_add(1, Relaxed);
            }
            if !self.is_too_full() {
                return;
            }
        }
    }

    fn victim(&self, grown: &Arc<Cell<T>>, is_new: bool) -> Option<Arc<Cell<T>>> {
        let torrents = self.len();
        let weight = if is_new { self.weights.of(grown.source) } else { 0 };
        let mut search = Search::new(weight, self.weights.light(torrents), torrents);
        for shard in random_order(SHARDS).filter_map(|n| self.shards.get(n)) {
            for cell in candidates(&shard.lock()).filter(|cell| !Arc::ptr_eq(cell, grown)) {
                if let Some(rank) = self.rank(cell) {
                    search.look(rank, Arc::clone(cell));
                }
            }
            if search.is_done() {
                break;
            }
        }
        search.victim().or_else(|| is_new.then(|| Arc::clone(grown)))
    }

    /// Returns a torrent's rank; `None` if another thread uses the torrent.
    fn rank(&self, cell: &Cell<T>) -> Option<Rank> {
        let contents = cell.contents.try_lock()?;
        let idle = u64::try_from(clock::now().saturating_duration_since(contents.used).as_millis()).unwrap_or(u64::MAX);
        let size = usize::try_from(contents.weight).unwrap_or(usize::MAX);
        Some(Rank::new(self.weights.of(cell.source), contents.is_used_again, size, idle))
    }

    /// Drops a torrent. Returns whether the torrent was still in the cache.
    fn drop_cell(&self, cell: &Arc<Cell<T>>) -> bool {
        let mut contents = cell.contents.lock();
        if std::mem::replace(&mut contents.is_dropped, true) {
            return false;
        }
        let value = std::mem::take(&mut contents.value);
        let weight = std::mem::take(&mut contents.weight);
        drop(contents);
        drop(value);
        let mut shard = self.shard(cell.info_hash).lock();
        if let Ok(found) = shard.find_entry(hash(cell.info_hash), |other| Arc::ptr_eq(other, cell)) {
            found.remove();
        }
        drop(shard);
        self.weight.fetch_sub(weight.into(), Relaxed);
        self.torrents.fetch_sub(1, Relaxed);
        self.weights.remove(cell.source);
        true
    }
}

fn hash(info_hash: InfoHash) -> u64 {
    SEED.hash_one(info_hash)
}

impl<T> fmt::Debug for TorrentCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorrentCache").field("torrents", &self.torrents).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
