//! The swarms in memory, and how many peers there are.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::shard::{Change, Key, Shard, hash};
use super::swarm::{Present, Victim};
use super::weights::{Source, Weights};
use super::{Action, Age, Announcement, Lifetime, Moment, Picked, Rhythm, Tick};
use crate::bittorrent::{InfoHash, SwarmCounts, Views};

/// Locks, each for its share of the info-hashes: so many that workers rarely meet, and that no table is so large that it
/// takes long to grow.
const SHARDS: usize = 256;

/// How many times in a peer's life housekeeping comes by.
const ROUNDS: u32 = 16;

/// It comes by at least once in so many calls, of which there is one a second.
const LONGEST_ROUND: u64 = 60;

/// Swarms that are looked at for somebody who can make room: enough of them, if there is one in them whose source is heavier
/// than that of the newcomer, and at most.
const ENOUGH: usize = 8;
const MOST: usize = 32;

/// Shards that are looked at for them at most.
const SHARDS_LOOKED_AT: usize = 64;

/// A source that has no more peers than this, nor than half of its fair share, is light: light sources are equals, because what
/// is counted is not exact, and a client may have a few torrents.
const LIGHT: u32 = 16;

/// An announce makes no more room than it can have taken: for a swarm, a peer and its address for outsiders, and one more.
const GROWTH: usize = 4;

/// What the store is told once.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How long a peer is kept after its latest announce. `-a`, `PEER_AGE`; 180 minutes.
    pub peer_age: Duration,
    /// How often clients are asked to announce. `-i`, `ANNOUNCE_INTERVAL`; 30 seconds.
    pub announce_interval: Duration,
    /// Peers that are kept at most; a swarm counts as one peer at least. `--max-peers`, `MAX_PEERS`; 2 million.
    pub max_peers: u64,
}

/// The swarms in memory: a TTL cache of our own, because a swarm of a few peers costs less in it than a general cache's
/// bookkeeping for one entry.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Mutex<Shard>; SHARDS]>,
    life: Lifetime,
    rhythm: Rhythm,
    weights: Weights,
    capacity: i64,
    tally: Tally,
    /// Calls of [`Self::housekeep`] in which it comes by everywhere.
    round: u64,
    calls: AtomicU64,
    /// When it came by last.
    housekept: AtomicU32,
}

#[derive(Debug, Default)]
struct Tally {
    peers: [[AtomicI64; 2]; 2],
    swarms: AtomicI64,
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
        let life = Lifetime::new(Age::new(options.peer_age));
        Self {
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            life,
            rhythm: Rhythm::new(options.announce_interval, life),
            weights: Weights::new(),
            capacity: i64::try_from(options.max_peers).unwrap_or(i64::MAX),
            tally: Tally::default(),
            round: (options.peer_age / ROUNDS).as_secs().clamp(1, LONGEST_ROUND),
            calls: AtomicU64::new(0),
            housekept: AtomicU32::new(0),
        }
    }

    /// Carries out an announce and tells who else is in the swarm, as far as the announcer reaches them.
    pub fn announce(&self, now: Moment, views: &Views, info_hash: InfoHash, announcement: &Announcement) -> Picked {
        let now = self.life.tick(now);
        let is_to_be_kept = matches!(announcement.action, Action::Stay { .. }) && announcement.port.is_some();
        let (picked, grown) = self.with(info_hash, |shard, key, change| {
            let present = Present { now, life: self.life, rhythm: self.rhythm, views };
            let picked = shard.announce(present, key, is_to_be_kept, announcement, change);
            (picked, change.peers() + change.swarms > 0)
        });
        if grown && self.is_too_full() {
            self.make_room(now, info_hash, announcement);
        }
        picked
    }

    /// The counts of one swarm; zeros when nobody has announced it.
    pub fn scrape(&self, now: Moment, info_hash: InfoHash) -> SwarmCounts {
        let now = self.life.tick(now);
        self.with(info_hash, |shard, key, change| shard.scrape(now, self.life, key, change))
    }

    /// How many swarms and peers there are.
    pub fn totals(&self) -> Totals {
        Totals {
            swarms: self.tally.swarms.load(Relaxed),
            peers: self.tally.peers.each_ref().map(|family| family.each_ref().map(|counter| counter.load(Relaxed))),
            evicted: self.tally.evicted.load(Relaxed),
        }
    }

    /// Drops what has expired in some of the shards, in turn. To be called once a second. Takes each lock for a short time
    /// only, again and again.
    pub fn housekeep(&self, now: Moment) {
        let before = Moment(self.housekept.swap(now.0, Relaxed));
        if now > before.plus(Age(self.life.length())).plus(Age(self.life.length())) {
            // The host has slept for so long that ticks would soon mean something else: nobody is left.
            self.clear();
        }
        let now = self.life.tick(now);
        let call = self.calls.fetch_add(1, Relaxed) % self.round;
        for shard in self.shards.iter().skip(usize::try_from(call).unwrap_or(0)).step_by(self.round_length()) {
            let mut next = Some(0);
            while let Some(at) = next {
                let mut change = Change::new(&self.weights);
                next = shard.lock().housekeep(now, self.life, at, &mut change);
                self.tally.add(&change);
            }
            shard.lock().shrink();
        }
    }

    fn clear(&self) {
        for shard in self.shards.iter() {
            let mut change = Change::new(&self.weights);
            shard.lock().clear(&mut change);
            self.tally.add(&change);
        }
    }

    fn round_length(&self) -> usize {
        usize::try_from(self.round).unwrap_or(1)
    }

    /// Does something to the shard of a torrent.
    fn with<R>(&self, info_hash: InfoHash, act: impl FnOnce(&mut Shard, Key, &mut Change<'_>) -> R) -> R {
        let key = Key { info_hash, hash: hash(info_hash) };
        let mut change = Change::new(&self.weights);
        let result = act(&mut self.shard(key.hash).lock(), key, &mut change);
        self.tally.add(&change);
        result
    }

    #[allow(clippy::indexing_slicing, reason = "there are as many shards as `shard_of` counts")]
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[shard_of(hash)]
    }

    fn is_too_full(&self) -> bool {
        let Totals { swarms, peers, .. } = self.totals();
        swarms.max(peers.iter().flatten().sum()) > self.capacity
    }

    /// Makes room for somebody who has joined a swarm. The heaviest source's peers give way first, the newcomer's own among
    /// them: if nobody is found whose source is as heavy as its own, it goes itself, so that a flood from one source takes
    /// nothing from others.
    fn make_room(&self, now: Tick, info_hash: InfoHash, newcomer: &Announcement) {
        let source = if newcomer.is_claim {
            Source::Claim(Source::claimant(newcomer.source))
        } else {
            Source::own(newcomer.place.ip)
        };
        let light = self.light();
        for _ in 0..GROWTH {
            let weight = self.weight(source, newcomer, light).max(light);
            // Nobody is heavier than one that has most of the store: its own peers will do.
            let lighter = if i64::from(weight) > self.capacity / 2 { weight - 1 } else { weight };
            let victim = self.victim(now, info_hash, lighter, light).filter(|victim| victim.weight >= weight);
            let at = newcomer.port.map(|port| (newcomer.place, port));
            let victim = victim.unwrap_or_else(|| Victim::newcomer(info_hash, at));
            let mut change = Change::new(&self.weights);
            self.shard(hash(victim.info_hash)).lock().evict(&victim, &mut change);
            self.tally.add(&change);
            if !self.is_too_full() {
                return;
            }
        }
    }

    /// Up to how many peers a source is light. A flood from many sources would push out all others if each of them could have
    /// as many as are its fair share and still pass for an equal of one that has a single peer.
    fn light(&self) -> u32 {
        (self.weights.share_of(self.capacity) / 2).clamp(2, LIGHT)
    }

    /// How many peers the newcomer's source has, both those at its address and those that it claims: it is one source, though
    /// only it is known to be. One that has a few itself does not answer for what others claim that are counted with it.
    fn weight(&self, source: Source, newcomer: &Announcement, light: u32) -> u32 {
        let weight = self.weights.of(source);
        let other = if newcomer.is_claim {
            self.weights.of(Source::own(newcomer.source))
        } else if weight > light {
            self.weights.of(Source::Claim(Source::claimant(newcomer.source)))
        } else {
            0
        };
        weight.saturating_add(other)
    }

    /// Of some swarms, picked at random, and of the newcomer's own shard, who can make room best. So many, as a rule, that
    /// one is among them whose source is heavier than that, if there is one that fills a part of the store.
    fn victim(&self, now: Tick, info_hash: InfoHash, weight: u32, light: u32) -> Option<Victim> {
        let mut best: Option<Victim> = None;
        let mut looked = 0;
        let start = fastrand::usize(..SHARDS);
        let others = (start..start + SHARDS_LOOKED_AT).filter_map(|n| self.shards.get(n % SHARDS));
        for shard in std::iter::once(self.shard(hash(info_hash))).chain(others) {
            shard.lock().victims(now, &self.weights, |victim| {
                looked += 1;
                let victim = Victim { weight: victim.weight.max(light), ..victim };
                if best.is_none_or(|best| victim.order() > best.order()) {
                    best = Some(victim);
                }
            });
            let has_heavy = best.is_some_and(|best| best.weight > weight);
            if looked >= MOST || (looked >= ENOUGH && has_heavy) {
                break;
            }
        }
        best
    }
}

/// From other bits of the hash than those by which a shard's table finds its buckets.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

impl Tally {
    fn add(&self, change: &Change<'_>) {
        let add = |counter: &AtomicI64, more: i64| {
            if more != 0 {
                counter.fetch_add(more, Relaxed);
            }
        };
        for (counters, more) in self.peers.iter().zip(change.census) {
            counters.iter().zip(more).for_each(|(counter, more)| add(counter, more));
        }
        add(&self.swarms, change.swarms);
        add(&self.evicted, change.evicted);
    }
}
