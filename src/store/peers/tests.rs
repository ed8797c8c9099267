use super::super::client_id::Prefixes;
use super::super::entry::Provenance;
use super::super::pick::{RUN, pick_from, spread};
use super::super::ranked::Ranked;
use super::super::time::Pace;
use super::*;
use crate::clock::{Timestamp, Ttl};
use crate::topology::Nearness;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;
use tracker_protocol::{Endpoint, PeerId, Role};

/// Returns the key of the nth peer. Each peer is in a subnet of its own.
fn key(n: u16) -> PeerKey<Ipv4Addr> {
    let [a, b] = n.to_be_bytes();
    PeerKey { endpoint: Endpoint { ip: Ipv4Addr::new(10, a, b, 0), port: NonZeroU16::MIN }, zone: None }
}

/// Records a peer. Returns the role that the peer had before, if it was recorded.
fn upsert(peers: &mut Peers<Ipv4Addr>, n: u16, role: Role, now: Tick) -> Option<Role> {
    let entry = Entry::new(key(n), id(n), PeerState::new(role, false), Provenance::Own(Pace::UNKNOWN), now);
    match peers.at(key(n)) {
        None => peers.push(entry),
        Some((at, old)) => {
            peers.replace(at, &old, entry);
            return Some(old.kind().role());
        }
    }
    None
}

/// Removes a peer. Returns the role that the peer had.
fn remove(peers: &mut Peers<Ipv4Addr>, n: u16, names_port: bool) -> Option<Role> {
    let mut removed = None;
    let at = (key(n).endpoint.ip, None);
    let port = names_port.then_some(key(n));
    peers.remove(port, id(n), |entry| (entry.ip, entry.zone) == at, |entry| removed = Some(entry.kind().role()));
    removed
}

/// Picks peers for which `is_visible` returns true.
fn picked(
    peers: &Peers<Ipv4Addr>,
    want: usize,
    all: bool,
    nearness: impl Fn(&Entry<Ipv4Addr>) -> Nearness,
    is_visible: impl Fn(&Entry<Ipv4Addr>) -> bool,
) -> Vec<Ipv4Addr> {
    let mut out = Vec::new();
    let visible = |entry: &Entry<_>| is_visible(entry).then(|| entry.endpoint());
    let eligible = peers.eligible(all, false);
    pick_from(eligible, Nearness::Zone, nearness, visible, |_| None, &mut Ranked::new(&mut out, want));
    out.iter().map(|peer| peer.endpoint.ip).collect()
}

fn far(_: &Entry<Ipv4Addr>) -> Nearness {
    Nearness::Elsewhere
}

/// Returns the id of the nth client. All ids have the same prefix.
fn id(n: u16) -> ClientId {
    let [a, b] = n.to_be_bytes();
    let mut id = [7; 20];
    id[18..].copy_from_slice(&[a, b]);
    Prefixes::default().shorten(PeerId(id), Tick(0), true)
}

fn tick(seconds: u64) -> Tick {
    life().tick(Timestamp::after(Duration::from_secs(seconds)))
}

fn life() -> TtlTicks {
    TtlTicks::new(Ttl::new(Duration::from_secs(100)))
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Seed), Just(Role::Leecher), Just(Role::PartialSeed)]
}

proptest! {
    /// Any mix of joins, role changes, departures and expiries leaves the same peers as a plain map, with and without
    /// an index.
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
                    prop_assert_eq!(remove(&mut peers, n, true), model.remove(&n).map(|(role, _)| role));
                }
                1 => {
                    prop_assert_eq!(remove(&mut peers, n, false), model.remove(&n).map(|(role, _)| role));
                }
                2 => {
                    let mut dropped = 0;
                    while peers.sweep(now, life(), 30, |_| dropped += 1) == Swept::Partly {}
                    let before = model.len();
                    model.retain(|_, (_, seen)| *seen + 100 > seconds);
                    prop_assert_eq!(dropped, before - model.len());
                }
                _ => {
                    let expected = model.insert(n, (role, seconds)).map(|(role, _)| role);
                    prop_assert_eq!(upsert(&mut peers, n, role, now), expected);
                }
            }
            let count = |role| model.values().filter(|(other, _)| *other == role).count();
            prop_assert_eq!(peers.len(), model.len());
            prop_assert_eq!(peers.counts(), [Role::Leecher, Role::PartialSeed, Role::Seed].map(count));
            prop_assert!(peers.entries.is_sorted_by_key(Entry::kind));
            match &peers.index {
                Some(index) => prop_assert_eq!(index.lengths(), [peers.len(); 2]),
                None => prop_assert!(peers.len() <= SCAN),
            }
        }
        for n in model.keys() {
            prop_assert!(peers.find(key(*n)).is_some() && peers.find(key(*n)) == peers.first_of(id(*n)).map(|(at, _)| at));
        }
    }

    #[test]
    fn picks_as_many_as_there_are_and_none_twice(total in 0..300_u16, seeds in 0..300_u16, want in 0..250_usize) {
        let mut peers = Peers::default();
        let now = tick(0);
        for n in 0..total {
            let role = if n < seeds { Role::Seed } else { Role::Leecher };
            upsert(&mut peers, n, role, now);
        }
        for (all, eligible) in [(true, total), (false, total.saturating_sub(seeds))] {
            let out = picked(&peers, want, all, far, |entry| !entry.is_of(id(total)));
            prop_assert_eq!(out.len(), want.min(usize::from(eligible)));
            let unique: std::collections::HashSet<_> = out.iter().collect();
            prop_assert_eq!(unique.len(), out.len());
            if !all {
                prop_assert!(out.iter().all(|picked| *picked >= key(seeds).endpoint.ip));
            }
        }
    }

    /// A few near or visible peers are found among many others, anywhere in the list.
    #[test]
    fn few_eligible_peers_are_found_among_many(
        total in 1..512_u16, few in proptest::collection::hash_set(0..512_u16, 0..40), want in 1..60_usize,
    ) {
        let mut peers = Peers::default();
        for n in 0..total {
            upsert(&mut peers, n, Role::Leecher, tick(0));
        }
        let ips: std::collections::HashSet<_> = few.iter().map(|&n| key(n).endpoint.ip).collect();
        let is_one = |entry: &Entry<Ipv4Addr>| ips.contains(&entry.ip);
        let expected = few.iter().filter(|&&n| n < total).count().min(want);
        prop_assert_eq!(picked(&peers, want, true, far, is_one).len(), expected);
        let near = |entry: &Entry<_>| if is_one(entry) { Nearness::Prefix } else { Nearness::Elsewhere };
        let out = picked(&peers, want, true, near, |_| true);
        prop_assert_eq!(out.len(), want.min(usize::from(total)));
        prop_assert_eq!(out.iter().take_while(|ip| ips.contains(ip)).count(), expected);
    }

    #[test]
    fn a_spread_yields_every_entry_once(length in 0..300_usize, strata in 1..80_usize) {
        let all: Vec<_> = (0..length).collect();
        let mut met: Vec<_> = spread(&all, strata).flatten().flatten().copied().collect();
        let stretch = length / strata + 1;
        let first: std::collections::HashSet<_> = met.iter().take(strata * RUN).map(|n| n / stretch).collect();
        prop_assert!(length < strata || first.len() * 2 >= strata, "{} of {}", first.len(), strata);
        met.sort_unstable();
        prop_assert_eq!(met, all);
    }
}

#[test]
fn memory_follows_the_number_of_peers() {
    let mut peers = Peers::default();
    for n in 0..10_000 {
        upsert(&mut peers, n, Role::Leecher, tick(0));
    }
    assert!(peers.entries.capacity() <= 12_500, "{}", peers.entries.capacity());
    for n in 0..10_000 {
        assert_eq!(remove(&mut peers, n, true), Some(Role::Leecher));
    }
    assert!(peers.entries.capacity() <= 4, "{}", peers.entries.capacity());
    assert!(peers.index.is_none());
    assert_eq!(size_of::<Peers<Ipv4Addr>>(), 16);
}

#[test]
fn every_peer_is_picked_about_equally_often() {
    let mut peers = Peers::default();
    for n in 0..100 {
        upsert(&mut peers, n, Role::Leecher, tick(0));
    }
    fastrand::seed(1);
    let mut seen: HashMap<Ipv4Addr, u32> = HashMap::new();
    for _ in 0..10_000 {
        let out = picked(&peers, 9, true, far, |_| true);
        out.into_iter().for_each(|ip| *seen.entry(ip).or_default() += 1);
    }
    // Each peer should be in 900 of the 10,000 results.
    let odd: Vec<_> = seen.iter().filter(|(_, count)| !(780..1_020).contains(*count)).collect();
    assert!(seen.len() == 100 && odd.is_empty(), "{} seen, {odd:?}", seen.len());
}
