//! The swarms in memory, and how many peers there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use super::swarm::Swarm;
use super::{Action, Age, Announcement, Moment, Picked};
use crate::bittorrent::{InfoHash, SwarmCounts};
use crate::cache::{TorrentCache, Weigh};

/// What the store is told once.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How long a peer is kept after its latest announce. `-a`, `PEER_AGE`; 180 minutes.
    pub peer_age: Duration,
    /// Peers that are kept at most; a swarm counts as one peer at least. `--max-peers`, `MAX_PEERS`; 2 million.
    pub max_peers: u64,
}

/// The swarms in memory. The cache's own clock only decides when an abandoned swarm is dropped; whether a peer is still
/// told is decided by the swarm.
#[derive(Debug)]
pub struct Store {
    swarms: TorrentCache<Swarm>,
    age: Age,
    tally: Arc<Tally>,
}

impl Weigh for Swarm {
    fn weight(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// How many peers there are: IPv4 and IPv6, of each the seeds and the others.
#[derive(Debug, Default)]
struct Tally([[AtomicI64; 2]; 2]);

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
        let dropped = Arc::clone(&tally);
        let on_drop = move |swarm: &mut Swarm| dropped.add(swarm.census(), Default::default());
        let swarms = TorrentCache::new(options.max_peers, options.peer_age, on_drop);
        Self { swarms, age: Age::new(options.peer_age), tally }
    }

    /// Carries out an announce and tells who else is in the swarm.
    pub fn announce(&self, now: Moment, info_hash: InfoHash, announcement: &Announcement) -> Picked {
        let carry_out =
            |swarm: &mut Swarm| self.tally.count(swarm, |swarm| swarm.announce(now, self.age, announcement));
        if matches!(announcement.action, Action::Stay { .. }) && announcement.port.is_some() {
            self.swarms.with(info_hash, carry_out)
        } else {
            self.swarms.with_known(info_hash, carry_out).unwrap_or_default()
        }
    }

    /// The counts of one swarm; zeros when nobody has announced it.
    pub fn scrape(&self, now: Moment, info_hash: InfoHash) -> SwarmCounts {
        let count = |swarm: &mut Swarm| {
            swarm.sweep(now, self.age);
            swarm.counts()
        };
        self.swarms.with_known(info_hash, |swarm| self.tally.count(swarm, count)).unwrap_or_default()
    }

    /// How many swarms and peers there are.
    pub fn totals(&self) -> Totals {
        Totals {
            swarms: self.swarms.len(),
            peers: self.tally.0.each_ref().map(|family| family.each_ref().map(|counter| counter.load(Relaxed))),
            evicted: self.swarms.evicted(),
        }
    }

    /// Drops abandoned swarms. To be called now and then.
    pub fn housekeep(&self) {
        self.swarms.housekeep();
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
        for (counters, (before, after)) in self.0.iter().zip(before.into_iter().zip(after)) {
            for (counter, (before, after)) in counters.iter().zip(before.into_iter().zip(after)) {
                if before != after {
                    counter.fetch_add(signed(after) - signed(before), Relaxed);
                }
            }
        }
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
