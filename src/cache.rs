//! One thing per torrent, for as long as somebody asks for it: the TTL cache under what is known of upstream trackers. The
//! local swarms, of which there are more and smaller ones, have one of their own (`store::memory`).
//!
//! One cache entry is one torrent, because an entry of moka's costs five times what a peer does. Each has a weight,
//! which may change; moka's admission policy (`TinyLFU`) decides which torrents stay when the room runs out, so that
//! a flood of info-hashes that are announced once each does not push out those that people use.
//!
//! Torrents are found in tables of our own, because a look-up in moka takes half a microsecond, a quarter of all that
//! forwarding added to an announce. moka is shown some of the uses: enough for it to tell a torrent that is in use from one
//! that is not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::HashMap;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bittorrent::InfoHash;

/// Locks, each for its share of the info-hashes.
const SHARES: usize = 64;

/// moka is shown a use when none has been for so long, or when there have been so many.
const SHOW: Duration = Duration::from_mins(1);
const USES: u8 = 16;

/// How much room something takes, in the unit of the cache's capacity.
pub trait Weigh {
    /// At present. It may change whenever the thing does.
    fn weight(&self) -> u32;
}

/// Things in memory by torrent.
pub struct TorrentCache<T> {
    shares: Arc<[Share<T>; SHARES]>,
    /// Who stays. Whoever is dropped here is taken out of its share.
    moka: Cache<InfoHash, Arc<Cell<T>>, foldhash::fast::RandomState>,
    /// How long it is kept that nobody asks for.
    idle: Duration,
    count: Arc<Count>,
}

/// A share of the torrents.
struct Share<T> {
    cells: Mutex<HashMap<InfoHash, Arc<Cell<T>>, foldhash::fast::RandomState>>,
    /// Whoever puts a cell into moka holds this: no two do so for one torrent at a time. Taken before any other lock.
    writer: Mutex<()>,
}

/// One torrent's thing, found before.
#[derive(Debug)]
pub struct Held<T> {
    info_hash: InfoHash,
    cell: Arc<Cell<T>>,
}

/// One thing in its lock. A plain mutex: it is held for microseconds, and never across an await.
#[derive(Debug)]
struct Cell<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    thing: T,
    /// The weight that moka was told, or is about to be; none of a new thing.
    weight: Option<u32>,
    /// The cache has dropped this thing: whoever still holds it must look it up anew.
    dropped: bool,
    /// When moka was last shown a use, and the uses since.
    shown: Instant,
    uses: u8,
}

/// Kept by hand: to walk the cache would take a microsecond a torrent.
#[derive(Debug, Default)]
struct Count {
    torrents: AtomicI64,
    evicted: AtomicI64,
}

impl<T> Share<T> {
    fn find(&self, info_hash: InfoHash) -> Option<Arc<Cell<T>>> {
        self.cells.lock().get(&info_hash).cloned()
    }

    /// Takes this cell out, if it is there and no other has taken its place.
    fn remove(&self, info_hash: InfoHash, cell: &Arc<Cell<T>>) {
        let mut cells = self.cells.lock();
        if cells.get(&info_hash).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            cells.remove(&info_hash);
        }
    }
}

/// From the last byte of the info-hash, whichever that is.
fn share<T>(shares: &[Share<T>; SHARES], InfoHash([.., last]): InfoHash) -> &Share<T> {
    #[allow(clippy::indexing_slicing, reason = "the index is less than the length")]
    &shares[usize::from(last) % SHARES]
}

impl<T: Weigh + Default + Send + 'static> TorrentCache<T> {
    /// An empty cache for things of `capacity` together, each of which is kept until nobody has asked for it for
    /// `idle`, or a minute longer. `on_drop` sees each when it goes.
    pub fn new(capacity: u64, idle: Duration, on_drop: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        let count = Arc::new(Count::default());
        let empty = |_| Share { cells: Mutex::default(), writer: Mutex::new(()) };
        let shares = Arc::new(std::array::from_fn(empty));
        let listener = {
            let (shares, count) = (Arc::clone(&shares), Arc::clone(&count));
            move |info_hash: Arc<InfoHash>, cell: Arc<Cell<T>>, cause| {
                let mut inner = cell.0.lock();
                // Replaced by itself, with another weight; or dropped before, and put back: see `tell_weight`.
                if cause == RemovalCause::Replaced || inner.dropped {
                    return;
                }
                inner.dropped = true;
                count.evicted.fetch_add(i64::from(cause == RemovalCause::Size), Relaxed);
                count.torrents.fetch_sub(1, Relaxed);
                on_drop(&mut inner.thing);
                drop(inner);
                share(&shares, *info_hash).remove(*info_hash, &cell);
            }
        };
        let moka = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, cell: &Arc<Cell<T>>| cell.0.lock().weight.unwrap_or(1))
            .eviction_listener(listener)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { shares, moka, idle: idle + SHOW, count }
    }

    /// Does something to a torrent's thing, which is new if there is none. It is in use `now`.
    pub fn with<R>(&self, info_hash: InfoHash, now: Instant, change: impl FnOnce(&mut T) -> R) -> R {
        let (mut found, mut change) = (self.share(info_hash).find(info_hash), change);
        loop {
            let cell = found.take().unwrap_or_else(|| self.living(info_hash, now));
            match self.change(info_hash, &cell, Some(now), change) {
                Ok(result) => return result,
                Err(again) => change = again,
            }
        }
    }

    /// The same if there is such a thing.
    pub fn with_known<R>(&self, info_hash: InfoHash, now: Instant, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.change(info_hash, &self.share(info_hash).find(info_hash)?, Some(now), change).ok()
    }

    /// Drops a torrent's thing if nobody asks for it any more.
    pub fn drop_if_idle(&self, held: &Held<T>, now: Instant) {
        let inner = held.cell.0.lock();
        let is_idle = !inner.dropped && now.saturating_duration_since(inner.shown) >= self.idle;
        drop(inner);
        if is_idle {
            self.moka.invalidate(&held.info_hash);
        }
    }

    /// Has moka drop what there is no room for. It does so on its callers' time otherwise; to be called now and then.
    pub fn housekeep(&self) {
        self.moka.run_pending_tasks();
    }

    /// The torrents that are known at present, in no order. To look at them so is no use of them.
    pub fn iter(&self) -> impl Iterator<Item = Held<T>> + '_ {
        // A share at a time, whose lock is not held while something is done to its torrents.
        self.shares.iter().flat_map(|share| {
            let cells = share.cells.lock();
            cells.iter().map(|(&info_hash, cell)| Held { info_hash, cell: Arc::clone(cell) }).collect::<Vec<_>>()
        })
    }

    /// Does something to a torrent's thing, unless it has been dropped. That is no use of it.
    pub fn with_held<R>(&self, held: &Held<T>, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.change(held.info_hash, &held.cell, None, change).ok()
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

    fn share(&self, info_hash: InfoHash) -> &Share<T> {
        share(&self.shares, info_hash)
    }

    /// Gives `change` back when the cell was dropped between the look-up and the lock. `used` is when that is a use of it.
    fn change<R, F: FnOnce(&mut T) -> R>(
        &self,
        info_hash: InfoHash,
        cell: &Arc<Cell<T>>,
        used: Option<Instant>,
        change: F,
    ) -> Result<R, F> {
        let mut inner = cell.0.lock();
        if inner.dropped {
            return Err(change);
        }
        let result = change(&mut inner.thing);
        let news = inner.news(used);
        drop(inner);
        match news {
            News::None => {}
            News::Use => self.show(info_hash),
            News::Weight => self.tell_weight(info_hash, cell),
            News::New => self.present(info_hash, cell),
        }
        Ok(result)
    }

    /// The torrent's cell, new if there is none.
    fn living(&self, info_hash: InfoHash, now: Instant) -> Arc<Cell<T>> {
        let share = self.share(info_hash);
        let _writer = share.writer.lock();
        if let Some(cell) = share.find(info_hash).filter(|cell| !cell.0.lock().dropped) {
            return cell;
        }
        let inner = Inner { thing: T::default(), weight: None, dropped: false, shown: now, uses: 0 };
        let cell = Arc::new(Cell(Mutex::new(inner)));
        share.cells.lock().insert(info_hash, Arc::clone(&cell));
        self.count.torrents.fetch_add(1, Relaxed);
        cell
    }

    /// Counts as a use of it to moka, be it there or not; a put does not.
    fn show(&self, info_hash: InfoHash) {
        self.moka.get(&info_hash);
    }

    /// Puts a new cell into moka, which may drop it at once. Only now that it has a weight: moka lets in what is new for its
    /// uses, and what has grown without more ado.
    fn present(&self, info_hash: InfoHash, cell: &Arc<Cell<T>>) {
        let _writer = self.share(info_hash).writer.lock();
        self.show(info_hash);
        self.moka.insert(info_hash, Arc::clone(cell));
    }

    /// Puts the same cell into moka again, which is how it learns of a new weight, unless it is no longer there.
    /// moka may still drop it between the look and the put; then a dropped cell is in moka until its next use
    /// replaces it.
    fn tell_weight(&self, info_hash: InfoHash, cell: &Arc<Cell<T>>) {
        let _writer = self.share(info_hash).writer.lock();
        if self.moka.get(&info_hash).is_some_and(|current| Arc::ptr_eq(&current, cell)) {
            self.moka.insert(info_hash, Arc::clone(cell));
        }
    }
}

/// What moka is to be told of a thing.
enum News {
    None,
    /// That it is in use.
    Use,
    /// Its weight has changed.
    Weight,
    /// It is there.
    New,
}

impl<T: Weigh> Inner<T> {
    /// What there is to be told by now. `used` is when it is in use.
    fn news(&mut self, used: Option<Instant>) -> News {
        let weight = self.thing.weight().max(1);
        let is_shown = used.is_some_and(|now| self.is_to_be_shown(now));
        let told = self.weight;
        // Some room is left, so that what grows is not weighed at every step.
        if told.is_none_or(|told| weight > told || weight < told / 2) {
            self.weight = Some(weight.saturating_add(weight / 4));
            return if told.is_none() { News::New } else { News::Weight };
        }
        if is_shown { News::Use } else { News::None }
    }

    /// Counts a use. Whatever moka is told shows it.
    fn is_to_be_shown(&mut self, now: Instant) -> bool {
        self.uses += 1;
        let is = self.uses == USES || now.saturating_duration_since(self.shown) >= SHOW;
        if is {
            (self.shown, self.uses) = (now, 0);
        }
        is
    }
}

impl<T> fmt::Debug for TorrentCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorrentCache").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
