//! The contract of the store, in tests.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, Announcement, Moment, Picked, Store, StoreOptions};
use crate::bittorrent::{ExternalAddress, InfoHash, PeerId, PeerLists, Place, Role, SwarmCounts, Views, Zone};

const AGE: Duration = Duration::from_mins(10);
const INTERVAL: Duration = Duration::from_secs(30);

fn store() -> Store {
    store_of(2_000_000)
}

fn store_of(max_peers: u64) -> Store {
    Store::new(StoreOptions { peer_age: AGE, announce_interval: INTERVAL, max_peers })
}

/// In no zone.
fn somewhere(ip: impl Into<IpAddr>) -> Place {
    Place { ip: ip.into(), zone: None }
}

fn announce(store: &Store, now: Moment, info_hash: InfoHash, announcement: &Announcement) -> Picked {
    store.announce(now, &Views::default(), info_hash, announcement)
}

fn at(seconds: u64) -> Moment {
    Moment::after(Duration::from_secs(seconds))
}

fn hash(n: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

/// An announce of a leecher that has an id of its own for each address.
fn from(address: &str) -> Announcement {
    let address: SocketAddr = address.parse().unwrap();
    let mut id = [b'-'; 20];
    id.iter_mut().zip(address.to_string().bytes()).for_each(|(to, from)| *to = from);
    Announcement {
        place: somewhere(address.ip()),
        is_claim: false,
        outside: None,
        source: address.ip(),
        port: NonZeroU16::new(address.port()),
        peer_id: PeerId(id),
        role: Role::Leecher,
        action: Action::Stay { completed: false },
        want: 50,
        ids: true,
    }
}

fn seed(address: &str) -> Announcement {
    Announcement { role: Role::Seed, ..from(address) }
}

fn told(picked: &Picked) -> HashSet<String> {
    let PeerLists { v4, v6 } = &picked.peers;
    let v4 = v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
    v4.chain(v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect()
}

fn set<const N: usize>(addresses: [&str; N]) -> HashSet<String> {
    addresses.into_iter().map(str::to_owned).collect()
}

#[test]
fn peers_of_a_swarm_are_told_of_each_other_and_of_no_other_swarm() {
    let store = store();
    assert_eq!(told(&announce(&store, at(0), hash(1), &from("10.0.0.1:1"))), set([]));
    assert_eq!(told(&announce(&store, at(0), hash(2), &from("10.0.0.9:9"))), set([]));
    assert_eq!(told(&announce(&store, at(0), hash(1), &from("[fd00::1]:2"))), set(["10.0.0.1:1"]));
    assert_eq!(told(&announce(&store, at(0), hash(1), &from("10.0.0.1:1"))), set(["[fd00::1]:2"]));
}

#[test]
fn a_seed_is_told_of_leechers_only() {
    let store = store();
    announce(&store, at(0), hash(1), &seed("10.0.0.1:1"));
    announce(&store, at(0), hash(1), &Announcement { role: Role::PartialSeed, ..from("10.0.0.2:2") });
    announce(&store, at(0), hash(1), &from("10.0.0.3:3"));
    assert_eq!(told(&announce(&store, at(0), hash(1), &seed("10.0.0.4:4"))), set(["10.0.0.3:3"]));
    let leecher = announce(&store, at(0), hash(1), &from("10.0.0.5:5"));
    assert_eq!(told(&leecher), set(["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.4:4"]));
    assert_eq!(leecher.counts, SwarmCounts { complete: 2, incomplete: 3, partial_seeds: 1, downloaded: 0 });
}

#[test]
fn own_family_first_when_there_are_more_than_wanted() {
    let store = store();
    for n in 1..=20 {
        announce(&store, at(0), hash(1), &from(&format!("10.0.0.{n}:1")));
        announce(&store, at(0), hash(1), &from(&format!("[fd00::{n}]:1")));
    }
    let v4 = announce(&store, at(0), hash(1), &Announcement { want: 25, ..from("10.0.0.99:1") });
    assert_eq!((v4.peers.v4.len(), v4.peers.v6.len()), (20, 5));
    let v6 = announce(&store, at(0), hash(1), &Announcement { want: 15, ..from("[fd00::99]:1") });
    assert_eq!((v6.peers.v4.len(), v6.peers.v6.len()), (0, 15));
    let none = announce(&store, at(0), hash(1), &Announcement { want: 0, ..from("10.0.0.99:1") });
    assert!(none.peers.is_empty());
}

#[test]
fn a_client_is_never_told_of_itself_not_even_of_its_other_family() {
    let store = store();
    let v4 = from("10.0.0.1:1");
    announce(&store, at(0), hash(1), &v4);
    let v6 = Announcement { peer_id: v4.peer_id, ..from("[fd00::1]:1") };
    assert_eq!(told(&announce(&store, at(0), hash(1), &v6)), set([]));
    let restarted = Announcement { peer_id: PeerId(*b"-another-client-now-"), ..v4 };
    assert_eq!(told(&announce(&store, at(0), hash(1), &restarted)), set(["[fd00::1]:1"]));
}

#[test]
fn loopback_peers_are_told_to_loopback_clients_only() {
    let store = store();
    announce(&store, at(0), hash(1), &from("127.0.0.1:1"));
    assert_eq!(told(&announce(&store, at(0), hash(1), &from("10.0.0.1:1"))), set([]));
    assert_eq!(told(&announce(&store, at(0), hash(1), &from("127.0.0.2:1"))), set(["127.0.0.1:1", "10.0.0.1:1"]));
}

#[test]
fn the_own_subnet_comes_first_and_the_rest_behind_it() {
    let store = store();
    for n in 1..=99 {
        announce(&store, at(0), hash(1), &from(&format!("10.0.{n}.1:1")));
        announce(&store, at(0), hash(1), &from(&format!("[2001:db8:0:{n}::1]:1")));
    }
    let neighbours = ["10.0.7.1:1", "10.0.7.2:1", "10.0.7.3:1"];
    neighbours.iter().for_each(|neighbour| drop(announce(&store, at(0), hash(1), &from(neighbour))));
    let first = |picked: &Picked| {
        let v4 = picked.peers.v4.iter().map(|peer| peer.endpoint.ip.to_string());
        v4.take_while(|ip| ip.starts_with("10.0.7.")).count()
    };
    for want in [1, 2, 3, 50, 200] {
        let asks = Announcement { want, port: None, ..from("10.0.7.9:1") };
        let picked = announce(&store, at(0), hash(1), &asks);
        assert_eq!((first(&picked), picked.peers.len()), (want.min(3), want), "{want}");
    }
    let asks = Announcement { want: 10, port: None, ..from("[2001:db8:0:7::9]:1") };
    let picked = announce(&store, at(0), hash(1), &asks);
    assert_eq!(picked.peers.v6[0].endpoint.ip.to_string(), "2001:db8:0:7::1");
}

/// Two sites that use the same private network. The other one's router is seen where its announces come from.
fn two_sites() -> Views {
    let zone = |name: &str, networks: &[&str], external: [u8; 4]| Zone {
        name: name.to_owned(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        external: ExternalAddress { v4: Some(external.into()), v6: None },
    };
    let here = zone("here", &["192.168.0.0/16"], [203, 0, 113, 1]);
    let there = zone("there", &["192.168.0.0/16", "10.99.0.1/32"], [203, 0, 113, 2]);
    Views::new(&[here, there], ExternalAddress::default())
}

#[test]
fn the_own_zone_comes_first_and_sites_with_the_same_network_are_two() {
    let (store, views) = (store(), two_sites());
    let from_zone = |router: &str, address: &str| {
        let announcement = from(address);
        let place = views.place_seen_from(announcement.place.ip, router.parse().unwrap());
        Announcement { place, peer_id: from(&format!("{router}:1")).peer_id, ..announcement }
    };
    let announce = |announcement: &Announcement| store.announce(at(0), &views, hash(1), announcement);
    let (here, there) = ("192.168.0.1", "10.99.0.1");
    announce(&Announcement { peer_id: from("1.1.1.1:1").peer_id, ..from_zone(here, "192.168.1.5:1") });
    announce(&Announcement { peer_id: from("2.2.2.2:2").peer_id, ..from_zone(there, "192.168.1.5:1") });
    announce(&Announcement { peer_id: from("3.3.3.3:3").peer_id, ..from_zone(there, "192.168.1.6:1") });
    (1..=200).for_each(|n| drop(announce(&from(&format!("198.51.100.{n}:1")))));
    assert_eq!(store.scrape(at(0), hash(1)).incomplete, 203);

    let first = |asks: &Announcement| told(&Picked { peers: head(&announce(asks).peers, 2), ..Picked::default() });
    let asks = Announcement { port: None, ..from_zone(there, "192.168.200.9:1") };
    assert_eq!(first(&asks), set(["192.168.1.5:1", "192.168.1.6:1"]));
    // One of the two there: their router forwards the port to one of them only.
    let asks = Announcement { port: None, want: 200, ..from_zone(here, "192.168.200.9:1") };
    assert_eq!(announce(&asks).peers.v4[0].endpoint.ip.to_string(), "192.168.1.5");
    let everybody = Announcement { want: 202, ..asks };
    let of_there = |peers: &PeerLists| peers.v4.iter().filter(|peer| peer.endpoint.ip.octets()[3] == 2).count();
    let picked = announce(&everybody);
    assert_eq!((picked.peers.len(), of_there(&picked.peers)), (202, 2), "198.51.100.2 and the router");
    // Each is signed off where it is.
    announce(&Announcement {
        action: Action::Leave,
        peer_id: from("1.1.1.1:1").peer_id,
        ..from_zone(here, "192.168.1.5:1")
    });
    assert_eq!(first(&Announcement { port: None, ..from_zone(there, "192.168.200.9:1") }).len(), 2);
}

fn head(peers: &PeerLists, count: usize) -> PeerLists {
    PeerLists { v4: peers.v4.iter().take(count).copied().collect(), v6: Vec::new() }
}

#[test]
fn who_reaches_few_is_told_as_many_as_it_wants() {
    let store = store();
    for n in 0..900_u16 {
        let [a, b] = n.to_be_bytes();
        announce(&store, at(0), hash(1), &from(&format!("10.0.{a}.{b}:1")));
        if n % 30 == 0 {
            announce(&store, at(0), hash(1), &from(&format!("203.0.{a}.{b}:1")));
        }
    }
    for want in [5, 30, 50] {
        let asks = Announcement { port: None, want, ..from("8.8.8.8:8") };
        let picked = announce(&store, at(0), hash(1), &asks);
        assert_eq!(picked.peers.len(), want.min(30));
        assert!(told(&picked).iter().all(|address| address.starts_with("203.")));
    }
}

#[test]
fn a_client_on_both_families_counts_once() {
    for swarm_size in [0, 300] {
        let store = store();
        for n in 0..swarm_size {
            announce(&store, at(0), hash(1), &from(&format!("10.1.{}.{}:1", n / 250, n % 250)));
            announce(&store, at(0), hash(1), &from(&format!("[fd00::1:{n:x}]:1")));
        }
        let others = 2 * swarm_size;
        let v4 = from("10.0.0.1:1");
        let v6 = Announcement { peer_id: v4.peer_id, ..from("[fd00::1]:1") };
        let done = |announcement: &Announcement| Announcement {
            role: Role::Seed,
            action: Action::Stay { completed: true },
            ..*announcement
        };
        let stopped = |announcement: &Announcement| Announcement { action: Action::Leave, ..*announcement };
        let counts = |announcement: &Announcement| {
            let SwarmCounts { complete, incomplete, downloaded, .. } =
                announce(&store, at(0), hash(1), announcement).counts;
            (complete, incomplete - others, downloaded)
        };
        for (first, second) in [(&v4, &v6), (&v6, &v4)] {
            assert_eq!(counts(first), (0, 1, 0));
            assert_eq!(counts(second), (0, 1, 0));
            assert_eq!(counts(first), (0, 1, 0));
            let asks = Announcement { want: 1000, ..from("10.0.0.9:9") };
            let picked = announce(&store, at(0), hash(1), &asks);
            assert_eq!(picked.peers.len(), 2 + others as usize, "it has two addresses");
            announce(&store, at(0), hash(1), &stopped(&asks));
            // Who stays counts under the address that stays.
            assert_eq!(counts(&stopped(first)), (0, 1, 0));
            assert_eq!(counts(&stopped(second)), (0, 0, 0));
        }
        counts(&v4);
        counts(&v6);
        assert_eq!(counts(&done(&v6)), (1, 1, 1), "a leecher on the other, until it says more");
        assert_eq!(counts(&done(&v4)), (1, 0, 1), "one download");
        assert_eq!(counts(&done(&v6)), (1, 0, 1));
        let census: i64 = store.totals().peers.iter().flatten().sum();
        assert_eq!(census, i64::from(others) + 2, "addresses by family");
    }
}

#[test]
fn a_client_on_both_families_counts_once_wherever_it_has_moved() {
    let store = store();
    for n in 0..300 {
        announce(&store, at(0), hash(1), &from(&format!("10.1.{}.{}:1", n / 250, n % 250)));
    }
    let v6 = from("[fd00::1]:1");
    let moves = |seconds, ip: &str| {
        let v4 = Announcement { peer_id: v6.peer_id, ..from(ip) };
        announce(&store, at(seconds), hash(1), &v4);
        announce(&store, at(seconds), hash(1), &v6).counts.incomplete
    };
    assert_eq!(moves(0, "10.0.0.1:1"), 301);
    assert_eq!(moves(100, "10.0.0.2:1"), 302, "its old address is there until it expires");
    assert_eq!(moves(599, "10.0.0.2:1"), 302);
    assert_eq!(moves(600, "10.0.0.2:1"), 1, "all others and the old address are gone");
}

/// What a client that is on both families may do: its host, which client of that host, on which family, and what.
fn any_step() -> impl Strategy<Value = (u8, bool, bool, u8)> {
    (0..5_u8, any::<bool>(), any::<bool>(), 0..8_u8)
}

proptest! {
    /// Whatever hosts do that run one client after the other at the same endpoints: who is the same on both families counts
    /// once, on both sides of the length at which a list has an index.
    #[test]
    fn counts_are_those_of_distinct_clients(
        others in prop_oneof![Just(0_u8), Just(100)], steps in proptest::collection::vec(any_step(), 0..60),
    ) {
        type Entry = (PeerId, Role, u64);
        let store = store();
        let mut seconds = 0;
        let [mut v4, mut v6] = [const { [None::<Entry>; 5] }; 2];
        for (host, restarted, is_v4, what) in steps {
            let host_ip = if is_v4 { format!("10.0.0.{host}:1") } else { format!("[fd00::{host}]:1") };
            let peer_id = PeerId([if restarted { host + 100 } else { host }; 20]);
            let role = if what % 2 == 0 { Role::Seed } else { Role::Leecher };
            let announcement = Announcement { peer_id, role, ..from(&host_ip) };
            let slot = if is_v4 { &mut v4 } else { &mut v6 };
            let entry = &mut slot[usize::from(host)];
            // The others are always there; of a list that is long what has expired goes at once only if it is looked at.
            seconds += u64::from(what == 7) * 250;
            for n in 0..others {
                announce(&store, at(seconds), hash(1), &Announcement { want: 0, ..from(&format!("10.1.0.{n}:1")) });
                announce(&store, at(seconds), hash(1), &Announcement { want: 0, ..from(&format!("[fd00:1::{n:x}]:1")) });
            }
            if what == 6 {
                entry.take_if(|(id, ..)| *id == peer_id);
                announce(&store, at(seconds), hash(1), &Announcement { action: Action::Leave, ..announcement });
            } else {
                *entry = Some((peer_id, role, seconds));
                announce(&store, at(seconds), hash(1), &announcement);
            }
            for entry in v4.iter_mut().chain(&mut v6) {
                entry.take_if(|(.., seen)| *seen + 600 <= seconds);
            }
            let is_second = |(host, entry): &(usize, &Entry)| v4[*host].is_some_and(|(id, role, _)| (id, role) == (entry.0, entry.1));
            let firsts = v6.iter().enumerate().filter_map(|(host, entry)| Some((host, entry.as_ref()?)));
            let firsts: Vec<_> = firsts.filter(|entry| !is_second(entry)).map(|(_, entry)| entry).collect();
            let count = |role| {
                let all = v4.iter().flatten().chain(firsts.iter().copied());
                u32::try_from(all.filter(|(_, other, _)| *other == role).count()).unwrap()
            };
            let counts = store.scrape(at(seconds), hash(1));
            let expected = (count(Role::Seed), count(Role::Leecher) + 2 * u32::from(others));
            prop_assert_eq!((counts.complete, counts.incomplete), expected);
        }
    }
}

#[test]
fn one_who_is_everywhere_under_one_id_slows_nobody_down() {
    let store = store();
    let everywhere = |n: u32| {
        let place = somewhere(Ipv4Addr::from_bits(0x0a00_0000 + n));
        Announcement { place, want: 0, ..from("10.0.0.1:1") }
    };
    // A table with as many entries of one hash would take minutes.
    (0..50_000).for_each(|n| drop(announce(&store, at(0), hash(1), &everywhere(n))));
    (0..50_000).for_each(|n| drop(announce(&store, at(1), hash(1), &everywhere(n))));
    assert_eq!(store.scrape(at(1), hash(1)).incomplete, 50_000);
}

#[test]
fn leaving_removes_with_and_without_a_port() {
    let store = store();
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    announce(&store, at(0), hash(1), &from("10.0.0.2:2"));
    announce(&store, at(0), hash(1), &Announcement { action: Action::Leave, ..from("10.0.0.1:1") });
    announce(&store, at(0), hash(1), &Announcement { action: Action::Leave, port: None, ..from("10.0.0.2:2") });
    assert_eq!(store.scrape(at(0), hash(1)), SwarmCounts::default());
    assert_eq!(store.totals().peers, [[0; 2]; 2]);
}

#[test]
fn nobody_removes_another_client() {
    let store = store();
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    let stranger = Announcement { peer_id: from("10.0.0.9:9").peer_id, ..from("10.0.0.1:1") };
    announce(&store, at(0), hash(1), &Announcement { action: Action::Leave, ..stranger });
    announce(&store, at(0), hash(1), &Announcement { action: Action::Leave, port: None, ..stranger });
    assert_eq!(store.scrape(at(0), hash(1)).incomplete, 1);
}

#[test]
fn one_without_a_port_is_told_but_not_recorded() {
    let store = store();
    let unreachable = Announcement { port: None, ..from("10.0.0.2:2") };
    announce(&store, at(0), hash(1), &unreachable);
    assert_eq!(store.totals().swarms, 0);
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    assert_eq!(told(&announce(&store, at(0), hash(1), &unreachable)), set(["10.0.0.1:1"]));
    assert_eq!(store.scrape(at(0), hash(1)).incomplete, 1);
}

#[test]
fn completed_is_counted_once_a_download() {
    let store = store();
    let done = Announcement { action: Action::Stay { completed: true }, ..seed("10.0.0.1:1") };
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    assert_eq!(announce(&store, at(0), hash(1), &done).counts.downloaded, 1);
    assert_eq!(announce(&store, at(0), hash(1), &done).counts.downloaded, 1);
    let other =
        Announcement { place: somewhere(Ipv4Addr::new(10, 0, 0, 2)), peer_id: from("10.0.0.2:1").peer_id, ..done };
    assert_eq!(announce(&store, at(0), hash(1), &other).counts.downloaded, 2);
}

#[test]
fn a_peer_is_kept_for_the_peer_age_and_not_longer() {
    let store = store();
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    announce(&store, at(300), hash(1), &seed("10.0.0.2:2"));
    let before = announce(&store, at(599), hash(1), &Announcement { port: None, ..from("10.0.0.9:9") });
    assert_eq!(told(&before), set(["10.0.0.1:1", "10.0.0.2:2"]));
    let after = announce(&store, at(600), hash(1), &Announcement { port: None, ..from("10.0.0.9:9") });
    assert_eq!(told(&after), set(["10.0.0.2:2"]));
    assert_eq!(after.counts, SwarmCounts { complete: 1, ..SwarmCounts::default() });
    assert_eq!(store.scrape(at(900), hash(1)), SwarmCounts::default());
    assert_eq!(store.totals().peers, [[0; 2]; 2]);
}

#[test]
fn expired_peers_of_a_huge_swarm_are_not_told_even_when_it_was_just_swept() {
    let store = store();
    for n in 0..3_000_u16 {
        let late = u64::from(n >= 1_500);
        let [a, b] = n.to_be_bytes();
        announce(&store, at(late), hash(1), &from(&format!("10.0.{a}.{b}:1")));
    }
    let asks = Announcement { port: None, want: 3_000, ..from("10.9.9.9:9") };
    assert_eq!(announce(&store, at(600), hash(1), &asks).peers.len(), 1_500);
    let half_later = Moment::after(Duration::from_millis(600_500));
    assert_eq!(announce(&store, half_later, hash(1), &asks).peers.len(), 1_500);
    assert_eq!(announce(&store, at(601), hash(1), &asks).peers.len(), 0);
}

#[test]
fn clients_that_share_an_address_are_noticed_when_they_join() {
    let store = store();
    for port in 1..=4 {
        let joined = announce(&store, at(0), hash(1), &from(&format!("172.17.0.1:{port}")));
        assert_eq!(joined.others_at_address, port - 1);
    }
    assert_eq!(announce(&store, at(0), hash(1), &from("172.17.0.1:1")).others_at_address, 0);
}

#[test]
fn totals_follow_every_change() {
    let store = store();
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    announce(&store, at(0), hash(1), &seed("10.0.0.2:1"));
    announce(&store, at(0), hash(2), &seed("[fd00::1]:1"));
    let totals = store.totals();
    assert_eq!((totals.swarms, totals.peers), (2, [[1, 1], [1, 0]]));
    announce(&store, at(0), hash(1), &seed("10.0.0.1:1"));
    announce(&store, at(0), hash(2), &Announcement { action: Action::Leave, ..seed("[fd00::1]:1") });
    let totals = store.totals();
    assert_eq!((totals.swarms, totals.peers), (2, [[2, 0], [0, 0]]));
}

#[test]
fn an_abandoned_swarm_goes_away() {
    let store = store();
    let done = Announcement { action: Action::Stay { completed: true }, ..seed("10.0.0.2:2") };
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    announce(&store, at(1), hash(2), &done);
    announce(&store, at(2), hash(2), &Announcement { action: Action::Leave, ..done });
    let after = |seconds| {
        // As often as it takes to come by everywhere.
        (0..60).for_each(|_| store.housekeep(at(seconds)));
        (store.totals().swarms, store.totals().peers)
    };
    assert_eq!(after(599), (2, [[0, 1], [0, 0]]));
    assert_eq!(store.scrape(at(599), hash(2)).downloaded, 1);
    assert_eq!(after(600), (1, [[0; 2]; 2]));
    assert_eq!(after(1198).0, 1);
    assert_eq!(after(1199).0, 0);
    assert_eq!(store.scrape(at(1199), hash(2)), SwarmCounts::default());
    assert_eq!(store.totals().evicted, 0);
}

/// One swarm of so many peers, of which every `keep`th announces again before the others expire.
fn half_expired(count: u32, keep: u32) -> Store {
    let store = store();
    let quiet = |n: u32| {
        let place = somewhere(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let mut id = [b'-'; 20];
        id[16..].copy_from_slice(&n.to_be_bytes());
        Announcement { place, peer_id: PeerId(id), want: 0, ..from("10.0.0.1:1") }
    };
    (0..count).for_each(|n| drop(announce(&store, at(0), hash(1), &quiet(n))));
    (0..count).step_by(keep as usize).for_each(|n| drop(announce(&store, at(300), hash(1), &quiet(n))));
    store
}

#[test]
fn when_nearly_all_of_a_huge_swarm_expire_they_go_together() {
    let store = half_expired(50_000, 1_000);
    let asks = Announcement { port: None, want: 200, ..from("10.9.9.9:9") };
    let picked = announce(&store, at(600), hash(1), &asks);
    assert_eq!((picked.peers.len(), picked.counts.incomplete), (50, 50));
    assert_eq!(store.totals().peers, [[0, 50], [0, 0]]);
}

#[test]
fn the_few_who_are_left_of_a_huge_swarm_are_told_wherever_they_are() {
    let store = store();
    let quiet = |n: u32| {
        let place = somewhere(Ipv4Addr::from_bits(0x0a00_0000 + n));
        Announcement { place, want: 0, ..from("10.0.0.1:1") }
    };
    let asks = Announcement { port: None, want: 1, ..from("10.9.9.9:9") };
    // In several swarms, as one may be lucky.
    for swarm in 1..=8 {
        (0..20_000).for_each(|n| drop(announce(&store, at(0), hash(swarm), &quiet(n))));
        // They stand where a sweep begins, so that it meets few who have expired.
        (0..200).for_each(|n| drop(announce(&store, at(300), hash(swarm), &quiet(n))));
        assert_eq!(announce(&store, at(600), hash(swarm), &asks).peers.len(), 1);
        assert_eq!(store.scrape(at(600), hash(swarm)).incomplete, 200);
    }
}

#[test]
fn when_half_of_a_huge_swarm_expires_it_goes_bit_by_bit_and_the_others_are_told() {
    let store = half_expired(50_000, 2);
    let asks = Announcement { port: None, want: 100, ..from("10.9.9.9:9") };
    let picked = announce(&store, at(600), hash(1), &asks);
    // Nobody has to wait until all are gone, and nobody is told of one that is.
    assert!((45_000..50_000).contains(&picked.counts.incomplete), "{}", picked.counts.incomplete);
    assert!(picked.peers.len() > 80, "{}", picked.peers.len());
    assert!(picked.peers.v4.iter().all(|peer| peer.endpoint.ip.to_bits() % 2 == 0));
    (0..1_000).for_each(|_| drop(announce(&store, at(600), hash(1), &asks)));
    assert_eq!(store.scrape(at(600), hash(1)).incomplete, 25_000);
}

#[test]
fn a_peer_that_stays_is_kept_however_long_it_does() {
    let store = store();
    // Over more than one turn of the counter by which peers hold the time.
    for hour in 0..100_u64 {
        let now = at(hour * 300);
        assert_eq!(
            told(&announce(&store, now, hash(1), &from("10.0.0.1:1"))),
            if hour == 0 { set([]) } else { set(["10.0.0.2:2"]) }
        );
        assert_eq!(told(&announce(&store, now, hash(1), &from("10.0.0.2:2"))), set(["10.0.0.1:1"]));
        (0..60).for_each(|_| store.housekeep(now));
    }
    assert_eq!(store.totals().peers, [[0, 2], [0, 0]]);
}

#[test]
fn clocks_that_differ_a_little_make_nobody_old() {
    let store = store();
    announce(&store, at(10), hash(1), &from("10.0.0.1:1"));
    assert_eq!(told(&announce(&store, at(9), hash(1), &from("10.0.0.2:2"))), set(["10.0.0.1:1"]));
}

#[test]
fn a_flood_of_info_hashes_does_not_push_out_the_swarms_in_use() {
    let store = store_of(50_000);
    for peer in 0..5 {
        for swarm in 0..200 {
            announce(&store, at(0), hash(swarm), &from(&format!("10.0.0.{peer}:1")));
        }
    }
    // Each swarm is asked for once while half as many strangers come as the store has room for.
    for n in 0..200_000 {
        announce(&store, at(1), hash(1_000 + n), &from("10.6.6.6:6"));
        if n % 125 == 0 {
            announce(&store, at(1), hash(n / 125 % 200), &from("10.0.0.1:1"));
        }
    }
    store.housekeep(at(1));
    let totals = store.totals();
    assert!(totals.peers.iter().flatten().sum::<i64>() <= 50_000, "{totals:?}");
    assert!(totals.evicted > 150_000, "{totals:?}");
    let kept = (0..200).filter(|&swarm| store.scrape(at(1), hash(swarm)).incomplete == 5).count();
    assert_eq!(kept, 200, "of the swarms in use");
}

#[test]
fn one_swarm_cannot_outgrow_the_store() {
    let store = store_of(1_000);
    for n in 0..20_000_u16 {
        let [a, b] = n.to_be_bytes();
        announce(&store, at(0), hash(1), &from(&format!("10.0.{a}.{b}:1")));
    }
    store.housekeep(at(0));
    let peers: i64 = store.totals().peers.iter().flatten().sum();
    assert!(peers <= 1_000, "{peers}");
}

#[test]
fn counts_stay_right_under_concurrent_announces_and_evictions() {
    let store = store_of(500);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..5_000_u32 {
                    let swarm = (n * 7 + thread) % 300;
                    let action = if n % 11 == 0 { Action::Leave } else { Action::Stay { completed: false } };
                    let address = format!("10.{thread}.{}.{}:1", n % 5, n % 7);
                    announce(store, at(0), hash(swarm), &Announcement { action, ..from(&address) });
                }
            });
        }
    });
    store.housekeep(at(0));
    let counted: i64 = (0..300).map(|swarm| i64::from(store.scrape(at(0), hash(swarm)).incomplete)).sum();
    assert_eq!(store.totals().peers, [[0, counted], [0, 0]]);
    assert!(store.totals().evicted > 0);
}
