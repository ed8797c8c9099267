//! A share of the swarms, in one lock. A plain mutex: it is held for microseconds, and never across an await.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::client_id::Prefixes;
use super::entry::Entry as PeerEntry;
use super::swarm::{PeerCounts, Present, Swarm, Victim};
use super::{Announcement, Selection, Tick, TtlTicks};
use crate::eviction::{Search, SourceWeights, candidates};
use crate::hash::SEED;
use tracker_protocol::{InfoHash, Ip, PeerId, Role, SwarmCounts};

/// Buckets, and peers of long lists, that one step of housekeeping looks at.
const STEP: usize = 256;

/// Downloads that are remembered as counted.
const COMPLETIONS: usize = 64;

/// The swarms of a share of the info-hashes.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// In boxes: the table has room for more than it holds.
    swarms: HashTable<Box<Swarm>>,
    prefixes: Prefixes,
    completions: Completions,
}

/// The downloads that were counted last, so that a client that says again that it has finished, even after it was away, has
/// finished once.
#[derive(Debug, Default)]
pub(super) struct Completions(Vec<u32>);

impl Completions {
    /// Whether this one is not known yet; it is from now on.
    pub(super) fn is_news(&mut self, info_hash: InfoHash, peer_id: PeerId) -> bool {
        let hash = SEED.hash_one((info_hash, peer_id));
        let [a, b, c, d, .., slot] = hash.to_be_bytes();
        let tag = u32::from_be_bytes([a, b, c, d]) | 1;
        if self.0.is_empty() {
            self.0.resize(COMPLETIONS, 0);
        }
        let slot = self.0.get_mut(usize::from(slot) % COMPLETIONS);
        slot.is_some_and(|slot| std::mem::replace(slot, tag) != tag)
    }
}

/// By how much something changed what is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountDelta<'a> {
    weights: &'a SourceWeights,
    pub(super) peer_counts: PeerCounts,
    pub(super) swarms: i64,
    pub(super) evicted: i64,
}

impl<'a> CountDelta<'a> {
    /// Nothing yet. `weights` follow at once what changes.
    pub(super) fn new(weights: &'a SourceWeights) -> Self {
        Self { weights, peer_counts: PeerCounts::default(), swarms: 0, evicted: 0 }
    }

    /// A peer has come.
    pub(super) fn joined<A: Ip>(&mut self, peer: &PeerEntry<A>) {
        self.weights.add(peer.source());
        self.tally(peer, 1);
    }

    /// A peer has gone.
    pub(super) fn gone<A: Ip>(&mut self, peer: &PeerEntry<A>) {
        self.weights.remove(peer.source());
        self.tally(peer, -1);
    }

    fn tally<A: Ip>(&mut self, peer: &PeerEntry<A>, more: i64) {
        let [v4, v6] = &mut self.peer_counts;
        let [seeds, others] = if A::VERSION == 4 { v4 } else { v6 };
        *(if peer.kind().role() == Role::Seed { seeds } else { others }) += more;
    }

    /// How many peers more there are.
    pub(super) fn peers(&self) -> i64 {
        self.peer_counts.iter().flatten().sum()
    }
}

/// An info-hash, hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SwarmKey {
    pub(super) info_hash: InfoHash,
    pub(super) hash: u64,
}

impl SwarmKey {
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
        key: SwarmKey,
        is_to_be_kept: bool,
        announcement: &Announcement,
        change: &mut CountDelta<'_>,
    ) -> Selection {
        let swarm = match self.swarms.entry(key.hash, |swarm| key.is(swarm), |swarm| hash(swarm.info_hash)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) if is_to_be_kept => {
                change.swarms += 1;
                vacant.insert(Box::new(Swarm::new(key.info_hash, present.now))).into_mut()
            }
            Entry::Vacant(_) => return Selection::default(),
        };
        swarm.announce(present, announcement, &mut self.prefixes, &mut self.completions, change)
    }

    /// The counts of a swarm; zeros if there is none.
    pub(super) fn scrape(
        &mut self,
        now: Tick,
        life: TtlTicks,
        key: SwarmKey,
        change: &mut CountDelta<'_>,
    ) -> SwarmCounts {
        let swarm = self.swarms.find_mut(key.hash, |swarm| key.is(swarm));
        swarm.map(|swarm| swarm.scrape(now, life, change)).unwrap_or_default()
    }

    /// Looks at a few peers that can make room.
    pub(super) fn look_for_victim(&self, now: Tick, weights: &SourceWeights, search: &mut Search<Victim>) {
        candidates(&self.swarms).for_each(|swarm| {
            let (rank, victim) = swarm.victim(now, weights);
            search.look(rank, victim);
        });
    }

    /// Makes room: removes a peer, or a swarm that has none; a swarm goes with its last peer.
    pub(super) fn evict(&mut self, victim: &Victim, change: &mut CountDelta<'_>) {
        let key = SwarmKey { info_hash: victim.info_hash, hash: hash(victim.info_hash) };
        let Some(swarm) = self.swarms.find_mut(key.hash, |swarm| key.is(swarm)) else { return };
        if let Some((place, port)) = victim.at {
            swarm.evict(place, port, change);
        }
        if swarm.len() == 0
            && let Some(at) = self.swarms.find_bucket_index(key.hash, |swarm| key.is(swarm))
        {
            self.remove(at, change);
            change.evicted += 1;
        }
    }

    /// Drops what has expired, beginning with bucket `at`, for as long as one may hold the lock. Returns where to go on,
    /// unless that was all.
    pub(super) fn housekeep(
        &mut self,
        now: Tick,
        life: TtlTicks,
        mut at: usize,
        change: &mut CountDelta<'_>,
    ) -> Option<usize> {
        let mut looked = 0;
        while at < self.swarms.num_buckets() {
            if looked >= STEP {
                return Some(at);
            }
            looked += 1;
            if let Some(swarm) = self.swarms.get_bucket_mut(at) {
                let before = swarm.len();
                let is_more = swarm.sweep(now, life, STEP, change);
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
        self.prefixes.age(now, life);
        None
    }

    /// Gives memory back once most of the table is empty.
    pub(super) fn shrink(&mut self) {
        if self.swarms.len() < self.swarms.capacity() / 4 {
            self.swarms.shrink_to_fit(|swarm| hash(swarm.info_hash));
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self, change: &mut CountDelta<'_>) {
        let swarms = std::mem::take(&mut self.swarms);
        swarms.iter().for_each(|swarm| swarm.forget(change));
        change.swarms -= i64::try_from(swarms.len()).unwrap_or(i64::MAX);
        self.prefixes = Prefixes::default();
    }

    fn remove(&mut self, at: usize, change: &mut CountDelta<'_>) {
        let Ok(found) = self.swarms.get_bucket_entry(at) else { return };
        let (swarm, _) = found.remove();
        swarm.forget(change);
        change.swarms -= 1;
    }
}
