//! Tests of the store's contract, which `store/mod.rs` states.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, Announcement, Selection, Store, StoreOptions};
use crate::clock::Timestamp;
use crate::topology::{ExternalAddress, Topology, Zone, ZoneId, ZonedIp};
use tracker_protocol::{InfoHash, PeerId, PeerLists, Role, SwarmCounts};

const AGE: Duration = Duration::from_mins(10);
const INTERVAL: Duration = Duration::from_secs(30);

fn store() -> Store {
    store_of(2_000_000)
}

fn store_of(max_peers: u64) -> Store {
    Store::new(StoreOptions { peer_age: AGE, announce_interval: INTERVAL, max_peers })
}

/// Returns an address outside of all zones.
fn somewhere(ip: impl Into<IpAddr>) -> ZonedIp {
    ZonedIp { ip: ip.into(), zone: None }
}

fn announce(store: &Store, now: Timestamp, info_hash: InfoHash, announcement: &Announcement) -> Selection {
    store.announce(now, &Topology::default(), info_hash, announcement)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::after(Duration::from_secs(seconds))
}

fn hash(n: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

/// Returns an announce of a leecher at this address. The peer id is different for each address.
pub(super) fn from(address: &str) -> Announcement {
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
        started: false,
        action: Action::Stay { completed: false },
        want: 50,
        ids: true,
    }
}

fn seed(address: &str) -> Announcement {
    Announcement { role: Role::Seed, ..from(address) }
}

fn addresses_of(picked: &Selection) -> HashSet<String> {
    let PeerLists { v4, v6 } = &picked.peers;
    let v4 = v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
    v4.chain(v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect()
}

fn set<const N: usize>(addresses: [&str; N]) -> HashSet<String> {
    addresses.into_iter().map(str::to_owned).collect()
}

#[test]
fn peers_get_peers_of_their_swarm_only() {
    let store = store();
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &from("10.0.0.1:1"))), set([]));
    assert_eq!(addresses_of(&announce(&store, at(0), hash(2), &from("10.0.0.9:9"))), set([]));
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &from("[fd00::1]:2"))), set(["10.0.0.1:1"]));
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &from("10.0.0.1:1"))), set(["[fd00::1]:2"]));
}

#[test]
fn a_seed_gets_leechers_only() {
    let store = store();
    announce(&store, at(0), hash(1), &seed("10.0.0.1:1"));
    announce(&store, at(0), hash(1), &Announcement { role: Role::PartialSeed, ..from("10.0.0.2:2") });
    announce(&store, at(0), hash(1), &from("10.0.0.3:3"));
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &seed("10.0.0.4:4"))), set(["10.0.0.3:3"]));
    let leecher = announce(&store, at(0), hash(1), &from("10.0.0.5:5"));
    assert_eq!(addresses_of(&leecher), set(["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.4:4"]));
    assert_eq!(leecher.counts, SwarmCounts { complete: 2, incomplete: 3, partial_seeds: 1, downloaded: 0 });
}

#[test]
fn peers_of_the_client_s_family_come_first() {
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
fn a_client_never_gets_itself_not_even_at_its_other_family() {
    let store = store();
    let v4 = from("10.0.0.1:1");
    announce(&store, at(0), hash(1), &v4);
    let v6 = Announcement { peer_id: v4.peer_id, ..from("[fd00::1]:1") };
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &v6)), set([]));
    let restarted = Announcement { peer_id: PeerId(*b"-another-client-now-"), ..v4 };
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &restarted)), set(["[fd00::1]:1"]));
}

#[test]
fn only_loopback_clients_get_loopback_peers() {
    let store = store();
    announce(&store, at(0), hash(1), &from("127.0.0.1:1"));
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &from("10.0.0.1:1"))), set([]));
    assert_eq!(
        addresses_of(&announce(&store, at(0), hash(1), &from("127.0.0.2:1"))),
        set(["127.0.0.1:1", "10.0.0.1:1"])
    );
}

#[test]
fn peers_of_the_client_s_subnet_come_first() {
    let store = store();
    for n in 1..=99 {
        announce(&store, at(0), hash(1), &from(&format!("10.0.{n}.1:1")));
        announce(&store, at(0), hash(1), &from(&format!("[2001:db8:0:{n}::1]:1")));
    }
    let neighbours = ["10.0.7.1:1", "10.0.7.2:1", "10.0.7.3:1"];
    neighbours.iter().for_each(|neighbour| drop(announce(&store, at(0), hash(1), &from(neighbour))));
    let first = |picked: &Selection| {
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

/// Two sites with the same private network. The site `there` announces through its router, 10.99.0.1.
fn two_sites() -> Topology {
    let zone = |name: &str, networks: &[&str], external: [u8; 4]| Zone {
        name: name.to_owned(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        external: ExternalAddress { v4: Some(external.into()), v6: None },
    };
    let here = zone("here", &["192.168.0.0/16"], [203, 0, 113, 1]);
    let there = zone("there", &["192.168.0.0/16", "10.99.0.1/32"], [203, 0, 113, 2]);
    Topology::new(&[here, there], ExternalAddress::default())
}

#[test]
fn peers_of_the_client_s_zone_come_first_and_sites_with_the_same_network_are_distinct() {
    let (store, topology) = (store(), two_sites());
    let from_zone = |router: &str, address: &str| {
        let announcement = from(address);
        let place = topology.locate(announcement.place.ip, router.parse().unwrap());
        Announcement { place, peer_id: from(&format!("{router}:1")).peer_id, ..announcement }
    };
    let announce = |announcement: &Announcement| store.announce(at(0), &topology, hash(1), announcement);
    let (here, there) = ("192.168.0.1", "10.99.0.1");
    announce(&Announcement { peer_id: from("1.1.1.1:1").peer_id, ..from_zone(here, "192.168.1.5:1") });
    announce(&Announcement { peer_id: from("2.2.2.2:2").peer_id, ..from_zone(there, "192.168.1.5:1") });
    announce(&Announcement { peer_id: from("3.3.3.3:3").peer_id, ..from_zone(there, "192.168.1.6:1") });
    (1..=200).for_each(|n| drop(announce(&from(&format!("198.51.100.{n}:1")))));
    assert_eq!(store.scrape(at(0), hash(1)).incomplete, 203);

    let first = |asks: &Announcement| {
        addresses_of(&Selection { peers: head(&announce(asks).peers, 2), ..Selection::default() })
    };
    let asks = Announcement { port: None, ..from_zone(there, "192.168.200.9:1") };
    assert_eq!(first(&asks), set(["192.168.1.5:1", "192.168.1.6:1"]));
    // The router of the site `there` forwards the port to only one of the two peers.
    let asks = Announcement { port: None, want: 200, ..from_zone(here, "192.168.200.9:1") };
    assert_eq!(announce(&asks).peers.v4[0].endpoint.ip.to_string(), "192.168.1.5");
    let wants_all = Announcement { want: 202, ..asks };
    let of_there = |peers: &PeerLists| peers.v4.iter().filter(|peer| peer.endpoint.ip.octets()[3] == 2).count();
    let picked = announce(&wants_all);
    assert_eq!((picked.peers.len(), of_there(&picked.peers)), (202, 2), "198.51.100.2 and the router");
    // `stopped` removes a peer only in the zone that sent it.
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
fn a_client_that_reaches_few_peers_still_gets_as_many_as_it_wants() {
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
        assert!(addresses_of(&picked).iter().all(|address| address.starts_with("203.")));
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
            assert_eq!(picked.peers.len(), 2 + others as usize, "the reply has both addresses of the client");
            announce(&store, at(0), hash(1), &stopped(&asks));
            // The client counts at the address that it keeps.
            assert_eq!(counts(&stopped(first)), (0, 1, 0));
            assert_eq!(counts(&stopped(second)), (0, 0, 0));
        }
        counts(&v4);
        counts(&v6);
        assert_eq!(
            counts(&done(&v6)),
            (0, 1, 1),
            "the client counts as a leecher, because its first address is a leecher"
        );
        assert_eq!(counts(&done(&v4)), (1, 0, 1), "one download");
        assert_eq!(counts(&done(&v6)), (1, 0, 1));
        let peer_counts: i64 = store.totals().peers.iter().flatten().sum();
        assert_eq!(peer_counts, i64::from(others) + 2, "addresses by family");
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
    assert_eq!(moves(100, "10.0.0.2:1"), 301);
    assert_eq!(moves(599, "10.0.0.2:1"), 301);
    assert_eq!(moves(600, "10.0.0.2:1"), 1, "all other peers and the old address have expired");
}

/// One step: the host, whether the client moves between hosts, whether it uses IPv4, and what it does.
fn any_step() -> impl Strategy<Value = (u8, bool, bool, u8)> {
    (0..5_u8, any::<bool>(), any::<bool>(), 0..8_u8)
}

proptest! {
    /// Different clients announce in turn from the same endpoints. A client counts once, in a role that it announced.
    /// Lists are with and without an index.
    #[test]
    fn counts_are_those_of_distinct_clients(
        others in prop_oneof![Just(0_u8), Just(70)], steps in proptest::collection::vec(any_step(), 0..40),
    ) {
        let store = store();
        let mut seconds = 0;
        let mut peers: HashMap<String, (PeerId, Role, u64)> = HashMap::new();
        for (host, wanders, is_v4, what) in steps {
            let host_ip = if is_v4 { format!("10.0.0.{host}:1") } else { format!("[fd00::{host}]:1") };
            // The client is the host's own client, or a client that wanders from host to host.
            let peer_id = PeerId([if wanders { 100 + host % 2 } else { host }; 20]);
            let role = if what % 2 == 0 { Role::Seed } else { Role::Leecher };
            let announcement = Announcement { peer_id, role, ..from(&host_ip) };
            // The other peers announce in every step. They never expire, and their announces make a long list drop
            // expired peers.
            seconds += u64::from(what == 7) * 250;
            for n in 0..others {
                announce(&store, at(seconds), hash(1), &Announcement { want: 0, ..from(&format!("10.1.0.{n}:1")) });
                announce(&store, at(seconds), hash(1), &Announcement { want: 0, ..from(&format!("[fd00:1::{n:x}]:1")) });
            }
            if what == 6 {
                if peers.get(&host_ip).is_some_and(|(id, ..)| *id == peer_id) {
                    peers.remove(&host_ip);
                }
                announce(&store, at(seconds), hash(1), &Announcement { action: Action::Leave, ..announcement });
            } else {
                peers.insert(host_ip, (peer_id, role, seconds));
                announce(&store, at(seconds), hash(1), &announcement);
            }
            peers.retain(|_, (.., seen)| *seen + 600 > seconds);
            let mut roles: HashMap<PeerId, HashSet<bool>> = HashMap::new();
            for (id, role, _) in peers.values() {
                roles.entry(*id).or_default().insert(*role == Role::Seed);
            }
            let of = |is_seed: bool| {
                let all = roles.values().filter(|roles| roles.contains(&is_seed)).count();
                let surely = roles.values().filter(|roles| roles.len() == 1 && roles.contains(&is_seed)).count();
                surely..=all
            };
            let counts = store.scrape(at(seconds), hash(1));
            let (complete, incomplete) = (counts.complete as usize, counts.incomplete as usize - 2 * usize::from(others));
            prop_assert_eq!(complete + incomplete, roles.len());
            prop_assert!(of(true).contains(&complete) && of(false).contains(&incomplete));
            let totals: i64 = store.totals().peers.iter().flatten().sum();
            prop_assert_eq!(totals, i64::try_from(peers.len()).unwrap() + 2 * i64::from(others));
            // A long reply has all addresses. A shorter one has first addresses before second ones.
            let asks = Announcement { want: 500, port: None, ..from("10.9.9.9:9") };
            prop_assert_eq!(announce(&store, at(seconds), hash(1), &asks).peers.len(), usize::try_from(totals).unwrap());
            let firsts = Announcement { want: roles.len() + 2 * usize::from(others), ..asks };
            let picked = announce(&store, at(seconds), hash(1), &firsts).peers;
            let ids: HashSet<_> = picked.v4.iter().map(|peer| peer.id).chain(picked.v6.iter().map(|peer| peer.id)).collect();
            prop_assert_eq!(ids.len(), firsts.want);
        }
    }
}

#[test]
fn a_client_with_one_id_at_very_many_addresses_does_not_slow_others_down() {
    let store = store();
    let everywhere = |n: u32| {
        let place = somewhere(Ipv4Addr::from_bits(0x0a00_0000 + n));
        Announcement { place, want: 0, ..from("10.0.0.1:1") }
    };
    // A hash table would take minutes for this many equal hashes.
    (0..50_000).for_each(|n| drop(announce(&store, at(0), hash(1), &everywhere(n))));
    (0..50_000).for_each(|n| drop(announce(&store, at(1), hash(1), &everywhere(n))));
    assert_eq!(store.scrape(at(1), hash(1)).incomplete, 1);
    assert_eq!(store.totals().peers, [[0, 50_000], [0, 0]]);
}

fn leave(announcement: &Announcement) -> Announcement {
    Announcement { action: Action::Leave, ..*announcement }
}

/// Returns an announce of the same client from another address.
fn moved(client: &Announcement, address: &str) -> Announcement {
    Announcement { peer_id: client.peer_id, role: client.role, ..from(address) }
}

/// The host at `source` claims the address of `peer`.
fn claimed(peer: &Announcement, source: &str) -> Announcement {
    Announcement { is_claim: true, source: source.parse().unwrap(), ..*peer }
}

/// Returns the peers that a client gets when it only reads the swarm.
fn seen(store: &Store, now: Timestamp, asks: &str) -> HashSet<String> {
    addresses_of(&announce(store, now, hash(1), &Announcement { action: Action::Peek, ..from(asks) }))
}

#[test]
fn a_client_counts_once_however_many_addresses_it_has() {
    for addresses in [
        &["192.168.1.5:1", "192.168.1.6:1"][..],
        &["[fd00::1]:1", "[fd00::2]:1", "[fd00::3]:1", "[fd00::4]:1"],
        &["192.168.1.5:1", "[fd00::1]:1", "192.168.1.6:2", "[fd00::2]:2"],
    ] {
        let store = store();
        let all: Vec<_> = addresses.iter().map(|address| moved(&seed(addresses[0]), address)).collect();
        for _ in 0..3 {
            for announcement in &all {
                assert_eq!(announce(&store, at(0), hash(1), announcement).counts.complete, 1);
            }
        }
        let asks = Announcement { want: 1, ..from("10.0.0.1:1") };
        assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &asks)), set([addresses[0]]), "the first address");
        for (gone, next) in all.iter().zip(&all[1..]) {
            assert_eq!(announce(&store, at(0), hash(1), &leave(gone)).counts.complete, 1);
            let told = announce(&store, at(0), hash(1), &asks).peers.len();
            assert_eq!((told, next.peer_id), (1, gone.peer_id));
        }
        assert_eq!(announce(&store, at(0), hash(1), all.last().map(leave).as_ref().unwrap()).counts.complete, 0);
    }
}

#[test]
fn another_address_counts_when_the_first_has_expired_or_gone_silent() {
    let store = store();
    let first = from("192.168.1.5:1");
    let second = Announcement { role: Role::Seed, ..moved(&first, "192.168.1.6:1") };
    announce(&store, at(0), hash(1), &first);
    announce(&store, at(30), hash(1), &first);
    announce(&store, at(30), hash(1), &second);
    let counts = |seconds| {
        let counts = announce(&store, at(seconds), hash(1), &second).counts;
        (counts.complete, counts.incomplete)
    };
    for seconds in [60, 90, 120] {
        assert_eq!(counts(seconds), (0, 1));
    }
    assert_eq!(counts(150), (0, 1));
    assert_eq!(
        counts(180),
        (1, 0),
        "the first address has been silent for five intervals after announces in every interval"
    );
    announce(&store, at(210), hash(1), &first);
    assert_eq!(counts(220), (1, 0));
    assert_eq!(counts(815), (1, 0), "the first address has expired");
    assert_eq!(store.totals().peers, [[1, 0], [0, 0]]);
}

#[test]
fn a_client_that_takes_another_id_hides_only_itself() {
    let store = store();
    let victim = from("192.168.1.5:1");
    announce(&store, at(0), hash(1), &victim);
    let thief = Announcement { role: Role::Seed, ..moved(&victim, "192.168.1.66:6") };
    // The victim announces every five minutes, and the thief every second.
    for seconds in 1..590 {
        if seconds % 300 == 0 {
            announce(&store, at(seconds), hash(1), &victim);
        }
        announce(&store, at(seconds), hash(1), &thief);
        let asks = Announcement { want: 1, role: Role::Seed, action: Action::Peek, ..from("10.0.0.1:1") };
        assert_eq!(
            addresses_of(&announce(&store, at(seconds), hash(1), &asks)),
            set(["192.168.1.5:1"]),
            "after {seconds} s"
        );
    }
}

#[test]
fn a_claim_changes_nothing_about_a_peer_that_announces_itself() {
    let store = store();
    let victim = from("192.168.1.5:1");
    announce(&store, at(0), hash(1), &victim);
    let other_id = Announcement { peer_id: from("6.6.6.6:6").peer_id, role: Role::Seed, ..victim };
    for evil in [victim, other_id] {
        let claim = claimed(&evil, "192.168.1.66");
        for seconds in [1, 100, 599] {
            announce(&store, at(seconds), hash(1), &Announcement { role: Role::Seed, ..claim });
            announce(&store, at(seconds), hash(1), &leave(&claim));
            announce(&store, at(seconds), hash(1), &Announcement { port: None, ..leave(&claim) });
            assert_eq!(seen(&store, at(seconds), "10.0.0.1:1"), set(["192.168.1.5:1"]));
            assert_eq!(store.scrape(at(seconds), hash(1)).incomplete, 1);
        }
    }
    // The claims did not keep the peer from expiring. Its address is free, so a claim counts now.
    assert_eq!(seen(&store, at(600), "10.0.0.1:1"), set([]));
    announce(&store, at(600), hash(1), &claimed(&other_id, "192.168.1.66"));
    assert_eq!(store.scrape(at(600), hash(1)).complete, 1);
    // A client that announces from an address replaces a claimed entry there, whatever its id.
    announce(&store, at(601), hash(1), &victim);
    let counts = store.scrape(at(601), hash(1));
    assert_eq!((counts.complete, counts.incomplete), (0, 1));
    assert_eq!(store.totals().peers, [[0, 1], [0, 0]]);
}

#[test]
fn a_claim_can_remove_a_claimed_peer() {
    let store = store();
    let claim = claimed(&from("192.168.1.77:1"), "192.168.1.5");
    announce(&store, at(0), hash(1), &claim);
    assert_eq!(seen(&store, at(0), "10.0.0.1:1"), set(["192.168.1.77:1"]));
    announce(&store, at(0), hash(1), &leave(&claimed(&claim, "192.168.1.6")));
    assert_eq!(store.scrape(at(0), hash(1)).incomplete, 0);
}

#[test]
fn a_stop_removes_nothing_at_another_address_or_in_another_zone() {
    let (store, topology) = (store(), two_sites());
    let victim = from("192.168.1.5:1");
    let place = topology.locate(victim.place.ip, victim.place.ip);
    let victim = Announcement { place, ..victim };
    store.announce(at(0), &topology, hash(1), &victim);
    let there = topology.locate(victim.place.ip, "10.99.0.1".parse().unwrap());
    for place in [there, topology.zoned("192.168.1.6".parse().unwrap()), topology.zoned("203.0.113.9".parse().unwrap())]
    {
        for port in [None, victim.port] {
            let stop = Announcement { place, port, ..leave(&victim) };
            assert_eq!(store.announce(at(1), &topology, hash(1), &stop).counts.incomplete, 1);
        }
    }
    assert_eq!(store.announce(at(1), &topology, hash(1), &leave(&victim)).counts.incomplete, 0);
}

#[test]
fn a_stop_removes_all_ports_of_a_client_at_its_address() {
    for others in [0, 300] {
        let store = store();
        (0..others)
            .for_each(|n| drop(announce(&store, at(0), hash(1), &from(&format!("10.1.{}.{}:1", n / 250, n % 250)))));
        let client = from("192.168.1.5:6881");
        for port in 6881..6890 {
            announce(&store, at(0), hash(1), &moved(&client, &format!("192.168.1.5:{port}")));
        }
        announce(&store, at(0), hash(1), &moved(&client, "192.168.1.6:6881"));
        assert_eq!(announce(&store, at(0), hash(1), &client).counts.incomplete, others + 1);
        announce(&store, at(1), hash(1), &leave(&moved(&client, "192.168.1.5:6889")));
        assert_eq!(store.totals().peers, [[0, i64::from(others) + 1], [0, 0]], "the other address");
        assert_eq!(store.scrape(at(1), hash(1)).incomplete, others + 1);
    }
}

#[test]
fn an_endpoint_is_removed_when_its_client_has_moved_to_another_port() {
    for others in [0, 300] {
        let store = store();
        (0..others)
            .for_each(|n| drop(announce(&store, at(0), hash(1), &from(&format!("10.1.{}.{}:1", n / 250, n % 250)))));
        let client = from("192.168.1.5:6881");
        announce(&store, at(0), hash(1), &client);
        announce(&store, at(1), hash(1), &moved(&client, "192.168.1.5:6882"));
        let last = moved(&client, "192.168.1.5:6883");
        for seconds in [2, 32, 62, 92] {
            assert_eq!(announce(&store, at(seconds), hash(1), &last).counts.incomplete, others + 1);
            assert_eq!(store.totals().peers, [[0, i64::from(others) + 3], [0, 0]], "after {seconds} s");
        }
        (130..200).for_each(|seconds| drop(announce(&store, at(seconds), hash(1), &last)));
        assert_eq!(store.totals().peers, [[0, i64::from(others) + 1], [0, 0]]);
        assert_eq!(announce(&store, at(200), hash(1), &leave(&last)).counts.incomplete, others);
    }
}

#[test]
fn two_clients_that_share_id_and_address_both_stay() {
    // Both clients stay at any pace, even if a client announces early because of an event.
    for (pace, other_pace) in [(30, 30), (30, 45), (300, 300), (250, 290)] {
        let store = store();
        let one = from("192.168.1.5:6881");
        let other = moved(&one, "192.168.1.5:6882");
        for seconds in 0..5_000 {
            if seconds % pace == 0 || seconds % 1_100 == 7 {
                announce(&store, at(seconds), hash(1), &one);
            }
            if seconds % other_pace == 20 {
                announce(&store, at(seconds), hash(1), &other);
            }
            if seconds > 20 {
                let both = set(["192.168.1.5:6881", "192.168.1.5:6882"]);
                assert_eq!(seen(&store, at(seconds), "10.0.0.1:1"), both, "{pace} and {other_pace}, after {seconds} s");
            }
        }
    }
}

#[test]
fn only_clients_that_cannot_use_the_first_address_get_a_claimed_public_one() {
    let (store, topology) = (store(), Topology::default());
    let outside = Some(somewhere([45, 0, 113, 7]));
    let peer = Announcement { outside, ..from("192.168.1.5:6881") };
    let told_to = |asks: &str| {
        addresses_of(&store.announce(at(1), &topology, hash(1), &Announcement { action: Action::Peek, ..from(asks) }))
    };
    for _ in 0..2 {
        assert_eq!(store.announce(at(0), &topology, hash(1), &peer).counts.incomplete, 1, "one client");
        for inside in ["192.168.1.9:1", "10.0.0.1:1", "[fd00::1]:1", "127.0.0.1:1"] {
            assert_eq!(told_to(inside), set(["192.168.1.5:6881"]), "{inside}");
        }
        for outside in ["9.9.9.9:1", "[2001:db8:1::1]:1", "0.0.0.0:1"] {
            assert_eq!(told_to(outside), set(["45.0.113.7:6881"]), "{outside}");
        }
    }
    announce(&store, at(300), hash(1), &peer);
    assert_eq!(seen(&store, at(895), "9.9.9.9:1").len(), 1);
    assert_eq!(seen(&store, at(900), "9.9.9.9:1").len(), 0, "the public address expires with the first address");
    // `stopped` removes the public address too, whether or not the `stopped` announce claims the address again.
    for outside in [outside, None] {
        announce(&store, at(1_000), hash(1), &peer);
        announce(&store, at(1_000), hash(1), &leave(&Announcement { outside, ..peer }));
        assert_eq!((store.scrape(at(1_000), hash(1)), store.totals().peers), (SwarmCounts::default(), [[0; 2]; 2]));
    }
}

#[test]
fn a_claimed_public_address_that_has_changed_is_removed() {
    let store = store();
    let peer = |last, seconds| {
        let outside = Some(somewhere([45, 0, 113, last]));
        announce(&store, at(seconds), hash(1), &Announcement { outside, ..from("192.168.1.5:6881") });
    };
    (0..3).for_each(|n| peer(7, n * 30));
    (3..9).for_each(|n| peer(8, n * 30));
    assert_eq!(seen(&store, at(240), "9.9.9.9:1"), set(["45.0.113.8:6881"]));
    (9..16).for_each(|n| drop(announce(&store, at(n * 30), hash(1), &from("192.168.1.5:6881"))));
    assert_eq!(seen(&store, at(450), "9.9.9.9:1"), set([]));
    assert_eq!(store.totals().peers, [[0, 1], [0, 0]]);
}

#[test]
fn claimed_clients_that_share_id_and_address_both_stay() {
    let peer_age = Duration::from_hours(3);
    let options = StoreOptions { peer_age, announce_interval: Duration::from_secs(1), max_peers: 1_000 };
    let store = Store::new(options);
    let one = claimed(&from("192.168.1.77:1"), "192.168.1.5");
    let other = Announcement { port: NonZeroU16::new(2), ..one };
    for seconds in 0..600 {
        announce(&store, at(seconds), hash(1), &one);
        announce(&store, at(seconds), hash(1), &other);
    }
    assert_eq!(seen(&store, at(600), "10.0.0.1:1").len(), 2);
}

#[test]
fn other_zones_get_a_claimed_public_address() {
    let store = store();
    let topology = Topology::new(
        &["192.168.1.0/24", "192.168.2.0/24"].map(|network| Zone {
            name: network.to_owned(),
            networks: vec![network.parse().unwrap()],
            external: ExternalAddress::default(),
        }),
        ExternalAddress::default(),
    );
    let in_zone = |address: &str| {
        let announcement = from(address);
        Announcement { place: topology.zoned(announcement.place.ip), ..announcement }
    };
    let peer = Announcement { outside: Some(topology.zoned([45, 0, 113, 7].into())), ..in_zone("192.168.1.5:6881") };
    store.announce(at(0), &topology, hash(1), &peer);
    let told_to = |asks: &str| {
        addresses_of(&store.announce(
            at(0),
            &topology,
            hash(1),
            &Announcement { action: Action::Peek, ..in_zone(asks) },
        ))
    };
    assert_eq!(told_to("192.168.1.9:1"), set(["192.168.1.5:6881"]));
    assert_eq!(told_to("192.168.2.9:1"), set(["45.0.113.7:6881"]));
    assert_eq!(told_to("9.9.9.9:1"), set(["45.0.113.7:6881"]));
}

#[test]
fn a_claimed_public_address_never_replaces_a_peer_that_announces_from_there() {
    let store = store();
    let victim = from("45.0.113.7:6881");
    announce(&store, at(0), hash(1), &victim);
    let claims = Announcement { outside: Some(victim.place), ..seed("192.168.1.66:6881") };
    announce(&store, at(0), hash(1), &claims);
    announce(&store, at(0), hash(1), &leave(&claims));
    announce(&store, at(0), hash(1), &claims);
    assert_eq!(seen(&store, at(0), "9.9.9.9:1"), set(["45.0.113.7:6881"]));
    let counts = store.scrape(at(0), hash(1));
    assert_eq!((counts.complete, counts.incomplete), (1, 1));
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
fn no_client_removes_another() {
    let store = store();
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    let stranger = Announcement { peer_id: from("10.0.0.9:9").peer_id, ..from("10.0.0.1:1") };
    announce(&store, at(0), hash(1), &Announcement { action: Action::Leave, ..stranger });
    announce(&store, at(0), hash(1), &Announcement { action: Action::Leave, port: None, ..stranger });
    assert_eq!(store.scrape(at(0), hash(1)).incomplete, 1);
}

#[test]
fn a_client_without_a_port_gets_peers_but_is_not_recorded() {
    let store = store();
    let unreachable = Announcement { port: None, ..from("10.0.0.2:2") };
    announce(&store, at(0), hash(1), &unreachable);
    assert_eq!(store.totals().swarms, 0);
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    assert_eq!(addresses_of(&announce(&store, at(0), hash(1), &unreachable)), set(["10.0.0.1:1"]));
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
fn completed_is_counted_once_a_client_whatever_it_says_between() {
    let store = store();
    let completed = Action::Stay { completed: true };
    let downloaded = |announcement: &Announcement| announce(&store, at(0), hash(1), announcement).counts.downloaded;
    let leecher = from("10.0.0.1:1");
    for _ in 0..5 {
        assert_eq!(downloaded(&Announcement { action: completed, ..leecher }), 1, "with something left");
    }
    for _ in 0..5 {
        assert_eq!(downloaded(&leecher), 1);
        assert_eq!(downloaded(&Announcement { action: completed, role: Role::Seed, ..leecher }), 1);
        assert_eq!(downloaded(&leave(&leecher)), 1);
        assert_eq!(downloaded(&Announcement { action: completed, ..moved(&leecher, "[fd00::1]:1") }), 1);
        assert_eq!(downloaded(&Announcement { action: completed, ..moved(&leecher, "10.0.0.2:2") }), 1);
    }
    assert_eq!(downloaded(&Announcement { action: completed, ..from("10.0.0.3:1") }), 2);
    assert_eq!(announce(&store, at(0), hash(2), &Announcement { action: completed, ..leecher }).counts.downloaded, 1);
}

#[test]
fn a_peer_is_kept_for_the_peer_age_and_not_longer() {
    let store = store();
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    announce(&store, at(300), hash(1), &seed("10.0.0.2:2"));
    let before = announce(&store, at(599), hash(1), &Announcement { port: None, ..from("10.0.0.9:9") });
    assert_eq!(addresses_of(&before), set(["10.0.0.1:1", "10.0.0.2:2"]));
    let after = announce(&store, at(600), hash(1), &Announcement { port: None, ..from("10.0.0.9:9") });
    assert_eq!(addresses_of(&after), set(["10.0.0.2:2"]));
    assert_eq!(after.counts, SwarmCounts { complete: 1, ..SwarmCounts::default() });
    assert_eq!(store.scrape(at(900), hash(1)), SwarmCounts::default());
    assert_eq!(store.totals().peers, [[0; 2]; 2]);
}

#[test]
fn expired_peers_of_a_huge_swarm_are_not_in_replies_even_when_it_was_just_swept() {
    let store = store();
    for n in 0..3_000_u16 {
        let late = u64::from(n >= 1_500);
        let [a, b] = n.to_be_bytes();
        announce(&store, at(late), hash(1), &from(&format!("10.0.{a}.{b}:1")));
    }
    let asks = Announcement { port: None, want: 3_000, ..from("10.9.9.9:9") };
    assert_eq!(announce(&store, at(600), hash(1), &asks).peers.len(), 1_500);
    let half_later = Timestamp::after(Duration::from_millis(600_500));
    assert_eq!(announce(&store, half_later, hash(1), &asks).peers.len(), 1_500);
    assert_eq!(announce(&store, at(601), hash(1), &asks).peers.len(), 0);
}

#[test]
fn clients_that_share_an_address_are_noticed() {
    let store = store();
    for port in 1..=4 {
        let joined = announce(&store, at(0), hash(1), &from(&format!("172.17.0.1:{port}")));
        assert_eq!(joined.others_at_address, port - 1);
    }
    let others =
        |seconds, port| announce(&store, at(seconds), hash(1), &from(&format!("172.17.0.1:{port}"))).others_at_address;
    // The store counts the other clients again when a client's pace slows. A client whose pace has not slowed yet
    // counts as gone after two intervals without an announce, so clients that announce later do not count it.
    assert_eq!([others(240, 1), others(260, 2), others(300, 3), others(301, 4)], [0, 1, 2, 3]);
    assert_eq!(others(302, 5), 4);
    assert_eq!(others(540, 1), 0, "nothing new");
    let claims = |n: u8| claimed(&from(&format!("172.17.0.2:{}", 100 + n)), &format!("172.17.0.{n}"));
    (1..9).for_each(|n| assert_eq!(announce(&store, at(0), hash(2), &claims(n)).others_at_address, 0));
    assert_eq!(announce(&store, at(0), hash(2), &from("172.17.0.2:1")).others_at_address, 0, "claims do not count");
    let crowd: Vec<_> = (1..=40)
        .map(|port| announce(&store, at(0), hash(3), &from(&format!("172.17.0.3:{port}"))).others_at_address)
        .collect();
    let counted: Vec<_> = (0..40).map(|others| others.min(17)).collect();
    assert_eq!(crowd, counted, "more are not needed");
}

#[test]
fn a_client_that_comes_back_after_a_crash_is_not_another_one() {
    // In seconds: the announce interval, the client's own interval, and its run time before it crashes.
    for (interval, pace, runs) in [(1, 1, 2), (1, 60, 61), (30, 30, 61), (30, 300, 601), (30, 1_800, 5_401)] {
        let peer_age = Duration::from_hours(3);
        let store =
            Store::new(StoreOptions { peer_age, announce_interval: Duration::from_secs(interval), max_peers: 1_000 });
        let mut most = 0;
        for restart in 0..20 {
            for seconds in (0..runs).step_by(pace) {
                let now = at(restart * runs + seconds);
                most = most.max(
                    announce(&store, now, hash(1), &from(&format!("192.168.1.5:{}", 7_000 + restart)))
                        .others_at_address,
                );
            }
        }
        assert!(most < 4, "{most} at an interval of {interval}, a pace of {pace}");
    }
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
fn peers_are_counted_in_their_zone() {
    let store = store_of(2);
    let [office, lab] = [0, 1].map(|n| ZoneId::nth(n).unwrap());
    let inside = |zone, announcement: Announcement| {
        let place = ZonedIp { zone: Some(zone), ..announcement.place };
        Announcement { place, ..announcement }
    };
    let counts = || [office, lab].map(|zone| store.peers_in(zone));
    let leecher = inside(office, from("10.0.0.1:1"));
    announce(&store, at(0), hash(1), &leecher);
    announce(&store, at(0), hash(2), &seed("10.0.0.2:1"));
    assert_eq!(counts(), [[0, 1], [0, 0]]);
    announce(&store, at(1), hash(1), &Announcement { role: Role::Seed, ..leecher });
    assert_eq!(counts(), [[1, 0], [0, 0]], "the leecher has become a seed");
    announce(&store, at(1), hash(1), &Announcement { action: Action::Leave, ..leecher });
    assert_eq!(counts(), [[0, 0], [0, 0]]);
    assert_eq!(store.totals().evicted_peers, 0);
    // The store has room for two peers. With the second seed there are three peers, and any of them may be evicted.
    announce(&store, at(1), hash(1), &inside(lab, from("10.0.0.1:1")));
    announce(&store, at(1), hash(1), &inside(lab, seed("[fd00::1]:1")));
    assert_eq!(store.totals().evicted_peers, 1);
    let outside: i64 = i64::from(store.scrape(at(1), hash(2)).complete);
    assert_eq!(counts()[1].iter().sum::<i64>() + outside, 2);
    (0..60).for_each(|_| store.housekeep(at(700)));
    assert_eq!((counts(), store.totals().peers), ([[0; 2]; 2], [[0; 2]; 2]), "all peers have expired");
}

#[test]
fn an_unused_swarm_is_dropped() {
    let store = store();
    let done = Announcement { action: Action::Stay { completed: true }, ..seed("10.0.0.2:2") };
    announce(&store, at(0), hash(1), &from("10.0.0.1:1"));
    announce(&store, at(1), hash(2), &done);
    announce(&store, at(2), hash(2), &Announcement { action: Action::Leave, ..done });
    let after = |seconds| {
        // These are enough calls to check all shards.
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

/// Makes one swarm of `count` peers. Every `keep`th peer announces again before the other peers expire.
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
fn when_nearly_all_peers_of_a_huge_swarm_expire_they_are_dropped_together() {
    let store = half_expired(50_000, 1_000);
    let asks = Announcement { port: None, want: 200, ..from("10.9.9.9:9") };
    let picked = announce(&store, at(600), hash(1), &asks);
    assert_eq!((picked.peers.len(), picked.counts.incomplete), (50, 50));
    assert_eq!(store.totals().peers, [[0, 50], [0, 0]]);
}

#[test]
fn the_few_peers_left_of_a_huge_swarm_are_found_wherever_they_are() {
    let store = store();
    let quiet = |n: u32| {
        let place = somewhere(Ipv4Addr::from_bits(0x0a00_0000 + n));
        Announcement { place, want: 0, peer_id: from(&format!("{}:1", place.ip)).peer_id, ..from("10.0.0.1:1") }
    };
    let asks = Announcement { port: None, want: 1, ..from("10.9.9.9:9") };
    // One swarm might succeed by luck.
    for swarm in 1..=8 {
        (0..20_000).for_each(|n| drop(announce(&store, at(0), hash(swarm), &quiet(n))));
        // A sweep begins at the start of the list, where these peers are. It finds few expired peers.
        (0..200).for_each(|n| drop(announce(&store, at(300), hash(swarm), &quiet(n))));
        assert_eq!(announce(&store, at(600), hash(swarm), &asks).peers.len(), 1);
        assert_eq!(store.scrape(at(600), hash(swarm)).incomplete, 200);
    }
}

#[test]
fn when_half_of_a_huge_swarm_expires_it_is_dropped_step_by_step_and_replies_have_the_rest() {
    let store = half_expired(50_000, 2);
    let asks = Announcement { port: None, want: 100, ..from("10.9.9.9:9") };
    let picked = announce(&store, at(600), hash(1), &asks);
    // The announce does not wait until all expired peers are dropped, but its reply has none.
    assert!((45_000..50_000).contains(&picked.counts.incomplete), "{}", picked.counts.incomplete);
    assert!(picked.peers.len() > 80, "{}", picked.peers.len());
    assert!(picked.peers.v4.iter().all(|peer| peer.endpoint.ip.to_bits() % 2 == 0));
    (0..1_000).for_each(|_| drop(announce(&store, at(600), hash(1), &asks)));
    assert_eq!(store.scrape(at(600), hash(1)).incomplete, 25_000);
}

#[test]
fn a_peer_that_stays_is_kept_however_long_it_does() {
    let store = store();
    // So much time passes that the stored ticks wrap.
    for hour in 0..100_u64 {
        let now = at(hour * 300);
        assert_eq!(
            addresses_of(&announce(&store, now, hash(1), &from("10.0.0.1:1"))),
            if hour == 0 { set([]) } else { set(["10.0.0.2:2"]) }
        );
        assert_eq!(addresses_of(&announce(&store, now, hash(1), &from("10.0.0.2:2"))), set(["10.0.0.1:1"]));
        (0..60).for_each(|_| store.housekeep(now));
    }
    assert_eq!(store.totals().peers, [[0, 2], [0, 0]]);
}

#[test]
fn no_peer_is_left_however_long_the_host_has_slept() {
    for hours in 1..40 {
        let store = store();
        store.housekeep(at(0));
        announce(&store, at(1), hash(1), &from("10.0.0.1:1"));
        let now = at(hours * 600 + 5);
        store.housekeep(now);
        assert_eq!(seen(&store, now, "10.0.0.2:1"), set([]));
        assert_eq!(store.scrape(now, hash(1)), SwarmCounts::default());
        assert_eq!(store.totals().peers, [[0; 2]; 2]);
    }
}

#[test]
fn clocks_that_differ_a_little_expire_no_peer() {
    let store = store();
    announce(&store, at(10), hash(1), &from("10.0.0.1:1"));
    assert_eq!(addresses_of(&announce(&store, at(9), hash(1), &from("10.0.0.2:2"))), set(["10.0.0.1:1"]));
}

#[test]
fn a_flood_of_info_hashes_does_not_push_out_the_swarms_in_use() {
    let store = store_of(50_000);
    for peer in 0..5 {
        for swarm in 0..200 {
            announce(&store, at(0), hash(swarm), &from(&format!("10.0.0.{peer}:1")));
        }
    }
    // Each of the 200 swarms is announced once per 25,000 announces of the flood. There is room for 50,000 peers.
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
    assert_eq!(kept, 200, "all swarms in use are kept");
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

/// Announces one peer in each of 300 swarms, all from one host or each from its own.
fn legitimate(store: &Store, now: Timestamp, is_one_host: bool) {
    for n in 0..300_u32 {
        announce(store, now, hash(n), &of_host(n, is_one_host));
    }
}

fn of_host(n: u32, is_one_host: bool) -> Announcement {
    let host = if is_one_host { 0 } else { n };
    from(&format!("10.0.{}.{}:{}", host / 250, host % 250, 1_000 + n))
}

#[test]
fn a_flood_from_one_source_takes_no_torrent_from_another() {
    type Flood = (&'static str, fn(u32) -> Announcement);
    let flood: [Flood; 5] = [
        ("one client", |_| from("10.200.200.200:6")),
        ("many ids and ports", |n| from(&format!("10.200.200.200:{}", 1 + n % 60_000))),
        ("claims", |n| claimed(&from(&format!("{}:6", Ipv4Addr::from_bits(0xc0a8_0000 + n))), "10.200.200.200")),
        ("own peers and claims by turns", |n| {
            let own = from("10.200.200.200:6");
            let there = from(&format!("{}:6", Ipv4Addr::from_bits(0xc0a8_0000 + n)));
            if n % 2 == 0 { own } else { claimed(&there, "10.200.200.200") }
        }),
        ("a /64", |n| from(&format!("[2001:db8:0:1::{:x}]:6", 1 + n % 60_000))),
    ];
    for (kind, of) in flood {
        for (is_one_host, times, is_first) in [(false, 1, false), (true, 1, false), (false, 3, false), (true, 3, true)]
        {
            // A source has one counter for its claims and another for its own peers. So this flood, which comes first,
            // would get two shares of the room, and a source that comes later would get only one.
            if is_first && kind == "own peers and claims by turns" {
                continue;
            }
            let store = store_of(600);
            if !is_first {
                legitimate(&store, at(0), is_one_host);
            }
            for n in 0..10_000 {
                for _ in 0..times {
                    announce(&store, at(1), hash(1_000 + n), &Announcement { want: 0, ..of(n) });
                }
            }
            if is_first {
                legitimate(&store, at(0), is_one_host);
            }
            let kept = (0..300).filter(|&swarm| store.scrape(at(1), hash(swarm)).incomplete == 1).count();
            assert_eq!(kept, 300, "{kind}, {is_one_host}, {times}, {is_first}");
            let totals = store.totals();
            assert!(totals.swarms <= 600 && totals.peers.iter().flatten().sum::<i64>() <= 600, "{totals:?}");
        }
    }
}

#[test]
fn a_flood_from_many_sources_takes_no_more_than_the_share_of_each() {
    for sources in [2, 20, 100, 200] {
        for times in [1, 3] {
            let store = store_of(1_000);
            legitimate(&store, at(0), false);
            for n in 0..5_000 {
                let source = fastrand::u32(..sources);
                let flood = from(&format!("10.200.200.{source}:{}", 1 + n % 60_000));
                for _ in 0..times {
                    announce(&store, at(1), hash(1_000 + n), &Announcement { want: 0, ..flood });
                }
            }
            let kept = (0..300).filter(|&swarm| store.scrape(at(1), hash(swarm)).incomplete == 1).count();
            // Candidates for eviction are random. With 200 sources that have three or four peers each, a search may
            // miss the peers of all these sources.
            assert!(kept >= 295, "{kept} of 300: {sources} sources, {times} times");
        }
    }
}

#[test]
fn a_source_that_fills_swarms_with_endpoints_displaces_only_itself() {
    let fill: [fn(u32) -> Announcement; 2] = [
        |n| from(&format!("10.200.200.200:{}", 1 + n)),
        |n| claimed(&from(&format!("{}:6", Ipv4Addr::from_bits(0xc0a8_0000 + n))), "10.200.200.200"),
    ];
    for of in fill {
        for swarms in [1, 50] {
            let store = store_of(600);
            legitimate(&store, at(0), false);
            // The source fills swarms that have other peers.
            for n in 0..10_000 {
                announce(&store, at(1), hash(n % swarms), &Announcement { want: 0, ..of(n) });
            }
            for n in 0..300 {
                let asks = Announcement { want: 1_000, action: Action::Peek, ..from("10.9.9.9:9") };
                let seen = addresses_of(&announce(&store, at(1), hash(n), &asks));
                let of_host = of_host(n, false);
                let address = SocketAddr::new(of_host.place.ip, of_host.port.unwrap().get()).to_string();
                assert!(seen.contains(&address), "{n}");
            }
        }
    }
}

#[test]
fn among_equal_sources_peers_of_swarms_used_once_go_first_the_oldest_before_others() {
    let store = store_of(1_000);
    let of = |n: u32| from(&format!("{}:6", Ipv4Addr::from_bits(0x0a00_0000 + n)));
    // 333 swarms are used twice, and 333 once. Then 634 new swarms come.
    (0..666).for_each(|n| drop(announce(&store, at(0), hash(n), &of(n))));
    (0..333).for_each(|n| drop(announce(&store, at(1), hash(n), &of(n))));
    (666..1_300).for_each(|n| drop(announce(&store, at(100 + u64::from(n) / 100), hash(n), &of(n))));
    let kept = |range: std::ops::Range<u32>| range.filter(|&n| store.scrape(at(110), hash(n)).incomplete == 1).count();
    let (again, old) = (kept(0..333), kept(333..666));
    assert_eq!(again, 333);
    assert!(old < 100, "{old} of the 333 swarms that were announced once are left");
}
