use std::net::{Ipv4Addr, Ipv6Addr};

use tracker_protocol::Ip as _;

use super::super::Nearness;
use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn external(addresses: &[&str]) -> ExternalAddress {
    let mut external = ExternalAddress::default();
    for address in addresses {
        match ip(address) {
            IpAddr::V4(ip) => external.v4 = Some(ip),
            IpAddr::V6(ip) => external.v6 = Some(ip),
        }
    }
    external
}

fn zone(name: &str, networks: &[&str], addresses: &[&str]) -> Zone {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    Zone { name: name.to_owned(), networks, external: external(addresses) }
}

/// Returns the address at which a client at `asks` gets `peer`; `-` if the client does not get `peer`.
fn visible(topology: &Topology, asks: &str, peer: &str) -> String {
    let address = topology.visible_address(topology.zoned(ip(asks)), topology.zoned(ip(peer)));
    address.map_or("-".to_owned(), |ip| ip.to_string())
}

#[test]
fn without_zones_clients_get_the_addresses_that_they_can_reach() {
    let topology = Topology::default();
    for (asks, peer, is_visible) in [
        ("10.0.0.1", "192.168.1.1", true),
        ("10.0.0.1", "100.64.0.1", true),
        ("100.64.0.1", "10.0.0.1", true),
        ("fd00::1", "10.0.0.1", true),
        ("10.0.0.1", "fd00::1", true),
        ("fe80::1", "10.0.0.1", true),
        ("127.0.0.1", "10.0.0.1", true),
        ("127.0.0.1", "::1", true),
        ("10.0.0.1", "127.0.0.1", false),
        ("203.0.113.5", "127.0.0.1", false),
        ("203.0.113.5", "10.0.0.1", false),
        ("203.0.113.5", "100.64.0.1", false),
        ("203.0.113.5", "fd00::1", false),
        ("2001:db8::5", "10.0.0.1", false),
        ("2001:db8::5", "64:ff9b::10.0.0.1", false),
        ("10.0.0.1", "203.0.113.5", true),
        ("127.0.0.1", "203.0.113.5", true),
        ("8.8.8.8", "2600::5", true),
        ("203.0.113.5", "2001:db8::5", true),
        ("10.0.0.1", "2001:db8::5", true),
        // No host on the internet has these addresses.
        ("8.8.8.8", "203.0.113.5", false),
        ("2600::5", "192.0.2.5", false),
        ("8.8.8.8", "2001:db8::5", false),
        ("10.0.0.1", "240.0.0.1", false),
        ("10.0.0.1", "::ffff:0:10.0.0.2", false),
        ("::ffff:0:10.0.0.2", "10.0.0.1", false),
        ("100::1", "10.0.0.1", false),
        ("240.0.0.1", "10.0.0.1", false),
        ("64:ff9b:1::8.8.8.8", "10.0.0.1", false),
        ("2002:a00:1::1", "10.0.0.1", false),
        ("10.0.0.1", "0.0.0.0", false),
        // A client with a link-local address gets the peers on its link, and those that every client of the site gets.
        ("169.254.1.2", "169.254.1.1", true),
        ("fe80::2", "fe80::1", true),
        ("fe80::2", "169.254.1.1", true),
        ("169.254.1.2", "8.8.8.8", true),
        ("169.254.1.2", "192.168.1.1", true),
        ("10.0.0.1", "169.254.1.1", false),
        ("fd00::1", "fe80::1", false),
        ("127.0.0.1", "169.254.1.1", false),
        ("8.8.8.8", "fe80::1", false),
        ("203.0.113.5", "169.254.1.1", false),
    ] {
        assert_eq!(visible(&topology, asks, peer), if is_visible { peer } else { "-" }, "{asks} of {peer}");
    }
}

#[test]
fn clients_outside_get_the_external_address() {
    let topology = Topology::new(&[], external(&["203.0.113.1", "2001:db8::1"]));
    assert_eq!(visible(&topology, "8.8.8.8", "10.0.0.1"), "203.0.113.1");
    assert_eq!(visible(&topology, "2001:db8:1::9", "10.0.0.1"), "203.0.113.1");
    assert_eq!(visible(&topology, "8.8.8.8", "fd00::1"), "2001:db8::1");
    assert_eq!(visible(&topology, "10.0.0.2", "10.0.0.1"), "10.0.0.1");
    assert_eq!(visible(&topology, "8.8.8.8", "127.0.0.1"), "-");
    let topology = Topology::new(&[], external(&["203.0.113.1"]));
    assert_eq!(visible(&topology, "8.8.8.8", "fd00::1"), "-", "a NAT of IPv4 forwards nothing to IPv6");
}

#[test]
fn zones_see_each_other_under_their_external_addresses() {
    let zones = [
        zone("office", &["10.1.0.0/16", "fd00:1::/32"], &["203.0.113.1"]),
        zone("home", &["10.2.0.0/16"], &["192.168.9.2"]),
        zone("lab", &["10.0.0.0/8", "198.51.100.0/24"], &[]),
    ];
    let topology = Topology::new(&zones, external(&["203.0.113.9"]));
    for (asks, peer, address) in [
        ("10.1.0.1", "10.1.0.2", "10.1.0.2"),
        ("fd00:1::1", "10.1.0.2", "10.1.0.2"),
        ("10.2.0.1", "10.1.0.2", "203.0.113.1"),
        ("10.1.0.1", "10.2.0.2", "192.168.9.2"),
        ("10.2.0.1", "fd00:1::2", "-"),
        // The narrowest network decides: these are in the lab. It has no external address, so other zones do not get
        // them.
        ("10.3.0.1", "10.4.0.2", "10.4.0.2"),
        ("10.1.0.1", "10.3.0.2", "-"),
        // Outside of all zones.
        ("10.1.0.1", "172.16.0.2", "203.0.113.9"),
        ("172.16.0.1", "10.3.0.2", "-"),
        ("172.16.0.1", "172.17.0.2", "172.17.0.2"),
        ("127.0.0.1", "10.1.0.2", "203.0.113.1"),
        // Clients on the internet never get a private address, not even a zone's external one.
        ("8.8.8.8", "10.1.0.2", "203.0.113.1"),
        ("8.8.8.8", "10.2.0.2", "203.0.113.9"),
        ("8.8.8.8", "10.3.0.2", "203.0.113.9"),
        ("198.51.100.7", "10.3.0.2", "203.0.113.9"),
        ("10.3.0.1", "198.51.100.7", "198.51.100.7"),
    ] {
        assert_eq!(visible(&topology, asks, peer), address, "{asks} of {peer}");
    }
}

#[test]
fn a_client_whose_address_is_not_known_gets_no_peer_of_a_site() {
    let zones = [zone("all", &["0.0.0.0/0", "::/0"], &["9.9.9.9"])];
    for topology in
        [Topology::default(), Topology::new(&[], external(&["9.9.9.9"])), Topology::new(&zones, external(&[]))]
    {
        for nowhere in [ZonedIp::nowhere(false), ZonedIp::nowhere(true)] {
            for peer in ["10.0.0.1", "fd00::1", "100.64.0.1", "127.0.0.1", "169.254.1.1"] {
                assert_eq!(topology.visible_address(nowhere, topology.zoned(ip(peer))), None, "{peer}");
            }
            for peer in ["8.8.8.8", "2600::1"] {
                assert_eq!(topology.visible_address(nowhere, topology.zoned(ip(peer))), Some(ip(peer)));
            }
        }
    }
}

#[test]
fn the_source_of_an_announce_distinguishes_sites_with_the_same_network() {
    let zones = [
        zone("here", &["192.168.1.0/24"], &["203.0.113.1"]),
        zone("there", &["192.168.1.0/24", "10.99.0.1/32"], &["203.0.113.2"]),
    ];
    let topology = Topology::new(&zones, ExternalAddress::default());
    let here = topology.zoned(ip("192.168.1.5"));
    let there = topology.locate(ip("192.168.1.5"), ip("10.99.0.1"));
    assert_eq!(topology.locate(ip("192.168.1.5"), ip("192.168.1.1")), here);
    assert_eq!(topology.locate(ip("172.16.0.1"), ip("10.99.0.1")).zone, None, "it cannot be there");
    assert_eq!(topology.visible_address(here, there), Some(ip("203.0.113.2")));
    assert_eq!(topology.visible_address(there, here), Some(ip("203.0.113.1")));
    assert_eq!(topology.visible_address(here, here), Some(here.ip));
    assert_eq!(topology.visible_address(there, there), Some(there.ip));
}

#[test]
fn the_nearest_peers_come_first() {
    let zones = [zone("office", &["10.0.0.0/8"], &[]), zone("home", &["192.168.0.0/16"], &[])];
    let nearness = |topology: &Topology, one: &str, other: &str| {
        let (one, other) = (topology.zoned(ip(one)), topology.zoned(ip(other)));
        let nearness = match other.ip {
            IpAddr::V4(ip) => Nearness::of(Ipv4Addr::of(one.ip), one.zone, ip, other.zone),
            IpAddr::V6(ip) => Nearness::of(Ipv6Addr::of(one.ip), one.zone, ip, other.zone),
        };
        assert!(nearness >= Nearness::nearest(Some(one.ip).and_then(Ipv4Addr::of), one.zone) || other.ip.is_ipv6());
        nearness
    };
    let topology = Topology::new(&zones, ExternalAddress::default());
    assert_eq!(nearness(&topology, "10.0.0.1", "10.9.9.9"), Nearness::Zone);
    assert_eq!(nearness(&topology, "203.0.113.5", "203.0.113.250"), Nearness::Prefix);
    assert_eq!(nearness(&topology, "203.0.113.5", "203.0.112.5"), Nearness::Elsewhere);
    assert_eq!(nearness(&topology, "10.0.0.1", "192.168.0.1"), Nearness::Elsewhere);
    let none = Topology::default();
    assert_eq!(nearness(&none, "10.0.0.1", "10.9.9.9"), Nearness::Elsewhere);
    assert_eq!(nearness(&none, "2001:db8::1", "2001:db8::ffff:0:0:1"), Nearness::Prefix);
    assert_eq!(nearness(&none, "2001:db8::1", "2001:db8:0:1::1"), Nearness::Elsewhere);
    assert_eq!(nearness(&none, "0.0.0.1", "::1"), Nearness::Elsewhere);
    let apart = [zone("here", &["10.0.0.0/26"], &[])];
    let apart = Topology::new(&apart, ExternalAddress::default());
    assert_eq!(nearness(&apart, "10.0.0.1", "10.0.0.99"), Nearness::Elsewhere, "another zone is elsewhere");
    assert!(Nearness::Zone < Nearness::Prefix && Nearness::Prefix < Nearness::Elsewhere);
}

/// Returns addresses of every kind.
fn any_ip() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<[u8; 4]>().prop_flat_map(|[a, b, c, d]| {
        let within = prop::sample::select(vec![
            [10, b],
            [172, 16 | b & 15],
            [192, 168],
            [100, 64 | b & 63],
            [127, 0],
            [169, 254],
            [a, b],
        ]);
        within.prop_map(move |[a, b]| IpAddr::from([a, b, c, d]))
    });
    let v6 = (any::<[u16; 7]>(), prop::sample::select(vec![0xfd00, 0xfe80, 0x2001, 0x2002, 0x64, 0, 0xff02]))
        .prop_map(|([b, c, d, e, f, g, h], a)| IpAddr::from([a, b, c, d, e, f, g, h]).to_canonical());
    prop_oneof![v4, v6, Just(ip("::1")), any::<[u8; 4]>().prop_map(|v4| Ipv4Addr::from(v4).to_ipv6_compatible().into())]
}

fn any_external() -> impl Strategy<Value = ExternalAddress> {
    (any::<Option<Ipv4Addr>>(), any::<Option<Ipv6Addr>>()).prop_map(|(v4, v6)| ExternalAddress { v4, v6 })
}

fn any_topology() -> impl Strategy<Value = Topology> {
    let network = (any_ip(), 0u8..=32).prop_map(|(ip, prefix)| IpNet::new(ip, prefix).unwrap());
    let zone = (prop::collection::vec(network, 1..4), any_external()).prop_map(|(networks, external)| Zone {
        name: String::new(),
        networks,
        external,
    });
    (prop::collection::vec(zone, 0..4), any_external()).prop_map(|(zones, external)| Topology::new(&zones, external))
}

proptest! {
    /// The store relies on this for hosts in the subnet of a client.
    #[test]
    fn hosts_of_one_subnet_whose_addresses_are_of_one_kind_reach_each_other(net: [u8; 3], hosts: [u8; 2], is_private: bool) {
        let net = if is_private { [10, net[1], net[2]] } else { net };
        let [asks, peer] = hosts.map(|host| ZonedIp { ip: IpAddr::from([net[0], net[1], net[2], host]), zone: ZoneId::nth(0) });
        let reaches = Reach::of_subnet(asks.ip).is_some_and(|reach| reach != Reach::Nowhere);
        let topology = Topology::new(&[zone("site", &["10.0.0.0/8"], &["203.0.113.1"])], external(&["203.0.113.2"]));
        prop_assert!(!reaches || topology.visible_address(asks, peer) == Some(peer.ip));
    }

    #[test]
    fn a_public_client_never_gets_a_private_address(topology in any_topology(), asks in any_ip(), peer in any_ip()) {
        let visible = topology.visible_address(topology.zoned(asks), topology.zoned(peer));
        if Reach::of(asks) == Reach::Everywhere {
            prop_assert!(visible.is_none_or(is_outside), "{:?}", visible);
        }
    }

    #[test]
    fn only_loopback_clients_get_loopback_peers_and_the_family_stays(
        topology in any_topology(), asks in any_ip(), peer in any_ip(),
    ) {
        let visible = topology.visible_address(topology.zoned(asks), topology.zoned(peer));
        prop_assert!(Reach::of(peer) != Reach::Host || visible == (Reach::of(asks) == Reach::Host).then_some(peer));
        prop_assert!(visible.is_none_or(|ip| ip.is_ipv4() == peer.is_ipv4()));
        prop_assert!(Reach::of(peer) != Reach::Everywhere || visible == Some(peer));
    }

    #[test]
    fn peers_of_one_kind_see_each_other_or_neither_does(
        topology in any_topology(), one in any_ip(), other in any_ip(),
    ) {
        prop_assume!(Reach::of(one) == Reach::of(other));
        let (one, other) = (topology.zoned(one), topology.zoned(other));
        let as_it_is = |asks: ZonedIp, peer: ZonedIp| topology.visible_address(asks, peer) == Some(peer.ip);
        // An external address may by chance equal the peer's own address.
        prop_assume!(topology.external_of(one) != Some(one.ip) && topology.external_of(other) != Some(other.ip));
        prop_assert_eq!(as_it_is(one, other), as_it_is(other, one));
    }

    #[test]
    fn members_of_a_zone_get_all_its_peers(topology in any_topology(), one in any_ip(), other in any_ip()) {
        let one = topology.zoned(one);
        let other = ZonedIp { ip: other, zone: one.zone };
        if [one, other].iter().all(|place| Reach::of(place.ip) == Reach::Site) {
            prop_assert_eq!(topology.visible_address(one, other), Some(other.ip));
        }
    }
}
