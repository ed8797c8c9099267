use super::*;
use crate::topology::ExternalAddress;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use tracker_protocol::PeerLists;

fn lists(addresses: &[&str]) -> PeerLists {
    let mut peers = PeerLists::default();
    for address in addresses {
        let address: SocketAddr = address.parse().unwrap();
        peers.push(address.ip(), NonZeroU16::new(address.port()).unwrap(), None);
    }
    peers
}

fn addresses_of(peers: &PeerLists) -> Vec<String> {
    let v4 = peers.v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
    v4.chain(peers.v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect()
}

/// Makes a client at this address that listens on port 1.
fn client(topology: &Topology, ip: &str, want: usize) -> Recipient {
    let place = topology.zoned(ip.parse().unwrap());
    Recipient { place, outside: None, port: NonZeroU16::new(1), want, counts: true }
}

/// Returns the peers that a client at 10.0.0.1:1 gets when it wants `want` peers.
fn merged(local: &[&str], upstream: &[&[&str]], want: usize) -> Vec<String> {
    let topology = Topology::default();
    let client = client(&topology, "10.0.0.1", want);
    let mut reply = AnnounceReply {
        interval: 1,
        min_interval: 1,
        complete: 1,
        incomplete: 1,
        downloaded: 0,
        external_ip: Some(client.place.ip),
        warning: None,
        peers: lists(local),
    };
    let upstream: Vec<_> = upstream
        .iter()
        .enumerate()
        .map(|(n, addresses)| Arc::new(UpstreamPeers::simulated(&lists(addresses), u32::try_from(n).unwrap(), 0)))
        .collect();
    assert_eq!(enough(&reply.peers, client, &topology, &upstream), {
        let upstream = UpstreamPeers::combined(&upstream);
        add_counts(&mut reply, &upstream);
        add_peers(&mut reply.peers, client, &topology, &upstream);
        reply.peers.len() >= want
    });
    assert_eq!(usize::try_from(reply.complete).unwrap(), 1 + upstream.len().saturating_sub(1));
    addresses_of(&reply.peers)
}

#[test]
fn local_first_then_each_in_turn_without_repeats() {
    let local = &["10.0.0.2:2"];
    let a = &["1.1.1.1:1", "1.1.1.1:2", "10.0.0.2:2", "1.1.1.1:3"][..];
    let b = &["2.2.2.2:1", "1.1.1.1:1", "[2001:db8::1]:1"][..];
    assert_eq!(
        merged(local, &[a, b], 50),
        ["10.0.0.2:2", "1.1.1.1:1", "2.2.2.2:1", "1.1.1.1:2", "1.1.1.1:3", "[2001:db8::1]:1"]
    );
    let three = merged(local, &[&a[..2], &b[..1]], 3);
    assert!(
        three.len() == 3 && three[0] == local[0] && three[2] == b[0],
        "one local peer and one of each list: {three:?}"
    );
    assert_eq!(merged(local, &[a, b], 1), ["10.0.0.2:2"]);
    assert_eq!(merged(local, &[], 50), ["10.0.0.2:2"]);
}

#[test]
fn a_client_may_get_upstream_peers_of_its_own_family_only() {
    let topology = Topology::default().with_own_family_only();
    let upstream = UpstreamPeers::simulated(&lists(&["1.1.1.1:1", "[2001:db8::1]:1"]), 0, 0);
    for (ip, expected) in [("10.0.0.1", "1.1.1.1:1"), ("fd00::1", "[2001:db8::1]:1")] {
        let mut peers = PeerLists::default();
        add_peers(&mut peers, client(&topology, ip, 50), &topology, &upstream);
        assert_eq!(addresses_of(&peers), [expected]);
    }
}

#[test]
fn each_client_gets_another_part_of_a_long_list() {
    let list: Vec<_> = (1..=100).map(|n| format!("1.1.1.{n}:1")).collect();
    let list: Vec<_> = list.iter().map(String::as_str).collect();
    fastrand::seed(7);
    let parts: HashSet<_> = (0..20).map(|_| merged(&[], &[&list], 10)).collect();
    assert!(parts.len() > 10 && parts.iter().all(|part| part.len() == 10), "{parts:?}");
}

#[test]
fn neither_the_announcer_nor_addresses_that_mean_nothing() {
    let upstream = &[
        "10.0.0.1:1",
        "10.0.0.1:2",
        "0.0.0.0:5",
        "127.0.0.1:5",
        "224.0.0.1:5",
        "169.254.1.1:5",
        "[fe80::1]:5",
        "[::1]:5",
        "9.9.9.9:1",
    ][..];
    assert_eq!(merged(&[], &[upstream], 50), ["10.0.0.1:2", "9.9.9.9:1"]);
    assert!(merged(&[], &[&["127.0.0.1:5"]], 50).is_empty());
    // The client does not get its own outside address as a peer either.
    let topology = Topology::default();
    let client = Recipient { outside: "9.9.9.9".parse().ok(), ..client(&topology, "10.0.0.1", 50) };
    let mut peers = PeerLists::default();
    add_peers(&mut peers, client, &topology, &UpstreamPeers::simulated(&lists(upstream), 0, 0));
    assert_eq!(addresses_of(&peers), ["10.0.0.1:2"]);
}

#[test]
fn a_public_client_gets_the_upstream_peers_that_it_can_reach() {
    let external = ExternalAddress { v4: Some([203, 0, 113, 1].into()), v6: None };
    // Our own network's external address does not apply to an upstream's private peers.
    for topology in [Topology::default(), Topology::new(&[], external)] {
        let mut peers = lists(&["203.0.113.5:5", "[2001:db8::5]:5"]);
        let upstream = UpstreamPeers::simulated(&lists(&["10.0.0.9:9", "9.9.9.9:9"]), 0, 0);
        add_peers(&mut peers, client(&topology, "8.8.8.8", 50), &topology, &upstream);
        assert_eq!(addresses_of(&peers), ["203.0.113.5:5", "9.9.9.9:9", "[2001:db8::5]:5"]);
    }
}
