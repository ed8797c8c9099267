//! The explanation agrees with the next announce.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::super::{Selection, Store, StoreOptions};
use super::*;
use crate::clock::Timestamp;
use crate::topology::{ExternalAddress, Topology, Zone};
use std::num::NonZeroU16;
use std::time::Duration;
use tracker_protocol::{InfoHash, PeerId};

const TORRENT: InfoHash = InfoHash([7; 20]);
const AGE: Duration = Duration::from_mins(10);

/// Addresses of every kind, several in each network.
const ADDRESSES: [&str; 14] = [
    "192.168.1.1",
    "192.168.1.2",
    "192.168.2.1",
    "10.0.0.1",
    "10.0.0.2",
    "8.8.8.8",
    "9.9.9.9",
    "127.0.0.1",
    "169.254.1.1",
    "192.0.2.1",
    "2a00:1450::1",
    "2a00:1450::2",
    "fd00::1",
    "fe80::1",
];

fn topology() -> impl Strategy<Value = Topology> {
    let zone = |name: &str, network: &str, v4: [u8; 4]| Zone {
        name: name.to_owned(),
        networks: vec![network.parse().unwrap()],
        external: ExternalAddress { v4: Some(v4.into()), v6: None },
    };
    let zones = vec![zone("one", "192.168.1.0/24", [203, 0, 113, 1]), zone("two", "10.0.0.0/8", [8, 8, 8, 8])];
    let external = ExternalAddress { v4: Some([9, 9, 9, 9].into()), v6: None };
    prop_oneof![
        Just(Topology::default()),
        Just(Topology::new(&zones, ExternalAddress::default())),
        Just(Topology::new(&zones, external)),
        Just(Topology::new(&zones, external).with_own_family_only()),
    ]
}

/// One peer: its address, the other address that it claims, its port, its role, its id, and when it announced.
type Arrived = (usize, Option<usize>, u16, u8, u8, u64);

fn arrived() -> impl Strategy<Value = Arrived> {
    let address = 0..ADDRESSES.len();
    (address.clone(), prop::option::weighted(0.2, address), 1..4_u16, 0..3_u8, 0..8_u8, 0..900_u64)
}

fn ip(n: usize) -> IpAddr {
    ADDRESSES[n].parse().unwrap()
}

fn announcement(topology: &Topology, &(address, outside, port, role, id, _): &Arrived) -> Announcement {
    Announcement {
        place: topology.zoned(ip(address)),
        is_claim: false,
        outside: outside.map(|outside| topology.zoned(ip(outside))).filter(|_| ip(address) != ip(outside.unwrap_or(0))),
        source: ip(address),
        port: NonZeroU16::new(port),
        peer_id: PeerId([b'a' + id; 20]),
        role: [Role::Leecher, Role::PartialSeed, Role::Seed][usize::from(role)],
        started: false,
        action: Action::Stay { completed: false },
        want: 0,
        ids: false,
    }
}

fn endpoints(selection: &Selection) -> Vec<SocketAddr> {
    let v4 = selection.peers.v4.iter().map(|peer| SocketAddr::from(peer.endpoint));
    v4.chain(selection.peers.v6.iter().map(|peer| SocketAddr::from(peer.endpoint))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_client_gets_what_the_explanation_says(
        topology in topology(),
        mut peers in prop::collection::vec(arrived(), 1..40),
        asks in arrived(),
        is_at_its_address in any::<bool>(),
        few in 0..5_usize,
    ) {
        let interval = Duration::from_secs(30);
        let store = Store::new(StoreOptions { peer_age: AGE, announce_interval: interval, max_peers: 10_000 });
        peers.sort_by_key(|(.., seconds)| *seconds);
        for peer in &peers {
            let now = Timestamp::after(Duration::from_secs(peer.5));
            store.announce(now, &topology, TORRENT, &announcement(&topology, peer));
        }
        let now = Timestamp::after(Duration::from_mins(15));
        let mut question = announcement(&topology, &asks);
        question.outside = None;
        if is_at_its_address {
            question.port = None;
        }
        let Some(explained) = store.explain(now, &topology, TORRENT, &question) else { return Ok(()) };
        // The announce asks as the client that the explanation found at the address.
        if let Some(PeerAtAddress { port, role, id }) = explained.client {
            question = Announcement { port: Some(port), role, peer_id: id.unwrap(), ..question };
        }
        let given: HashSet<_> = explained
            .peers
            .iter()
            .filter_map(|peer| if let PeerVerdict::Given(address) = peer.verdict { Some(address) } else { None })
            .collect();
        let ask = |want| {
            let question = Announcement { action: Action::Peek, want, outside: None, ..question };
            endpoints(&store.announce(now, &topology, TORRENT, &question))
        };
        let some = ask(few);
        prop_assert_eq!(some.len(), few.min(given.len()));
        prop_assert!(some.iter().all(|address| given.contains(address)), "{:?} of {:?}", some, given);
        let all = ask(1000);
        prop_assert_eq!(all.len(), given.len(), "{:?}: {:#?}", all, explained);
        prop_assert_eq!(all.into_iter().collect::<HashSet<_>>(), given);
    }
}
