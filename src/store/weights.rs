//! How many peers each source has, so that the source that has the most gives way first.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

use super::index::SEED;
use crate::bittorrent::Ip;

/// Counters in each of the two rows.
const COUNTERS: usize = 1 << 13;

/// Sources of claims that are told apart.
pub(super) const CLAIMANTS: u8 = 64;

/// Peers of each source, counted in a table of fixed size. Sources may share a counter; they rarely share both of theirs.
#[derive(Debug)]
pub(super) struct Weights {
    rows: [Box<[AtomicU32]>; 2],
    /// Peers that were claimed, by who claimed them.
    claims: Box<[AtomicU32]>,
    /// Counters of the first row that are not zero: about as many as there are sources, as long as there are a few thousand.
    in_use: AtomicI64,
}

/// Who has recorded a peer: a host (a /64 of IPv6), or one that claims other addresses for peers than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Own(u64),
    Claim(u8),
}

impl Source {
    /// The source of a peer that announces for itself.
    pub(super) fn own(ip: IpAddr) -> Self {
        Self::Own(hash(ip))
    }

    /// What stands for the host that claims other addresses: one of [`CLAIMANTS`].
    pub(super) fn claimant(source: IpAddr) -> u8 {
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

impl Weights {
    pub(super) fn new() -> Self {
        let counters = |count: usize| std::iter::repeat_with(AtomicU32::default).take(count).collect();
        Self {
            rows: [counters(COUNTERS), counters(COUNTERS)],
            claims: counters(CLAIMANTS.into()),
            in_use: AtomicI64::new(0),
        }
    }

    pub(super) fn add(&self, source: Source) {
        let [first, second] = self.counters(source);
        if first.is_some_and(|counter| counter.fetch_add(1, Relaxed) == 0) {
            self.in_use.fetch_add(1, Relaxed);
        }
        second.map(|counter| counter.fetch_add(1, Relaxed));
    }

    pub(super) fn remove(&self, source: Source) {
        let [first, second] = self.counters(source);
        if first.is_some_and(|counter| counter.fetch_sub(1, Relaxed) == 1) {
            self.in_use.fetch_sub(1, Relaxed);
        }
        second.map(|counter| counter.fetch_sub(1, Relaxed));
    }

    /// How many peers each source would have if all had the same number of so many.
    pub(super) fn share_of(&self, peers: i64) -> u32 {
        u32::try_from(peers / self.in_use.load(Relaxed).max(1)).unwrap_or(u32::MAX)
    }

    /// How many peers a source has; in rare cases more.
    pub(super) fn of(&self, source: Source) -> u32 {
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
