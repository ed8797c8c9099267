//! The peers of one family in one swarm: a dense list, for picking at random, and an index once it is long.

use std::hash::BuildHasher;
use std::num::NonZeroU16;
use std::sync::LazyLock;

use hashbrown::HashTable;
use thin_vec::ThinVec;

use super::client_id::ClientId;
use super::{Lifetime, Tick};
use crate::bittorrent::{Endpoint, Ip, Role};

/// Up to this many peers a scan of the list is as fast as a look-up in an index, which would cost memory in every swarm.
const SCAN: usize = 64;

/// How far the list is searched for what the index does not know. What takes longer would hold the lock too long.
const SEARCH: usize = 1_000;

/// How often one is drawn from a stretch of a long list until there is one that can be had.
const DRAWS: usize = 4;

/// The peers of one family, leechers first, partial seeds next, seeds last: a seed is told of leechers only, and how many
/// there are of each kind is found by halving. 16 bytes while it is short, as most of the memory of the process is in
/// lists of a few peers.
#[derive(Debug)]
pub(super) struct Peers<A> {
    entries: ThinVec<Entry<A>>,
    /// None while the list is short.
    index: Option<Box<Index>>,
}

/// What a long list has besides.
#[derive(Debug)]
struct Index {
    /// Where each endpoint stands in the list.
    places: HashTable<u32>,
    /// How far the list has been swept.
    swept: usize,
}

/// 23 bytes for an IPv4 peer, 35 for an IPv6 peer: four or 16 of address, two of port, two of time, one of role. 14 are the
/// peer id, without which dictionary replies would not be whole, a client could not be kept from its own second address,
/// and anybody could sign off anybody. Nothing is aligned, so that nothing is padding.
#[derive(Clone, Copy, Debug)]
struct Entry<A> {
    ip: A,
    port: [u8; 2],
    seen: Tick,
    role: Role,
    id: ClientId,
}

/// What [`Peers::upsert`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upsert {
    /// The peer was here already, in this role.
    Refreshed(Role),
    /// The peer is new here.
    Joined,
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// To the end. So old is the oldest peer that is left.
    Whole(u16),
    /// Not to the end: there is more to look at than one call may.
    Partly,
}

impl<A> Default for Peers<A> {
    fn default() -> Self {
        Self { entries: ThinVec::new(), index: None }
    }
}

impl<A: Ip> Entry<A> {
    fn endpoint(&self) -> Endpoint<A> {
        // Ports come from endpoints, which have none that is 0.
        let port = NonZeroU16::new(u16::from_ne_bytes(self.port)).unwrap_or(NonZeroU16::MIN);
        Endpoint { ip: self.ip, port }
    }

    fn is_at(&self, endpoint: Endpoint<A>) -> bool {
        self.ip == endpoint.ip && self.port == endpoint.port.get().to_ne_bytes()
    }
}

/// A role's place in the list.
fn rank(role: Role) -> u8 {
    match role {
        Role::Leecher => 0,
        Role::PartialSeed => 1,
        Role::Seed => 2,
    }
}

impl<A: Ip> Peers<A> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the list is so long that it is not swept at once.
    pub(super) fn is_long(&self) -> bool {
        self.index.is_some()
    }

    /// How many there are of each kind: leechers, partial seeds and seeds.
    pub(super) fn counts(&self) -> [usize; 3] {
        let leechers = self.end_of(Role::Leecher);
        let others = self.entries.get(leechers..).unwrap_or_default();
        let partial_seeds = others.partition_point(|entry| rank(entry.role) <= rank(Role::PartialSeed));
        [leechers, partial_seeds, others.len() - partial_seeds]
    }

    /// Where the peers of a role end in the list.
    fn end_of(&self, role: Role) -> usize {
        self.entries.partition_point(|entry| rank(entry.role) <= rank(role))
    }

    pub(super) fn upsert(&mut self, endpoint: Endpoint<A>, id: ClientId, role: Role, now: Tick) -> Upsert {
        let entry = Entry { ip: endpoint.ip, port: endpoint.port.get().to_ne_bytes(), seen: now, role, id };
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

    /// Removes the client of that id at that endpoint, or, when it names no port, at that address, and tells what it was.
    /// One client cannot remove another that has taken its place.
    pub(super) fn remove(&mut self, ip: A, port: Option<NonZeroU16>, id: ClientId) -> Option<Role> {
        let is_it = |entry: &Entry<A>| entry.ip == ip && entry.id == id;
        let at = match port {
            Some(port) => self.find(Endpoint { ip, port }).filter(|&at| self.entries.get(at).is_some_and(is_it)),
            // Behind the first stretch of a huge list such a client stays until it expires.
            None => self.entries.iter().take(SEARCH).position(is_it),
        };
        let removed = self.remove_at(at?);
        self.shrink();
        removed
    }

    /// Removes a peer at random but this one, for want of room.
    pub(super) fn remove_any_but(&mut self, endpoint: Endpoint<A>) -> Option<Role> {
        if self.len() < 2 {
            return None;
        }
        let at = fastrand::usize(..self.len());
        let is_it = self.entries.get(at)?.is_at(endpoint);
        self.remove_at(if is_it { (at + 1) % self.len() } else { at })
    }

    /// Drops peers that have expired, each of which `dropped` is told of. Looks at `most` peers of a long list, from where
    /// the latest sweep ended; at all of them when most have expired, because it takes less to begin the index anew than to
    /// take one after the other out of it.
    pub(super) fn sweep(&mut self, now: Tick, age: Lifetime, most: usize, mut dropped: impl FnMut(Role)) -> Swept {
        let mut at = self.index.as_ref().map_or(0, |index| index.swept);
        let mut oldest = 0;
        let slice = if self.index.is_some() { most } else { usize::MAX };
        let is_stale = |entry: &&Entry<A>| age.is_over(now.since(entry.seen));
        let ahead = self.entries.get(at..).unwrap_or_default();
        if self.index.is_some() && ahead.iter().take(most).filter(is_stale).count() > most.min(ahead.len()) / 8 * 7 {
            return self.purge(now, age, dropped);
        }
        for _ in 0..slice {
            let Some(entry) = self.entries.get(at) else { break };
            let elapsed = now.since(entry.seen);
            if age.is_over(elapsed) {
                dropped(entry.role);
                // Another entry may stand here now, but one that was moved from behind: not yet looked at.
                self.remove_at(at);
            } else {
                oldest = oldest.max(elapsed);
                at += 1;
            }
        }
        let is_done = at >= self.len();
        if let Some(index) = &mut self.index {
            index.swept = if is_done { 0 } else { at };
        }
        self.shrink();
        if is_done { Swept::Whole(oldest) } else { Swept::Partly }
    }

    /// Drops all peers that have expired, however many that are, each of which `dropped` is told of.
    pub(super) fn purge(&mut self, now: Tick, age: Lifetime, mut dropped: impl FnMut(Role)) -> Swept {
        let mut oldest = 0;
        self.entries.retain(|entry| {
            let elapsed = now.since(entry.seen);
            let stays = !age.is_over(elapsed);
            if stays {
                oldest = oldest.max(elapsed);
            } else {
                dropped(entry.role);
            }
            stays
        });
        self.index = None;
        self.shrink();
        self.make_index();
        Swept::Whole(oldest)
    }

    /// Gives memory back once most of the list is empty, so that what a swarm occupies follows how many are in it.
    fn shrink(&mut self) {
        if self.entries.len() >= self.entries.capacity() / 4 {
            return;
        }
        self.entries.shrink_to_fit();
        match &mut self.index {
            Some(_) if self.entries.len() <= SCAN / 2 => self.index = None,
            Some(index) => index.places.shrink_to(self.entries.len() * 2, |&at| hash_at(&self.entries, at)),
            None => {}
        }
    }

    /// Gives up to `want` peers to `take`, picked at random without repeats, and none that has expired or that `take` refuses.
    /// Only those that download, unless `all`.
    pub(super) fn pick(
        &self,
        want: usize,
        all: bool,
        is_fresh: impl Fn(Tick) -> bool,
        mut take: impl FnMut(Endpoint<A>, ClientId) -> bool,
    ) {
        let eligible = if all { self.len() } else { self.end_of(Role::Leecher) };
        let eligible = self.entries.get(..eligible).unwrap_or_default();
        let mut take = |entry: &Entry<A>| usize::from(is_fresh(entry.seen) && take(entry.endpoint(), entry.id));
        if eligible.len() <= want {
            for entry in eligible {
                take(entry);
            }
            return;
        }
        // One from each of `strata` stretches of equal length: as many random numbers as peers, none met twice, and
        // no copy of the list. One stretch more than wanted makes up for the announcer itself; the first one is random, so
        // that the one left over is. Where one cannot be had, as it has expired, another one of the same stretch may.
        let strata = want + 1;
        let first = fastrand::usize(..strata);
        let mut taken = 0;
        for stratum in (first..strata).chain(0..first) {
            if taken == want {
                break;
            }
            let (start, end) = (stratum * eligible.len() / strata, (stratum + 1) * eligible.len() / strata);
            let draws = std::iter::repeat_with(|| fastrand::usize(start..end)).take(DRAWS);
            taken += draws.filter_map(|at| eligible.get(at)).map(&mut take).find(|&taken| taken > 0).unwrap_or(0);
        }
    }

    /// How many other clients are at this address, among the first of the list: enough to notice that there are many.
    pub(super) fn others_at(&self, ip: A, id: ClientId) -> usize {
        self.entries.iter().take(SEARCH).filter(|entry| entry.ip == ip && entry.id != id).count()
    }

    fn find(&self, endpoint: Endpoint<A>) -> Option<usize> {
        let Some(index) = &self.index else { return self.entries.iter().position(|entry| entry.is_at(endpoint)) };
        let is_it = |&at: &u32| self.entries.get(at as usize).is_some_and(|entry| entry.is_at(endpoint));
        index.places.find(SEED.hash_one(endpoint), is_it).map(|&at| at as usize)
    }

    fn push(&mut self, entry: Entry<A>) {
        if self.entries.len() == self.entries.capacity() {
            // One by one at first and then by an eighth rather than by doubling, for memory's sake.
            self.entries.reserve_exact((self.entries.len() / 8).max(1));
        }
        let mut at = self.entries.len();
        self.entries.push(entry);
        self.note(at);
        // From among the last to where its role stands: past the others, one swap for each kind.
        for role in [Role::PartialSeed, Role::Leecher].into_iter().filter(|&role| rank(entry.role) <= rank(role)) {
            // All but the newcomer are in order.
            let others = self.entries.get(..at).unwrap_or_default();
            let start = others.partition_point(|other| rank(other.role) <= rank(role));
            self.swap(start, at);
            at = start;
        }
        self.make_index();
    }

    /// Makes the index, if there is none and there has to be one.
    fn make_index(&mut self) {
        if self.index.is_none() && self.entries.len() > SCAN {
            let places = HashTable::with_capacity(self.entries.len());
            self.index = Some(Box::new(Index { places, swept: 0 }));
            (0..self.entries.len()).for_each(|at| self.note(at));
        }
    }

    fn remove_at(&mut self, mut at: usize) -> Option<Role> {
        let role = self.entries.get(at)?.role;
        // To the end of its kind, and on to the end of each kind behind: the list stays in order.
        for kind in [Role::Leecher, Role::PartialSeed, Role::Seed].into_iter().filter(|&kind| rank(kind) >= rank(role))
        {
            let end = self.end_behind(at, kind);
            self.swap(at, end - 1);
            at = end - 1;
        }
        self.forget(at);
        self.entries.pop();
        Some(role)
    }

    /// Where the peers of a role end, when the one at `at` is on its way to the end of the list.
    fn end_behind(&self, at: usize, role: Role) -> usize {
        let behind = self.entries.get(at + 1..).unwrap_or_default();
        at + 1 + behind.partition_point(|entry| rank(entry.role) <= rank(role))
    }

    /// Exchanges two entries, and their places in the index.
    fn swap(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        if let Some(index) = &mut self.index {
            let place = |at| index.places.find_bucket_index(hash_at(&self.entries, at), |&other| other == at);
            let (Some(first), Some(second)) = (place(narrow(a)), place(narrow(b))) else { return };
            // Found before either is changed: afterwards the entries no longer match what the index says of them.
            for (place, to) in [(first, b), (second, a)] {
                if let Some(slot) = index.places.get_bucket_mut(place) {
                    *slot = narrow(to);
                }
            }
        }
        self.entries.swap(a, b);
    }

    fn note(&mut self, at: usize) {
        if let Some(index) = &mut self.index {
            let at = narrow(at);
            let hash = hash_at(&self.entries, at);
            index.places.insert_unique(hash, at, |&at| hash_at(&self.entries, at));
        }
    }

    fn forget(&mut self, at: usize) {
        if let Some(index) = &mut self.index {
            let at = narrow(at);
            if let Ok(found) = index.places.find_entry(hash_at(&self.entries, at), |&other| other == at) {
                found.remove();
            }
        }
    }
}

/// Endpoints come from strangers, who must not be able to choose ones that collide: the seed is random per process.
pub(super) static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);

fn hash_at<A: Ip>(entries: &[Entry<A>], at: u32) -> u64 {
    entries.get(at as usize).map_or(0, |entry| SEED.hash_one(entry.endpoint()))
}

/// A place in the list. The store's capacity is far below 2³².
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::client_id::Prefixes;
    use super::super::{Age, Moment};
    use super::*;
    use crate::bittorrent::PeerId;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    fn endpoint(n: u16) -> Endpoint<Ipv4Addr> {
        let [a, b] = n.to_be_bytes();
        Endpoint { ip: Ipv4Addr::new(10, 0, a, b), port: NonZeroU16::MIN }
    }

    /// None of these has a beginning of its own.
    fn id(n: u16) -> ClientId {
        let [a, b] = n.to_be_bytes();
        let mut id = [7; 20];
        id[18..].copy_from_slice(&[a, b]);
        Prefixes::default().shorten(PeerId(id))
    }

    fn tick(seconds: u64) -> Tick {
        life().tick(Moment::after(Duration::from_secs(seconds)))
    }

    fn life() -> Lifetime {
        Lifetime::new(Age::new(Duration::from_secs(100)))
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
            let mut peers = Peers::default();
            let mut model: HashMap<u16, (Role, u64)> = HashMap::new();
            let mut seconds = 0;
            for (n, what, role, passes) in steps {
                seconds += passes;
                let now = tick(seconds);
                match what {
                    0 => {
                        let removed = peers.remove(endpoint(n).ip, Some(endpoint(n).port), id(n));
                        prop_assert_eq!(removed, model.remove(&n).map(|(role, _)| role));
                    }
                    1 => {
                        let removed = peers.remove(endpoint(n).ip, None, id(n));
                        prop_assert_eq!(removed, model.remove(&n).map(|(role, _)| role));
                    }
                    2 => {
                        let mut dropped = 0;
                        while peers.sweep(now, life(), 30, |_| dropped += 1) == Swept::Partly {}
                        let before = model.len();
                        model.retain(|_, (_, seen)| *seen + 100 > seconds);
                        prop_assert_eq!(dropped, before - model.len());
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
                prop_assert_eq!(peers.counts(), [Role::Leecher, Role::PartialSeed, Role::Seed].map(count));
                prop_assert!(peers.entries.is_sorted_by_key(|entry| rank(entry.role)));
                match &peers.index {
                    Some(index) => prop_assert_eq!(index.places.len(), peers.len()),
                    None => prop_assert!(peers.len() <= SCAN),
                }
            }
            for n in model.keys() {
                prop_assert!(peers.find(endpoint(*n)).is_some());
            }
        }

        #[test]
        fn picks_as_many_as_there_are_and_none_twice(total in 0..300_u16, seeds in 0..300_u16, want in 0..250_usize) {
            let mut peers = Peers::default();
            let now = tick(0);
            for n in 0..total {
                let role = if n < seeds { Role::Seed } else { Role::Leecher };
                peers.upsert(endpoint(n), id(n), role, now);
            }
            for (all, eligible) in [(true, total), (false, total.saturating_sub(seeds))] {
                let mut out = Vec::new();
                peers.pick(want, all, |_| true, |endpoint, other| {
                    let taken = other != id(total);
                    out.extend(taken.then_some(endpoint));
                    taken
                });
                prop_assert_eq!(out.len(), want.min(usize::from(eligible)));
                let unique: std::collections::HashSet<_> = out.iter().collect();
                prop_assert_eq!(unique.len(), out.len());
                if !all {
                    prop_assert!(out.iter().all(|picked: &Endpoint<Ipv4Addr>| picked.ip >= endpoint(seeds).ip));
                }
            }
        }
    }

    #[test]
    fn memory_follows_the_number_of_peers() {
        let mut peers = Peers::default();
        for n in 0..10_000 {
            peers.upsert(endpoint(n), id(n), Role::Leecher, tick(0));
        }
        assert!(peers.entries.capacity() <= 12_500, "{}", peers.entries.capacity());
        for n in 0..10_000 {
            assert_eq!(peers.remove(endpoint(n).ip, Some(endpoint(n).port), id(n)), Some(Role::Leecher));
        }
        assert!(peers.entries.capacity() <= 4, "{}", peers.entries.capacity());
        assert!(peers.index.is_none());
        assert_eq!(
            (size_of::<Entry<Ipv4Addr>>(), size_of::<Entry<Ipv6Addr>>(), size_of::<Peers<Ipv4Addr>>()),
            (23, 35, 16)
        );
    }

    #[test]
    fn every_peer_is_picked_about_equally_often() {
        let mut peers = Peers::default();
        for n in 0..100 {
            peers.upsert(endpoint(n), id(n), Role::Leecher, tick(0));
        }
        fastrand::seed(1);
        let mut seen: HashMap<Ipv4Addr, u32> = HashMap::new();
        for _ in 0..10_000 {
            let mut out = Vec::new();
            peers.pick(
                9,
                true,
                |_| true,
                |endpoint, _| {
                    out.push(endpoint);
                    true
                },
            );
            out.iter().for_each(|endpoint: &Endpoint<Ipv4Addr>| *seen.entry(endpoint.ip).or_default() += 1);
        }
        // 900 of 10,000 each.
        let odd: Vec<_> = seen.iter().filter(|(_, count)| !(780..1_020).contains(*count)).collect();
        assert!(seen.len() == 100 && odd.is_empty(), "{} seen, {odd:?}", seen.len());
    }
}
