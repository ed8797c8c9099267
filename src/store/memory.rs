//! The swarms in memory, and the numbers of swarms and peers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::announcement::{Action, Announcement, Selection};
use super::apply::Told;
use super::context::{Hearer, StoreContext};
use super::delta::CountDelta;
use super::explanation::{SwarmExplanation, SwarmListing};
use super::recent_moves::HeardAt;
use super::record::{Applied, PeerRecord, RecordRefusal};
use super::shard::{Shard, SwarmKey, hash};
use super::swarm::Victim;
use super::time::{Rhythm, Tick, TtlTicks};
use super::zone_counts::ZoneCounts;
use crate::clock::{Timestamp, Ttl};
use crate::eviction::{Search, Source, SourceWeights, random_order};
use crate::topology::{Topology, ZoneId};
use tracker_protocol::{InfoHash, PeerId, SwarmCounts};

/// The number of shards, a power of two. With so many shards, two workers rarely need the same lock, and a shard's
/// table is small enough to grow quickly.
const SHARDS: usize = 256;

/// How many times housekeeping checks a peer within the peer age.
const ROUNDS: u32 = 16;

/// The most calls of [`Store::housekeep`], one per second, that a check of all shards takes.
const LONGEST_ROUND: u64 = 60;

/// The most shards that are searched for a peer to evict, besides the newcomer's own shard.
const SHARDS_LOOKED_AT: usize = 64;

/// The most evictions for one announce. An announce can add a swarm, a peer and the peer's second address. The fourth
/// eviction is a reserve.
const GROWTH: usize = 4;

/// The settings of the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How long a peer is kept after its latest announce. `--peer-age`.
    pub peer_age: Duration,
    /// How often clients are asked to announce. `--announce-interval`.
    pub announce_interval: Duration,
    /// The most peers that are kept, and the most swarms. `--max-peers`.
    pub max_peers: u64,
}

/// The swarms in memory. The store does not use a general cache, because the bookkeeping of a cache for one entry takes
/// more memory than a small swarm.
#[derive(Debug)]
pub struct Store {
    shards: Box<[Mutex<Shard>; SHARDS]>,
    life: TtlTicks,
    rhythm: Rhythm,
    weights: SourceWeights,
    zones: ZoneCounts,
    capacity: i64,
    /// Whether the store determines [`Selection::hearing`].
    shares: bool,
    tally: Tally,
    /// How many calls of [`Self::housekeep`] check all shards once.
    round: u64,
    calls: AtomicU64,
    /// When housekeeping ran last, in tenths of a second.
    housekept: AtomicU32,
}

#[derive(Debug, Default)]
struct Tally {
    peers: [[AtomicI64; 2]; 2],
    swarms: AtomicI64,
    evicted: AtomicI64,
    evicted_peers: AtomicI64,
}

/// Where the next call of [`Store::visit`] begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCursor {
    shard: usize,
    bucket: usize,
}

/// How many swarms and peers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Swarms, including empty swarms that have not been dropped yet.
    pub swarms: i64,
    /// Peers by family (IPv4, IPv6) and by role (seeds, others).
    pub peers: [[i64; 2]; 2],
    /// Swarms that the store has dropped since its start to make room.
    pub evicted: i64,
    /// Peers that the store has dropped since its start to make room.
    pub evicted_peers: i64,
    /// The most peers that the store keeps. It keeps at most as many swarms.
    pub capacity: i64,
}

impl Store {
    /// Makes an empty store.
    pub fn new(options: StoreOptions) -> Self {
        let life = TtlTicks::new(Ttl::new(options.peer_age));
        Self {
            shards: Box::new(std::array::from_fn(|_| Mutex::default())),
            life,
            rhythm: Rhythm::new(options.announce_interval, life),
            weights: SourceWeights::new(),
            zones: ZoneCounts::new(),
            capacity: i64::try_from(options.max_peers).unwrap_or(i64::MAX),
            shares: false,
            tally: Tally::default(),
            round: (options.peer_age / ROUNDS).as_secs().clamp(1, LONGEST_ROUND),
            calls: AtomicU64::new(0),
            housekept: AtomicU32::new(0),
        }
    }

    /// Makes the store determine [`Selection::hearing`] for each announce.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { shares: true, ..self }
    }

    /// Carries out an announce. Returns the swarm's counts, and peers that the client can reach.
    pub fn announce(
        &self,
        now: Timestamp,
        topology: &Topology,
        info_hash: InfoHash,
        announcement: &Announcement,
    ) -> Selection {
        let hearer = if self.shares { Hearer::Sharing(now) } else { Hearer::Alone };
        let context = self.context(now, topology, hearer);
        let is_to_be_kept = matches!(announcement.action, Action::Stay { .. }) && announcement.port.is_some();
        let (picked, grown) = self.with(info_hash, |shard, key, change| {
            let picked = shard.announce(context, key, is_to_be_kept, announcement, change);
            (picked, change.peers() + change.swarms > 0)
        });
        if grown && self.is_too_full() {
            self.make_room(context.now, info_hash, announcement);
        }
        picked
    }

    /// Applies a record as if its announce had come here `ago` before `now`. Newer news of the peer stays. `zone` is
    /// the peer's zone at this instance.
    pub fn apply(
        &self,
        now: Timestamp,
        ago: Duration,
        topology: &Topology,
        info_hash: InfoHash,
        zone: Option<ZoneId>,
        record: &PeerRecord,
    ) -> Result<Applied, RecordRefusal> {
        let tenths = u32::try_from(ago.as_millis() / 100).unwrap_or(u32::MAX);
        let ticks = self.life.ticks_ago(now, tenths);
        if self.life.is_over(ticks) {
            return Err(RecordRefusal::Expired);
        }
        let heard = HeardAt(now.tenths().wrapping_sub(tenths));
        let told = Told::new(record, zone, ticks, heard)?;
        let context = self.context(now, topology, Hearer::Another);
        let (applied, grown) = self.with(info_hash, |shard, key, change| {
            let applied = shard.apply(context, key, &told, change);
            (applied, change.peers() + change.swarms > 0)
        });
        if grown && self.is_too_full() {
            self.make_room(context.now, info_hash, &told.announcement);
        }
        applied
    }

    fn context<'a>(&self, now: Timestamp, topology: &'a Topology, hearer: Hearer) -> StoreContext<'a> {
        StoreContext { now: self.life.tick(now), life: self.life, rhythm: self.rhythm, topology, hearer }
    }

    /// Returns the counts of one swarm. The counts are zero if the swarm does not exist.
    pub fn scrape(&self, now: Timestamp, info_hash: InfoHash) -> SwarmCounts {
        let now = self.life.tick(now);
        self.with(info_hash, |shard, key, change| shard.scrape(now, self.life, key, change))
    }

    /// Explains what the client of this announcement would get. `None` if the swarm does not exist. May drop expired
    /// peers. The swarm does not count as used.
    pub fn explain(
        &self,
        now: Timestamp,
        topology: &Topology,
        info_hash: InfoHash,
        announcement: &Announcement,
    ) -> Option<SwarmExplanation> {
        let context = self.context(now, topology, Hearer::Alone);
        self.with(info_hash, |shard, key, change| shard.explain(context, key, announcement, change))
    }

    /// Lists at most 500 peers of each family of a swarm. `None` if the swarm does not exist. The swarm does not count
    /// as used.
    pub fn list(&self, now: Timestamp, topology: &Topology, info_hash: InfoHash) -> Option<SwarmListing> {
        let context = self.context(now, topology, Hearer::Alone);
        self.with(info_hash, |shard, key, _| shard.list(context, key))
    }

    /// Calls `visit` for at most 10,000 peers of each family of a swarm. The swarm does not count as used.
    pub fn visit_peers(&self, now: Timestamp, info_hash: InfoHash, visit: &mut dyn FnMut(SocketAddr, Option<PeerId>)) {
        let now = self.life.tick(now);
        self.with(info_hash, |shard, key, _| shard.visit_peers(now, self.life, key, visit));
    }

    /// Like [`Self::scrape`], but the swarm does not count as used.
    pub fn counts(&self, info_hash: InfoHash) -> SwarmCounts {
        self.with(info_hash, |shard, key, _| shard.counts(key))
    }

    /// Calls `visit` for at least `wanted` swarms, or for all if there are fewer. Begins at `from`; returns where the
    /// next call begins. Holds each lock for a few microseconds.
    pub fn visit(&self, from: SwarmCursor, wanted: usize, mut visit: impl FnMut(InfoHash, SwarmCounts)) -> SwarmCursor {
        let SwarmCursor { mut shard, mut bucket } = from;
        let mut visited = 0;
        for _ in 0..=SHARDS {
            let mut next = Some(bucket);
            while let Some(at) = next {
                let mut count = |info_hash, counts| {
                    visited += 1;
                    visit(info_hash, counts);
                };
                next = self.shards.get(shard).and_then(|shard| shard.lock().visit(at, &mut count));
                if visited >= wanted {
                    return next.map_or(SwarmCursor { shard: (shard + 1) % SHARDS, bucket: 0 }, |bucket| SwarmCursor {
                        shard,
                        bucket,
                    });
                }
            }
            (shard, bucket) = ((shard + 1) % SHARDS, 0);
        }
        from
    }

    /// Removes a swarm with all its peers. Returns whether the swarm existed.
    pub fn remove(&self, info_hash: InfoHash) -> bool {
        self.with(info_hash, Shard::remove_swarm)
    }

    /// Returns how many swarms and peers the store has.
    pub fn totals(&self) -> Totals {
        Totals {
            swarms: self.tally.swarms.load(Relaxed),
            peers: self.tally.peers.each_ref().map(|family| family.each_ref().map(|counter| counter.load(Relaxed))),
            evicted: self.tally.evicted.load(Relaxed),
            evicted_peers: self.tally.evicted_peers.load(Relaxed),
            capacity: self.capacity,
        }
    }

    /// Returns how many peers are in a zone: seeds, others.
    pub fn peers_in(&self, zone: ZoneId) -> [i64; 2] {
        self.zones.of(zone)
    }

    /// Drops expired peers and swarms from some shards; the next call checks the next shards. The caller must call this
    /// method once a second. A call takes the lock of each of its shards several times, for a short while each time.
    pub fn housekeep(&self, now: Timestamp) {
        let before = Timestamp::from_tenths(self.housekept.swap(now.tenths(), Relaxed));
        if now > before.plus(self.life.length()).plus(self.life.length()) {
            // The host slept for more than two lifetimes, so all peers have expired. The checks below may not notice
            // this, because the peers' ticks may have wrapped.
            self.clear();
        }
        let now = self.life.tick(now);
        let call = self.calls.fetch_add(1, Relaxed) % self.round;
        for shard in self.shards.iter().skip(usize::try_from(call).unwrap_or(0)).step_by(self.round_length()) {
            let mut next = Some(0);
            while let Some(at) = next {
                let mut change = self.no_change();
                next = shard.lock().housekeep(now, self.life, at, &mut change);
                self.tally.add(&change);
            }
            shard.lock().shrink();
        }
    }

    fn clear(&self) {
        for shard in self.shards.iter() {
            let mut change = self.no_change();
            shard.lock().clear(&mut change);
            self.tally.add(&change);
        }
    }

    fn no_change(&self) -> CountDelta<'_> {
        CountDelta::new(&self.weights, &self.zones)
    }

    fn round_length(&self) -> usize {
        usize::try_from(self.round).unwrap_or(1)
    }

    fn with<R>(&self, info_hash: InfoHash, act: impl FnOnce(&mut Shard, SwarmKey, &mut CountDelta<'_>) -> R) -> R {
        let key = SwarmKey { info_hash, hash: hash(info_hash) };
        let mut change = self.no_change();
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

    /// Makes room for a peer that has joined. The evicted peer may be the newcomer.
    fn make_room(&self, now: Tick, info_hash: InfoHash, newcomer: &Announcement) {
        let source = if newcomer.is_claim {
            Source::Claim(Source::claimant(newcomer.source))
        } else {
            Source::own(newcomer.place.ip)
        };
        let light = self.weights.light(self.capacity);
        for _ in 0..GROWTH {
            let victim =
                self.victim(now, info_hash, self.weight(source, newcomer, light), light).unwrap_or_else(|| {
                    let at = newcomer.port.map(|port| (newcomer.place, port));
                    Victim { info_hash, at }
                });
            let mut change = self.no_change();
            self.shard(hash(victim.info_hash)).lock().evict(&victim, &mut change);
            self.tally.add(&change);
            if !self.is_too_full() {
                return;
            }
        }
    }

    /// Returns how many peers the sender has: at its own address, plus its claims elsewhere. Several senders share one
    /// counter of claims, so the result may be too high. The claims of a newcomer that claims nothing count only if its
    /// address has more than `light` peers.
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

    /// Searches for a peer to evict: in the newcomer's shard, then in others at random.
    fn victim(&self, now: Tick, info_hash: InfoHash, weight: u32, light: u32) -> Option<Victim> {
        let mut search = Search::new(weight, light, self.capacity);
        let others = random_order(SHARDS).take(SHARDS_LOOKED_AT).filter_map(|n| self.shards.get(n));
        for shard in std::iter::once(self.shard(hash(info_hash))).chain(others) {
            shard.lock().look_for_victim(now, &self.weights, &mut search);
            if search.is_done() {
                break;
            }
        }
        search.victim()
    }
}

/// Returns a hash's shard. The shard's table uses other bits of the hash. If the table used the same bits, all swarms
/// of a shard would share a few buckets.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

impl Tally {
    fn add(&self, change: &CountDelta<'_>) {
        let add = |counter: &AtomicI64, more: i64| {
            if more != 0 {
                counter.fetch_add(more, Relaxed);
            }
        };
        for (counters, more) in self.peers.iter().zip(change.peer_counts) {
            counters.iter().zip(more).for_each(|(counter, more)| add(counter, more));
        }
        add(&self.swarms, change.swarms);
        add(&self.evicted, change.evicted);
        add(&self.evicted_peers, change.evicted_peers);
    }
}
