//! A share of the swarms, in one lock. A plain mutex: it is held for microseconds, and never across an await.

use std::cmp::Reverse;
use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::client_id::Prefixes;
use super::index::SEED;
use super::swarm::{Census, Present, Swarm};
use super::{Announcement, Lifetime, Picked, Tick};
use crate::bittorrent::{InfoHash, SwarmCounts};

/// Buckets, and peers of long lists, that one step of housekeeping looks at.
const STEP: usize = 256;

/// Swarms of which the one that is missed least goes, when one has to.
const CANDIDATES: usize = 8;

/// Buckets that are looked at for them: when so many are nearly all empty, so is the shard.
const LOOKS: usize = 64;

/// The swarms of a share of the info-hashes.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// In boxes: the table has room for more than it holds.
    swarms: HashTable<Box<Swarm>>,
    prefixes: Prefixes,
}

/// By how much something changed what is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) census: Census,
    pub(super) swarms: i64,
    pub(super) evicted: i64,
}

impl Change {
    /// How many peers more there are.
    pub(super) fn peers(&self) -> i64 {
        self.census.iter().flatten().sum()
    }
}

/// An info-hash, hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) info_hash: InfoHash,
    pub(super) hash: u64,
}

impl Key {
    fn is(self, swarm: &Swarm) -> bool {
        swarm.info_hash == self.info_hash
    }
}

/// By which swarms are found. Info-hashes come from strangers, too, so that it is none that can be foreseen.
pub(super) fn hash(info_hash: InfoHash) -> u64 {
    SEED.hash_one(info_hash)
}

impl Shard {
    /// Carries out an announce. A swarm that is not there is made for somebody who `is_to_be_kept`, and nobody is in it for
    /// others.
    pub(super) fn announce(
        &mut self,
        present: Present<'_>,
        key: Key,
        is_to_be_kept: bool,
        announcement: &Announcement,
        change: &mut Change,
    ) -> Picked {
        let swarm = match self.swarms.entry(key.hash, |swarm| key.is(swarm), |swarm| hash(swarm.info_hash)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) if is_to_be_kept => {
                change.swarms += 1;
                vacant.insert(Box::new(Swarm::new(key.info_hash, present.now))).into_mut()
            }
            Entry::Vacant(_) => return Picked::default(),
        };
        swarm.announce(present, announcement, &mut self.prefixes, &mut change.census)
    }

    /// The counts of a swarm; zeros if there is none.
    pub(super) fn scrape(&mut self, now: Tick, life: Lifetime, key: Key, change: &mut Change) -> SwarmCounts {
        let swarm = self.swarms.find_mut(key.hash, |swarm| key.is(swarm));
        swarm.map(|swarm| swarm.scrape(now, life, &mut change.census)).unwrap_or_default()
    }

    /// Makes room for somebody who has joined this swarm, here or in another shard: of a few swarms, picked at random, the
    /// smallest goes, and of equally small ones the one that has not been asked for longest. If there is no other swarm here,
    /// another peer of this one goes, if there is one.
    pub(super) fn evict(&mut self, now: Tick, info_hash: InfoHash, newcomer: &Announcement, change: &mut Change) {
        let buckets = self.swarms.num_buckets();
        let random = std::iter::repeat_with(|| fastrand::usize(..buckets.max(1))).take(LOOKS);
        let swarms = random.filter_map(|at| Some((at, self.swarms.get_bucket(at)?)));
        let others = swarms.filter(|(_, swarm)| swarm.info_hash != info_hash).take(CANDIDATES);
        let victim = others.min_by_key(|(_, swarm)| (swarm.len(), Reverse(now.since(swarm.asked)))).map(|(at, _)| at);
        if let Some(at) = victim {
            self.remove(at, change);
            change.evicted += 1;
        } else if let Some(swarm) = self.swarms.find_mut(hash(info_hash), |swarm| swarm.info_hash == info_hash) {
            swarm.displace(newcomer, &mut change.census);
        }
    }

    /// Drops what has expired, beginning with bucket `at`, for as long as one may hold the lock. Returns where to go on,
    /// unless that was all.
    pub(super) fn housekeep(&mut self, now: Tick, life: Lifetime, mut at: usize, change: &mut Change) -> Option<usize> {
        let mut looked = 0;
        while at < self.swarms.num_buckets() {
            if looked >= STEP {
                return Some(at);
            }
            looked += 1;
            if let Some(swarm) = self.swarms.get_bucket_mut(at) {
                let before = swarm.len();
                let is_more = swarm.sweep(now, life, STEP, &mut change.census);
                looked += if is_more { STEP } else { before - swarm.len() };
                if is_more {
                    continue;
                }
                if swarm.is_over(now, life) {
                    self.remove(at, change);
                }
            }
            at += 1;
        }
        None
    }

    /// Gives memory back once most of the table is empty.
    pub(super) fn shrink(&mut self) {
        if self.swarms.len() < self.swarms.capacity() / 4 {
            self.swarms.shrink_to_fit(|swarm| hash(swarm.info_hash));
        }
    }

    fn remove(&mut self, at: usize, change: &mut Change) {
        let Ok(found) = self.swarms.get_bucket_entry(at) else { return };
        let (swarm, _) = found.remove();
        let families = change.census.iter_mut().zip(swarm.census());
        families.for_each(|(total, gone)| total.iter_mut().zip(gone).for_each(|(total, gone)| *total -= gone));
        change.swarms -= 1;
    }
}
