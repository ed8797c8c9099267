//! Decides which entry is evicted when there is no more room. One rule applies to local peers and to what forwarding
//! keeps about torrents.
//!
//! The source with the most entries loses an entry first, even if the new entry is its own. So a flood from one source
//! evicts no entries of others; a rule of size or age alone would not ensure that, because a flood's entries are small
//! and new. Among sources with equally many entries, entries that were used only once are evicted first, the least
//! recently used of them before the others. Next are the smallest entries, and of equally small entries the least
//! recently used.
//!
//! Candidates are picked at random, a few at a time, because every announce would take longer if it had to keep all
//! entries in order.

use std::cmp::Reverse;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

use hashbrown::HashTable;
use tracker_protocol::Ip as _;

use crate::hash::SEED;

/// A light source has at most this many entries, and at most half of its fair share (capacity divided by sources). All
/// light sources count as equal, because the counts are inexact and a client may have a few torrents.
const LIGHT: u32 = 16;

/// The search ends after this many candidates if a candidate's source has more entries than the source of the new
/// entry.
const ENOUGH: usize = 8;
/// The search ends after this many candidates in any case.
const MOST: usize = 32;

/// The most entries of one table that become candidates.
const CANDIDATES: usize = 2;
/// The most buckets of one table that are searched for entries.
const LOOKS: usize = 32;

/// How soon an entry is evicted: the entry with the greatest rank is evicted first. Ranks are compared field by field,
/// in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    is_empty: bool,
    source_weight: u32,
    is_used_once: bool,
    size: Reverse<usize>,
    idle: u64,
}

impl Rank {
    /// Returns the rank of an entry. `source_weight` is how many entries its source has, and `idle` the time since the
    /// entry's last use, in any unit.
    pub(crate) fn new(source_weight: u32, is_used_again: bool, size: usize, idle: u64) -> Self {
        // The size of an entry that was used once is ignored, because nearly every new entry is small.
        let size = Reverse(if is_used_again { size } else { 0 });
        Self { is_empty: false, source_weight, is_used_once: !is_used_again, size, idle }
    }

    /// Returns the rank of an entry that can be evicted without loss.
    pub(crate) fn empty() -> Self {
        Self { is_empty: true, source_weight: u32::MAX, is_used_once: true, size: Reverse(0), idle: 0 }
    }
}

/// A search for the entry that is evicted to make room for a new entry.
#[derive(Debug)]
pub(crate) struct Search<T> {
    /// How many entries the source of the new entry has.
    weight: u32,
    light: u32,
    /// How many entries the source of a candidate must have for the search to end early.
    heavy: u32,
    looked: usize,
    best: Option<(Rank, T)>,
}

impl<T> Search<T> {
    /// Returns a search on behalf of a source that has `weight` entries, in a table with room for `capacity`. Sources
    /// with up to `light` entries count as equally heavy.
    pub(crate) fn new(weight: u32, light: u32, capacity: i64) -> Self {
        let weight = weight.max(light);
        // If the source of the new entry has more than half of the entries, no other source has more. Then a candidate
        // of that source is enough.
        let heavy = if i64::from(weight) > capacity / 2 { weight } else { weight.saturating_add(1) };
        Self { weight, light, heavy, looked: 0, best: None }
    }

    /// Looks at a candidate.
    pub(crate) fn look(&mut self, rank: Rank, candidate: T) {
        self.looked += 1;
        let rank = Rank { source_weight: rank.source_weight.max(self.light), ..rank };
        if self.best.as_ref().is_none_or(|(best, _)| rank > *best) {
            self.best = Some((rank, candidate));
        }
    }

    /// Returns whether enough candidates have been looked at. [`ENOUGH`] candidates are enough if one of them belongs
    /// to a heavy source. [`MOST`] candidates are enough in any case: had a heavy source a large share of the table,
    /// one of them would usually belong to it.
    pub(crate) fn is_done(&self) -> bool {
        let has_heavy = self.best.as_ref().is_some_and(|(best, _)| best.source_weight >= self.heavy);
        self.looked >= MOST || (self.looked >= ENOUGH && has_heavy)
    }

    /// Returns the entry to evict. `None` if the sources of all candidates have fewer entries than the source of the
    /// new entry. Then the new entry is evicted.
    pub(crate) fn victim(self) -> Option<T> {
        self.best.filter(|(best, _)| best.source_weight >= self.weight).map(|(_, victim)| victim)
    }
}

/// Returns the numbers below a power of two, in an order that differs each time.
///
/// Counting up from a random number would be unfair. The first candidate after a long stretch of numbers without
/// candidates would be picked and evicted most often, and so the stretch would grow.
pub fn random_order(power_of_two: usize) -> impl Iterator<Item = usize> {
    let start = fastrand::usize(..);
    // An odd step reaches every number once.
    let step = fastrand::usize(..) | 1;
    (0..power_of_two).map(move |n| start.wrapping_add(n.wrapping_mul(step)) & (power_of_two - 1))
}

/// Returns a few entries of a table, from a place that is picked at random.
pub(crate) fn candidates<T>(table: &HashTable<T>) -> impl Iterator<Item = &T> {
    let buckets = table.num_buckets();
    let start = fastrand::usize(..buckets.max(1));
    let places = (start..buckets).chain(0..start).take(LOOKS);
    places.filter_map(|at| table.get_bucket(at)).take(CANDIDATES)
}

/// The number of counters in each of the two rows. With only a quarter of this number and a thousand sources, one
/// source in 18,000 shared each of its two counters with two other sources. Such a source counted as heavy, and lost
/// its entries.
const COUNTERS: usize = 1 << 15;

/// How many claimants are distinguished (see [`Source`]).
pub(crate) const CLAIMANTS: u8 = 64;

/// How many entries each source has, in a table of fixed size. Each source has one counter in each row. Two sources may
/// share one of their two counters, but rarely both.
#[derive(Debug)]
pub(crate) struct SourceWeights {
    rows: [Box<[AtomicU32]>; 2],
    /// How many entries each claimant has.
    claims: Box<[AtomicU32]>,
    /// The number of counters of the first row that are not zero. This is roughly the number of sources, up to about
    /// ten thousand sources.
    in_use: AtomicI64,
}

/// The host or the claimant that an entry comes from. An IPv6 /64 counts as one host. A claimant is a host that
/// announces peers at addresses other than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A host, hashed.
    Own(u64),
    /// A claimant, hashed to a number below [`CLAIMANTS`].
    Claim(u8),
}

impl Source {
    /// Returns the source of a peer that announces for itself.
    pub(crate) fn own(ip: IpAddr) -> Self {
        Self::Own(hash(ip))
    }

    /// Returns the number of the claimant at this address, below [`CLAIMANTS`].
    pub(crate) fn claimant(source: IpAddr) -> u8 {
        let [byte, ..] = hash(source).to_be_bytes();
        byte % CLAIMANTS
    }
}

fn hash(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => SEED.hash_one(ip),
        IpAddr::V6(ip) => SEED.hash_one(ip.subnet()),
    }
}

impl SourceWeights {
    /// Returns a table that has counted no entries.
    pub(crate) fn new() -> Self {
        let counters = |count: usize| std::iter::repeat_with(AtomicU32::default).take(count).collect();
        Self {
            rows: [counters(COUNTERS), counters(COUNTERS)],
            claims: counters(CLAIMANTS.into()),
            in_use: AtomicI64::new(0),
        }
    }

    /// Counts an entry of this source.
    pub(crate) fn add(&self, source: Source) {
        let [first, second] = self.counters(source);
        if first.is_some_and(|counter| counter.fetch_add(1, Relaxed) == 0) {
            self.in_use.fetch_add(1, Relaxed);
        }
        second.map(|counter| counter.fetch_add(1, Relaxed));
    }

    /// Stops counting an entry of this source, because the entry is gone.
    pub(crate) fn remove(&self, source: Source) {
        let [first, second] = self.counters(source);
        if first.is_some_and(|counter| counter.fetch_sub(1, Relaxed) == 1) {
            self.in_use.fetch_sub(1, Relaxed);
        }
        second.map(|counter| counter.fetch_sub(1, Relaxed));
    }

    /// Returns the most entries of a light source. The limit is below the fair share. Otherwise a source with a full
    /// share would count as equal to a source with one entry, and a flood from many sources would evict the entries of
    /// all other sources.
    pub(crate) fn light(&self, capacity: i64) -> u32 {
        let fair_share = capacity / self.in_use.load(Relaxed).max(1);
        u32::try_from(fair_share / 2).unwrap_or(u32::MAX).clamp(2, LIGHT)
    }

    /// Returns how many entries a source has. In rare cases the result is too large, because other sources share both
    /// counters.
    pub(crate) fn of(&self, source: Source) -> u32 {
        self.counters(source).into_iter().flatten().map(|counter| counter.load(Relaxed)).min().unwrap_or(0)
    }

    fn counters(&self, source: Source) -> [Option<&AtomicU32>; 2] {
        let [first, second] = &self.rows;
        match source {
            Source::Own(hash) => {
                let [.., a, b, c, d] = hash.to_be_bytes();
                let place = |bytes| usize::from(u16::from_be_bytes(bytes)) % COUNTERS;
                [first.get(place([a, b])), second.get(place([c, d]))]
            }
            Source::Claim(claimant) => [None, self.claims.get(usize::from(claimant))],
        }
    }
}
