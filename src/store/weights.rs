//! How many peers each source has, so that the source that has the most gives way first.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

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
        Self { rows: [counters(COUNTERS), counters(COUNTERS)], claims: counters(CLAIMANTS.into()) }
    }

    pub(super) fn add(&self, source: Source) {
        self.counters(source).for_each(|counter| {
            counter.fetch_add(1, Relaxed);
        });
    }

    pub(super) fn remove(&self, source: Source) {
        self.counters(source).for_each(|counter| {
            counter.fetch_sub(1, Relaxed);
        });
    }

    /// How many peers a source has; in rare cases more.
    pub(super) fn of(&self, source: Source) -> u32 {
        self.counters(source).map(|counter| counter.load(Relaxed)).min().unwrap_or(0)
    }

    fn counters(&self, source: Source) -> impl Iterator<Item = &AtomicU32> {
        let [first, second] = &self.rows;
        let places = match source {
            Source::Own(hash) => {
                let [.., a, b, c, d] = hash.to_be_bytes();
                let place = |bytes| usize::from(u16::from_be_bytes(bytes)) % COUNTERS;
                [first.get(place([a, b])), second.get(place([c, d]))]
            }
            Source::Claim(claimant) => [self.claims.get(usize::from(claimant)), None],
        };
        places.into_iter().flatten()
    }
}
