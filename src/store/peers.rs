//! The peers of one family in one swarm: a dense list, for picking at random, and an index once it is long.

use std::hash::BuildHasher;
use std::num::NonZeroU16;
use std::sync::LazyLock;

use hashbrown::HashTable;

use super::{Age, Moment};
use crate::bittorrent::{Endpoint, Ip, Peer, PeerId, Role};

/// Up to this many peers a scan of the list is as fast as a look-up in an index, which would cost memory in every swarm.
const SCAN: usize = 64;

/// How far the list is searched for what the index does not know. What takes longer would hold the swarm's lock too long.
const SEARCH: usize = 1_000;

/// The peers of one family. Those that download stand before those that do not: a seed is told of the former only.
#[derive(Debug)]
pub(super) struct Peers<A> {
    entries: Vec<Entry<A>>,
    downloading: usize,
    seeds: usize,
    /// Where each endpoint stands in `entries`; empty while the list is short.
    index: HashTable<u32>,
}

/// 32 bytes for an IPv4 peer, 44 for an IPv6 peer. 20 of them are the peer id, which dictionary replies and upstream
/// sessions need, and by which a client's second address is known to be its own.
#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    ip: A,
    port: NonZeroU16,
    role: Role,
    id: PeerId,
    seen: Moment,
}

/// What [`Peers::upsert`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upsert {
    /// The peer was here already, in this role.
    Refreshed(Role),
    /// The peer is new here.
    Joined,
}

impl<A> Default for Peers<A> {
    fn default() -> Self {
        Self { entries: Vec::new(), downloading: 0, seeds: 0, index: HashTable::new() }
    }
}

impl<A: Ip> Peers<A> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn seeds(&self) -> usize {
        self.seeds
    }

    /// Peers that neither download nor have all of the torrent.
    pub(super) fn partial_seeds(&self) -> usize {
        self.entries.len() - self.downloading - self.seeds
    }

    pub(super) fn upsert(&mut self, endpoint: Endpoint<A>, id: PeerId, role: Role, now: Moment) -> Upsert {
        let entry = Entry { ip: endpoint.ip, port: endpoint.port, role, id, seen: now };
        let known = self.find(endpoint).and_then(|at| Some((at, self.entries.get_mut(at)?)));
        match known {
            Some((_, old)) if old.role == role => {
                *old = entry;
                Upsert::Refreshed(role)
            }
            Some((at, &mut Entry { role: old, .. })) => {
                self.remove_at(at);
                self.push(entry);
                Upsert::Refreshed(old)
            }
            None => {
                self.push(entry);
                Upsert::Joined
            }
        }
    }

    /// Whether the peer was there: the client of that id at that endpoint, or, when it names no port, at that address. One
    /// client cannot remove another that has taken its place.
    pub(super) fn remove(&mut self, ip: A, port: Option<NonZeroU16>, id: PeerId) -> bool {
        let is_it = |entry: &Entry<A>| entry.ip == ip && entry.id == id;
        let at = match port {
            Some(port) => self.find(Endpoint { ip, port }).filter(|&at| self.entries.get(at).is_some_and(is_it)),
            // Behind the first stretch of a huge list such a client stays until it expires.
            None => self.entries.iter().take(SEARCH).position(is_it),
        };
        if let Some(at) = at {
            self.remove_at(at);
            self.shrink();
        }
        at.is_some()
    }

    /// Drops the peers that have expired, and tells when the next one will, at the earliest.
    pub(super) fn sweep(&mut self, now: Moment, age: Age) -> Option<Moment> {
        let mut next = None;
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            let expires = entry.seen.plus(age);
            if expires <= now {
                self.remove_at(at);
                // Another entry may stand here now, but one that was moved from behind: not yet looked at.
                continue;
            }
            next = Some(next.map_or(expires, |next: Moment| next.min(expires)));
            at += 1;
        }
        self.shrink();
        next
    }

    /// Gives memory back once most of the list is empty, so that what a swarm occupies follows how many are in it.
    fn shrink(&mut self) {
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
            self.index.shrink_to(self.entries.len() * 2, |&at| hash_at(&self.entries, at));
        }
    }

    /// Appends up to `want` peers to `out`, picked at random without repeats, and none that `skip` names or that has expired.
    /// Only those that download, unless `all`.
    pub(super) fn pick(
        &self,
        want: usize,
        all: bool,
        fresh_since: impl Fn(Moment) -> bool,
        skip: impl Fn(Endpoint<A>, PeerId) -> bool,
        out: &mut Vec<Peer<A>>,
    ) {
        let eligible = self.entries.get(..if all { self.entries.len() } else { self.downloading }).unwrap_or_default();
        let mut take = |entry: &Entry<A>| {
            let endpoint = Endpoint { ip: entry.ip, port: entry.port };
            let taken = fresh_since(entry.seen) && !skip(endpoint, entry.id);
            if taken {
                out.push(Peer { endpoint, id: Some(entry.id) });
            }
            usize::from(taken)
        };
        if eligible.len() <= want {
            for entry in eligible {
                take(entry);
            }
            return;
        }
        // One from each of `strata` stretches of equal length: as many random numbers as peers, none met twice, and
        // no copy of the list. One stretch more than wanted makes up for the announcer itself; the first one is random, so
        // that the one left over is.
        let strata = want + 1;
        let first = fastrand::usize(..strata);
        let mut taken = 0;
        for stratum in (first..strata).chain(0..first) {
            if taken == want {
                break;
            }
            let (start, end) = (stratum * eligible.len() / strata, (stratum + 1) * eligible.len() / strata);
            if let Some(entry) = eligible.get(fastrand::usize(start..end)) {
                taken += take(entry);
            }
        }
    }

    /// How many other clients are at this address, among the first of the list: enough to notice that there are many.
    pub(super) fn others_at(&self, ip: A, id: PeerId) -> usize {
        self.entries.iter().take(SEARCH).filter(|entry| entry.ip == ip && entry.id != id).count()
    }

    fn find(&self, endpoint: Endpoint<A>) -> Option<usize> {
        let is_it = |entry: &Entry<A>| entry.ip == endpoint.ip && entry.port == endpoint.port;
        if self.index.is_empty() {
            return self.entries.iter().position(is_it);
        }
        let at = self.index.find(hash(endpoint), |&at| self.entries.get(at as usize).is_some_and(is_it))?;
        Some(*at as usize)
    }

    fn push(&mut self, entry: Entry<A>) {
        if self.entries.len() == self.entries.capacity() {
            // By a quarter rather than by doubling: most of the memory of the process is in these lists.
            self.entries.reserve_exact((self.entries.len() / 4).max(1));
        }
        let last = self.entries.len();
        self.entries.push(entry);
        self.seeds += usize::from(entry.role == Role::Seed);
        self.note(last);
        if entry.role.downloads() {
            self.swap(last, self.downloading);
            self.downloading += 1;
        }
        if self.index.is_empty() && self.entries.len() > SCAN {
            (0..self.entries.len()).for_each(|at| self.note_in_new_index(at));
        }
    }

    fn remove_at(&mut self, mut at: usize) {
        if at < self.downloading {
            self.downloading -= 1;
            self.swap(at, self.downloading);
            at = self.downloading;
        }
        let last = self.entries.len() - 1;
        self.swap(at, last);
        self.forget(last);
        if let Some(entry) = self.entries.pop() {
            self.seeds -= usize::from(entry.role == Role::Seed);
        }
    }

    /// Exchanges two entries, and their places in the index.
    fn swap(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        if !self.index.is_empty() {
            let (Some(first), Some(second)) = (self.place(a), self.place(b)) else { return };
            // Found before either is changed: afterwards the entries no longer match what the index says of them.
            for (place, to) in [(first, b), (second, a)] {
                if let Some(slot) = self.index.get_bucket_mut(place) {
                    *slot = narrow(to);
                }
            }
        }
        self.entries.swap(a, b);
    }

    fn note(&mut self, at: usize) {
        if !self.index.is_empty() {
            self.note_in_new_index(at);
        }
    }

    fn note_in_new_index(&mut self, at: usize) {
        let at = narrow(at);
        self.index.insert_unique(hash_at(&self.entries, at), at, |&at| hash_at(&self.entries, at));
    }

    fn forget(&mut self, at: usize) {
        let at = narrow(at);
        if let Ok(found) = self.index.find_entry(hash_at(&self.entries, at), |&other| other == at) {
            found.remove();
        }
    }

    /// The bucket of the index that points at an entry.
    fn place(&self, at: usize) -> Option<usize> {
        let at = narrow(at);
        self.index.find_bucket_index(hash_at(&self.entries, at), |&other| other == at)
    }
}

/// Endpoints come from strangers, who must not be able to choose ones that collide: the seed is random per process.
static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);

fn hash<A: Ip>(endpoint: Endpoint<A>) -> u64 {
    SEED.hash_one(endpoint)
}

fn hash_at<A: Ip>(entries: &[Entry<A>], at: u32) -> u64 {
    entries.get(at as usize).map_or(0, |entry| hash(Endpoint { ip: entry.ip, port: entry.port }))
}

/// A place in the list. The store's capacity is far below 2³².
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn endpoint(n: u16) -> Endpoint<Ipv4Addr> {
        let [a, b] = n.to_be_bytes();
        Endpoint { ip: Ipv4Addr::new(10, 0, a, b), port: NonZeroU16::MIN }
    }

    fn id(n: u16) -> PeerId {
        let [a, b] = n.to_be_bytes();
        let mut id = [7; 20];
        id[..2].copy_from_slice(&[a, b]);
        PeerId(id)
    }

    fn any_role() -> impl Strategy<Value = Role> {
        prop_oneof![Just(Role::Seed), Just(Role::Leecher), Just(Role::PartialSeed)]
    }

    proptest! {
        /// Any mix of joins, role changes, departures and expiries leaves the same peers as a plain map does, on both
        /// sides of the length at which the index appears.
        #[test]
        fn behaves_like_a_map(
            steps in proptest::collection::vec((0..200_u16, 0..10_u8, any_role(), 0..3_u64), 0..600),
        ) {
            let age = Age::new(Duration::from_secs(100));
            let mut peers = Peers::default();
            let mut model: HashMap<u16, (Role, u64)> = HashMap::new();
            let mut seconds = 0;
            for (n, what, role, passes) in steps {
                seconds += passes;
                let now = Moment::after(Duration::from_secs(seconds));
                match what {
                    0 => {
                        let removed = peers.remove(endpoint(n).ip, Some(endpoint(n).port), id(n));
                        prop_assert_eq!(removed, model.remove(&n).is_some());
                    }
                    1 => {
                        let removed = peers.remove(endpoint(n).ip, None, id(n));
                        prop_assert_eq!(removed, model.remove(&n).is_some());
                    }
                    2 => {
                        peers.sweep(now, age);
                        model.retain(|_, (_, seen)| *seen + 100 > seconds);
                    }
                    _ => {
                        let expected = match model.insert(n, (role, seconds)) {
                            Some((old, _)) => Upsert::Refreshed(old),
                            None => Upsert::Joined,
                        };
                        prop_assert_eq!(peers.upsert(endpoint(n), id(n), role, now), expected);
                    }
                }
                let count = |role| model.values().filter(|(other, _)| *other == role).count();
                prop_assert_eq!(peers.len(), model.len());
                prop_assert_eq!(peers.seeds(), count(Role::Seed));
                prop_assert_eq!(peers.partial_seeds(), count(Role::PartialSeed));
                prop_assert_eq!(peers.downloading, count(Role::Leecher));
                if peers.index.is_empty() {
                    prop_assert!(peers.len() <= SCAN);
                } else {
                    prop_assert_eq!(peers.index.len(), peers.len());
                }
            }
            for n in model.keys() {
                prop_assert!(peers.find(endpoint(*n)).is_some());
            }
        }

        #[test]
        fn picks_as_many_as_there_are_and_none_twice(total in 0..300_u16, seeds in 0..300_u16, want in 0..250_usize) {
            let mut peers = Peers::default();
            let now = Moment::after(Duration::ZERO);
            for n in 0..total {
                let role = if n < seeds { Role::Seed } else { Role::Leecher };
                peers.upsert(endpoint(n), id(n), role, now);
            }
            for (all, eligible) in [(true, total), (false, total.saturating_sub(seeds))] {
                let mut out = Vec::new();
                peers.pick(want, all, |_| true, |_, other| other == id(total), &mut out);
                prop_assert_eq!(out.len(), want.min(usize::from(eligible)));
                let unique: std::collections::HashSet<_> = out.iter().map(|peer| peer.endpoint).collect();
                prop_assert_eq!(unique.len(), out.len());
                if !all {
                    prop_assert!(out.iter().all(|peer| peer.endpoint.ip >= endpoint(seeds).ip));
                }
            }
        }
    }

    #[test]
    fn memory_follows_the_number_of_peers() {
        let mut peers = Peers::default();
        for n in 0..10_000 {
            peers.upsert(endpoint(n), id(n), Role::Leecher, Moment::after(Duration::ZERO));
        }
        assert!(peers.entries.capacity() <= 12_500, "{}", peers.entries.capacity());
        for n in 0..10_000 {
            assert!(peers.remove(endpoint(n).ip, Some(endpoint(n).port), id(n)));
        }
        assert!(peers.entries.capacity() <= 4, "{}", peers.entries.capacity());
        assert!(peers.index.capacity() <= 8, "{}", peers.index.capacity());
    }

    #[test]
    fn every_peer_is_picked_about_equally_often() {
        let mut peers = Peers::default();
        for n in 0..100 {
            peers.upsert(endpoint(n), id(n), Role::Leecher, Moment::after(Duration::ZERO));
        }
        fastrand::seed(1);
        let mut seen: HashMap<Ipv4Addr, u32> = HashMap::new();
        for _ in 0..10_000 {
            let mut out = Vec::new();
            peers.pick(9, true, |_| true, |_, _| false, &mut out);
            out.iter().for_each(|peer| *seen.entry(peer.endpoint.ip).or_default() += 1);
        }
        // 900 of 10,000 each.
        let odd: Vec<_> = seen.iter().filter(|(_, count)| !(780..1_020).contains(*count)).collect();
        assert!(seen.len() == 100 && odd.is_empty(), "{} seen, {odd:?}", seen.len());
    }
}
