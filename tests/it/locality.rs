//! Which peers a client gets, and at which addresses: in private networks, in zones and on the internet. If there are
//! enough local seeds, a client gets fewer upstream peers.

use std::io::Write as _;

use tempfile::NamedTempFile;

use crate::dsl::{Server, TestConnection, announce, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::service::forwarders;

/// Announces a client whose address is in a proxy's header, and returns the peers that it gets. The peer id is derived
/// from the address, so that each address has its own peer id.
fn joins(connection: &mut TestConnection, ip: &str, port: u16) -> Vec<String> {
    let name: String = ip.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    connection.announce_with(&announce("t", &name).port(port), &[("X-Real-IP", ip)]).peers()
}

/// Announces a client at each address of `peers`, and then one at the address `asks`. Returns the peers that the last
/// client gets.
fn peers_for(server: &Server, asks: &str, peers: &[&str]) -> Vec<String> {
    let mut connection = server.connect();
    for (peer, port) in peers.iter().zip(1..) {
        joins(&mut connection, peer, port);
    }
    joins(&mut connection, asks, 1000)
}

const PEERS: [&str; 6] = ["10.0.0.2", "192.168.1.2", "100.64.0.2", "fd00::2", "203.0.114.5", "2600::5"];

#[test]
fn clients_on_the_internet_get_no_private_address() {
    for asks in ["8.8.8.8", "2600:1::8", "203.0.113.5", "2001:db8::5"] {
        assert_eq!(peers_for(&Server::start(&["-x"]), asks, &PEERS), ["203.0.114.5:5", "[2600::5]:6"], "{asks}");
    }
    assert_eq!(peers_for(&Server::start(&["-x"]), "10.0.0.9", &PEERS).len(), PEERS.len());
}

/// Addresses from IANA's registries of special-purpose addresses.
const SPECIAL: [&str; 18] = [
    "0.1.2.3",
    "192.0.0.170",
    "192.0.2.5",
    "192.88.99.5",
    "198.51.100.5",
    "203.0.113.5",
    "224.0.0.5",
    "240.0.0.5",
    "::ffff:0:10.0.0.5",
    "::10.0.0.5",
    "64:ff9b::10.0.0.5",
    "64:ff9b:1::8.8.8.8",
    "100::5",
    "2001:0:808:808:0:0:f5ff:fffe",
    "2001:db8::5",
    "2002:a00:5::5",
    "3fff::5",
    "5f00::5",
];

#[test]
fn clients_at_reserved_addresses_and_on_the_internet_do_not_get_each_other() {
    let server = Server::start(&["-x"]);
    assert_eq!(peers_for(&server, "8.8.8.8", &SPECIAL), [""; 0]);
    let server = Server::start(&["-x"]);
    peers_for(&server, "10.0.0.1", &["10.0.0.2", "9.9.9.9", "fd00::2", "127.0.0.1", "169.254.1.1"]);
    for special in SPECIAL {
        let peers = joins(&mut server.connect(), special, 2000);
        let is_private = |peer: &&String| ["10.", "[fd", "127.", "169."].iter().any(|start| peer.starts_with(start));
        assert!(peers.contains(&"9.9.9.9:2".to_owned()), "{special}: {peers:?}");
        assert_eq!(peers.iter().find(is_private), None, "{special}");
    }
}

#[test]
fn clients_with_link_local_addresses_get_each_other_only() {
    let server = Server::start(&["-x", "-p"]);
    let peers = ["169.254.1.2", "fe80::2", "192.168.1.2", "9.9.9.9"];
    let all = ["9.9.9.9:4", "169.254.1.2:1", "192.168.1.2:3", "[fe80::2]:2"];
    assert_eq!(peers_for(&server, "169.254.1.3", &peers), all);
    let mut connection = server.connect();
    assert_eq!(joins(&mut connection, "fe80::3", 6).len(), 5);
    assert_eq!(joins(&mut connection, "192.168.1.3", 7), ["9.9.9.9:4", "192.168.1.2:3"]);
    assert_eq!(joins(&mut connection, "127.0.0.1", 8), ["9.9.9.9:4", "192.168.1.2:3", "192.168.1.3:7"]);
    assert_eq!(joins(&mut connection, "8.8.8.8", 9), ["9.9.9.9:4"]);
    // A client that no other client can reach gets a warning, and the log has one for the operator.
    let reply = connection.announce_with(&announce("t", "nowhere"), &[("X-Real-IP", "240.0.0.1")]);
    assert!(reply.string("warning message").is_some_and(|warning| warning.contains("not listed")), "{}", reply.text());
    server.logged("such as the one at 240.0.0.1");
    let metrics = String::from_utf8(connection.get("/metrics").body).unwrap();
    assert!(metrics.contains("retracker_announces_unlisted_total{reason=\"address\"} 1\n"), "{metrics}");
}

#[test]
fn a_client_with_a_link_local_address_may_give_another() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    let claims = announce("t", "a").with("ipv4", "192.168.1.7");
    connection.announce_with(&claims, &[("X-Real-IP", "fe80::5")]);
    assert_eq!(joins(&mut connection, "192.168.1.9", 2), ["192.168.1.7:6881"]);
}

#[test]
fn clients_on_the_internet_get_the_external_address_and_neighbours_the_private_one() {
    for setup in [
        retracker(&["-x", "--external-address", "198.51.100.1"]).env("EXTERNAL_ADDRESS", "1.1.1.1"),
        retracker(&["-x"]).env("EXTERNAL_ADDRESS", "198.51.100.1"),
    ] {
        let server = setup.start();
        let of_the_world = ["198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3", "203.0.114.5:5", "[2600::5]:6"];
        assert_eq!(peers_for(&server, "8.8.8.8", &PEERS), of_the_world);
        let of_a_neighbour = joins(&mut server.connect(), "10.0.0.9", 1001);
        assert!(of_a_neighbour.contains(&"10.0.0.2:1".to_owned()), "{of_a_neighbour:?}");
        assert!(!of_a_neighbour.iter().any(|peer| peer.starts_with("198.51.100.1")), "{of_a_neighbour:?}");
    }
    let both = Server::start(&["-x", "--external-address", "198.51.100.1, 2001:db8:ffff::1"]);
    assert!(peers_for(&both, "8.8.8.8", &PEERS).contains(&"[2001:db8:ffff::1]:4".to_owned()));
}

#[test]
fn clients_of_other_zones_get_external_addresses() {
    let mut file = NamedTempFile::new().unwrap();
    let zones = "\
- name: office
  networks: [10.1.0.0/16]
  external-address: [198.51.100.1]
- name: home
  networks: [10.2.0.0/16]
- name: lab
  networks: [10.0.0.0/8]
  external-address: [172.16.9.9]
";
    file.write_all(zones.as_bytes()).unwrap();
    let peers = ["10.1.0.2", "10.2.0.2", "10.3.0.2", "192.168.1.2"];
    for (asks, expected) in [
        ("10.1.0.9", &["10.1.0.2:1", "172.16.9.9:3"][..]),
        ("10.2.0.9", &["10.2.0.2:2", "172.16.9.9:3", "198.51.100.1:1"]),
        ("10.4.0.9", &["10.3.0.2:3", "198.51.100.1:1"]),
        ("192.168.1.9", &["172.16.9.9:3", "192.168.1.2:4", "198.51.100.1:1"]),
        ("8.8.8.8", &["198.51.100.1:1"]),
    ] {
        let server = retracker(&["-x"]).env("ZONES_FILE", file.path()).start();
        assert_eq!(peers_for(&server, asks, &peers), expected, "{asks}");
    }
}

#[test]
fn the_nearest_come_first() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"- name: office\n  networks: [10.1.0.0/16, 'fd00:1::/32']\n").unwrap();
    let server = retracker(&["-x"]).env("ZONES_FILE", file.path()).start();
    let mut connection = server.connect();
    for n in 1..=99 {
        joins(&mut connection, &format!("203.0.{n}.1"), n);
        joins(&mut connection, &format!("2001:db8:0:{n}::1"), n);
    }
    ["10.1.2.3", "10.1.99.4", "fd00:1:9::5"]
        .iter()
        .zip(1000..)
        .for_each(|(ip, port)| drop(joins(&mut connection, ip, port)));
    let mut peers_for = |ip: &str, want| {
        connection.announce_with(&announce("t", "asks").port(9).numwant(want), &[("X-Real-IP", ip)]).peers()
    };
    assert_eq!(peers_for("10.1.77.7", 2), ["10.1.2.3:1000", "10.1.99.4:1001"], "the zone");
    assert_eq!(peers_for("fd00:1::9", 1), ["[fd00:1:9::5]:1002"], "the zone over IPv6");
    assert_eq!(peers_for("203.0.42.9", 1), ["203.0.42.1:42"], "the subnet");
    assert_eq!(peers_for("2001:db8:0:43::9", 1), ["[2001:db8:0:43::1]:43"], "the subnet over IPv6");
    assert_eq!(peers_for("203.0.200.9", 50).len(), 50, "any peer");
}

#[test]
fn sites_with_the_same_network_are_distinguished_by_the_announce_s_source() {
    let mut file = NamedTempFile::new().unwrap();
    let zones = "\
- name: here
  networks: [192.168.0.0/16]
  external-address: [198.51.100.1]
- name: there
  networks: [192.168.0.0/16, 10.99.0.1/32]
  external-address: [198.51.100.2]
";
    file.write_all(zones.as_bytes()).unwrap();
    let server = retracker(&["-x"]).env("ZONES_FILE", file.path()).start();
    let mut connection = server.connect();
    let mut joins = |router: &str, name: &str, port| {
        connection.announce_with(&announce("t", name).at("192.168.1.5").port(port), &[("X-Real-IP", router)]).peers()
    };
    // Clients of two sites have the same address and port, but they are two peers.
    joins("192.168.1.1", "one here", 1);
    joins("10.99.0.1", "one there", 1);
    assert_eq!(joins("192.168.1.1", "two here", 2), ["192.168.1.5:1", "198.51.100.2:1"]);
    assert_eq!(joins("10.99.0.1", "two there", 2), ["192.168.1.5:1", "198.51.100.1:1", "198.51.100.1:2"]);
}

#[test]
fn a_client_on_both_families_counts_once_over_http() {
    let server = Server::start(&[]);
    let both = |event: &str| {
        let client = |ip| announce("t", "both").at(ip).event(event);
        let client = |ip| if event == "started" { client(ip) } else { client(ip).seed() };
        ["10.0.0.1", "fd00::1"].map(|ip| server.announce(&client(ip)).counts())
    };
    assert_eq!(both("started"), [[0, 1, 0]; 2]);
    assert_eq!(server.announce(&announce("t", "other").at("10.0.0.2")).peers().len(), 2, "a client with two addresses");
    assert_eq!(both("completed"), [[1, 1, 1], [1, 1, 1]], "one download");
    assert_eq!(both("stopped"), [[1, 1, 1], [0, 1, 1]]);
}

#[test]
fn few_upstream_peers_are_given_when_there_are_enough_local_seeds() {
    let peers: Vec<u8> = (1..=20).flat_map(|n| [203, 0, 113, n, 0x1a, 0xe1]).collect();
    let body = [&b"d8:intervali60e5:peers120:"[..], &peers, b"e"].concat();
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let upstream = FakeTracker::start(sends([reply.as_bytes(), &body].concat()));
    let file = forwarders(&upstream);
    let args = ["-t", "30", "-f", file.path().to_str().unwrap(), "--local-only-after", "2"];
    let server = Server::start(&args);
    let leecher = || server.announce(&announce("t", "leecher").at("10.0.0.9")).peers();
    let seed = |n: u16| server.announce(&announce("t", &n.to_string()).seed().at("10.0.0.1").port(n));
    assert_eq!(leecher().len(), 20);
    seed(1);
    assert_eq!(leecher().len(), 1 + 20);
    seed(2);
    let peers = leecher();
    assert_eq!(peers.iter().filter(|peer| peer.starts_with("203.")).count(), 5, "a few upstream peers: {peers:?}");
    assert!(peers.contains(&"10.0.0.1:1".to_owned()) && peers.contains(&"10.0.0.1:2".to_owned()), "{peers:?}");
}
