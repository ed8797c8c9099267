//! A share of the swarms, behind one lock: a plain mutex, held for microseconds and never across an await.

use std::hash::BuildHasher as _;
use std::net::SocketAddr;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::announcement::{Action, Announcement, Selection};
use super::apply::Told;
use super::arrival::Effect;
use super::client_id::Prefixes;
use super::completions::Completions;
use super::context::{Hearer, StoreContext};
use super::delta::CountDelta;
use super::explanation::{SwarmExplanation, SwarmListing};
use super::recent_moves::{HeardAt, RecentMoves};
use super::record::{Applied, Hearing, RecordRefusal};
use super::swarm::{Swarm, Victim};
use super::time::{Tick, TtlTicks};
use crate::eviction::{Search, SourceWeights, candidates};
use crate::hash::SEED;
use tracker_protocol::{InfoHash, PeerId, SwarmCounts};

/// The most buckets, and the most peers of a long list, that one step of housekeeping checks.
const STEP: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Boxed, so that empty buckets take little memory.
    swarms: HashTable<Box<Swarm>>,
    prefixes: Prefixes,
    completions: Completions,
    /// `None` if no swarms are shared.
    moves: Option<RecentMoves>,
}

/// An info-hash and its hash.
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

/// Returns the hash by which shards find a swarm. It is unpredictable, because attackers choose info-hashes.
pub(super) fn hash(info_hash: InfoHash) -> u64 {
    SEED.hash_one(info_hash)
}

impl Shard {
    /// Carries out an announce. Creates a missing swarm only for a client that `is_to_be_kept`; others get an empty
    /// reply.
    pub(super) fn announce(
        &mut self,
        context: StoreContext<'_>,
        key: SwarmKey,
        is_to_be_kept: bool,
        announcement: &Announcement,
        change: &mut CountDelta<'_>,
    ) -> Selection {
        let swarm = match self.swarms.entry(key.hash, |swarm| key.is(swarm), |swarm| hash(swarm.info_hash)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) if is_to_be_kept => {
                change.swarms += 1;
                vacant.insert(Box::new(Swarm::new(key.info_hash, context.now))).into_mut()
            }
            Entry::Vacant(_) if announcement.action == Action::Leave => {
                let hearing = Effect::LEFT.hearing(context);
                return self.note(context, key, announcement, Selection { hearing, ..Selection::default() });
            }
            Entry::Vacant(_) => return Selection::default(),
        };
        let selection = swarm.announce(context, announcement, &mut self.prefixes, &mut self.completions, change);
        self.note(context, key, announcement, selection)
    }

    /// Remembers when a change happened that other instances must hear of. An older record that comes later must not
    /// undo the change.
    fn note(
        &mut self,
        context: StoreContext<'_>,
        key: SwarmKey,
        announcement: &Announcement,
        selection: Selection,
    ) -> Selection {
        if let (Hearer::Sharing(now), Some(Hearing { change: Some(_), .. })) = (context.hearer, selection.hearing) {
            let moves = self.moves.get_or_insert_default();
            moves.note(HeardAt(now.tenths()), (key.info_hash, announcement.place.ip, announcement.peer_id));
        }
        selection
    }

    /// Applies a record. Creates a missing swarm only for a peer that stays.
    pub(super) fn apply(
        &mut self,
        context: StoreContext<'_>,
        key: SwarmKey,
        told: &Told,
        change: &mut CountDelta<'_>,
    ) -> Result<Applied, RecordRefusal> {
        let peer = (key.info_hash, told.announcement.place.ip, told.announcement.peer_id);
        let moves = self.moves.get_or_insert_default();
        if moves.has_moved_after(told.heard, peer) {
            return Ok(Applied::Outdated);
        }
        let swarm = match self.swarms.entry(key.hash, |swarm| key.is(swarm), |swarm| hash(swarm.info_hash)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if told.announcement.action == Action::Leave => {
                moves.note(told.heard, peer);
                return Ok(Applied::Left);
            }
            Entry::Vacant(vacant) => {
                change.swarms += 1;
                vacant.insert(Box::new(Swarm::new(key.info_hash, context.now))).into_mut()
            }
        };
        let applied = swarm.apply(context, told, &mut self.prefixes, &mut self.completions, change);
        if matches!(applied, Ok(Applied::Recorded | Applied::Left)) {
            moves.note(told.heard, peer);
        }
        applied
    }

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

    /// Explains what a client gets. `None` if the swarm does not exist.
    pub(super) fn explain(
        &mut self,
        context: StoreContext<'_>,
        key: SwarmKey,
        announcement: &Announcement,
        change: &mut CountDelta<'_>,
    ) -> Option<SwarmExplanation> {
        let swarm = self.swarms.find_mut(key.hash, |swarm| key.is(swarm))?;
        Some(swarm.explain(context, announcement, &mut self.prefixes, change))
    }

    pub(super) fn list(&self, context: StoreContext<'_>, key: SwarmKey) -> Option<SwarmListing> {
        let swarm = self.swarms.find(key.hash, |swarm| key.is(swarm))?;
        Some(swarm.list(context, &self.prefixes))
    }

    pub(super) fn visit_peers(
        &self,
        now: Tick,
        life: TtlTicks,
        key: SwarmKey,
        visit: &mut dyn FnMut(SocketAddr, Option<PeerId>),
    ) {
        if let Some(swarm) = self.swarms.find(key.hash, |swarm| key.is(swarm)) {
            swarm.visit_peers(now, life, &self.prefixes, visit);
        }
    }

    /// Like [`Self::scrape`], but the swarm does not count as used.
    pub(super) fn counts(&self, key: SwarmKey) -> SwarmCounts {
        self.swarms.find(key.hash, |swarm| key.is(swarm)).map(|swarm| swarm.counts()).unwrap_or_default()
    }

    /// Calls `visit` for the swarms of some buckets from `at` on. Returns the bucket for the next call, `None` at the
    /// end.
    pub(super) fn visit(&self, at: usize, visit: &mut impl FnMut(InfoHash, SwarmCounts)) -> Option<usize> {
        let end = (at + STEP).min(self.swarms.num_buckets());
        for bucket in at..end {
            self.swarms.get_bucket(bucket).into_iter().for_each(|swarm| visit(swarm.info_hash, swarm.counts()));
        }
        (end < self.swarms.num_buckets()).then_some(end)
    }

    pub(super) fn remove_swarm(&mut self, key: SwarmKey, change: &mut CountDelta<'_>) -> bool {
        let at = self.swarms.find_bucket_index(key.hash, |swarm| key.is(swarm));
        at.into_iter().for_each(|at| self.remove(at, change));
        at.is_some()
    }

    /// Looks at a few candidates for eviction.
    pub(super) fn look_for_victim(&self, now: Tick, weights: &SourceWeights, search: &mut Search<Victim>) {
        candidates(&self.swarms).for_each(|swarm| {
            let (rank, victim) = swarm.victim(now, weights);
            search.look(rank, victim);
        });
    }

    /// Removes a peer, with its swarm if no peer is left; or a swarm without peers.
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

    /// Drops expired peers and swarms from bucket `at` on, for as long as the lock may be held. Returns the bucket for
    /// the next call, `None` at the end.
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

    /// Frees memory when most of the table is empty.
    pub(super) fn shrink(&mut self) {
        if self.swarms.len() < self.swarms.capacity() / 4 {
            self.swarms.shrink_to_fit(|swarm| hash(swarm.info_hash));
        }
    }

    /// Drops all swarms.
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
