//! Who is told of whom, and under which address. An address means one host to some and another, or none, to others: a
//! private one only where its network is, loopback only on its host.
//!
//! A site that is behind a NAT has an external address, by which others reach those inside if the NAT forwards their
//! ports. Several sites are told apart as zones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

use ipnet::IpNet;

use super::Ip;
use super::address::{Reach, is_outside};

/// The address by which a NAT is reached from outside; one of each family, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExternalAddress {
    /// For peers on IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For peers on IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl ExternalAddress {
    /// That of the same family: a NAT forwards to its own.
    fn instead_of(self, ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// A part of the network whose members reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// What the operator calls it.
    pub name: String,
    /// The addresses of its members.
    pub networks: Vec<IpNet>,
    /// By which other zones, and the world, reach its members. To another zone it may be a private one.
    pub external: ExternalAddress,
}

/// One of the zones that are configured, in one byte: each peer holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZoneId(NonZeroU8);

impl ZoneId {
    /// How many there can be.
    pub const MOST: usize = 255;

    /// That of the nth zone, from 0 on; none from [`Self::MOST`] on.
    pub fn nth(n: usize) -> Option<Self> {
        u8::try_from(n + 1).ok().and_then(NonZeroU8::new).map(Self)
    }

    fn number(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

/// Where a peer is, or who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address, canonical.
    pub ip: IpAddr,
    /// Its zone; none when no zone has its address.
    pub zone: Option<ZoneId>,
}

impl Place {
    /// That of a client whose address is not known, but perhaps its family: it is in no network, so that nothing of any site
    /// is told there.
    pub fn nowhere(is_ipv6: bool) -> Self {
        let ip = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { ip, zone: None }
    }
}

/// How near a peer is to who asks: the nearest are told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// In the same zone.
    Zone,
    /// In the same /24 of IPv4, or /64 of IPv6: as a rule on the same wire.
    Prefix,
    /// Anywhere else.
    Elsewhere,
}

impl Nearness {
    /// How near a peer is to who asks, whose address of the peer's family this is, if it has one. A subnet is one only
    /// within a zone: two sites may use the same private network.
    pub fn of<A: Ip>(asks: Option<A>, asks_zone: Option<ZoneId>, ip: A, zone: Option<ZoneId>) -> Self {
        if zone != asks_zone {
            Self::Elsewhere
        } else if zone.is_some() {
            Self::Zone
        } else if asks.is_some_and(|asks| asks.subnet() == ip.subnet()) {
            Self::Prefix
        } else {
            Self::Elsewhere
        }
    }

    /// The nearest that a peer can be to who asks.
    pub fn nearest<A: Ip>(asks: Option<A>, asks_zone: Option<ZoneId>) -> Self {
        match (asks_zone, asks) {
            (Some(_), _) => Self::Zone,
            (None, Some(_)) => Self::Prefix,
            (None, None) => Self::Elsewhere,
        }
    }
}

/// The zones, and the external address of all who have none of their own. Without either, private peers are told to
/// private peers, and routable ones to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    external: ExternalAddress,
    /// Of each zone, in its place.
    zone_externals: Vec<ExternalAddress>,
    /// The narrowest first; of equal ones the zone that is configured first.
    networks: Vec<(IpNet, ZoneId)>,
}

impl Views {
    /// Zones past [`ZoneId::MOST`] are left out.
    pub fn new(zones: &[Zone], external: ExternalAddress) -> Self {
        let ids = (0..).map_while(ZoneId::nth);
        let networks = ids.zip(zones).flat_map(|(id, zone)| zone.networks.iter().map(move |network| (*network, id)));
        let mut networks: Vec<_> = networks.collect();
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Self { external, zone_externals: zones.iter().map(|zone| zone.external).collect(), networks }
    }

    /// The zone that an address belongs to: the one with the narrowest network that has it.
    pub fn zone_of(&self, ip: IpAddr) -> Option<ZoneId> {
        self.networks.iter().find(|(network, _)| network.contains(&ip)).map(|(_, zone)| *zone)
    }

    /// A peer at this address.
    pub fn place(&self, ip: IpAddr) -> Place {
        Place { ip, zone: self.zone_of(ip) }
    }

    /// A peer that says it is at `ip`, in an announce that came from `source`. Where sites use the same private network, only
    /// the latter tells them apart: the zone is that of the source if the address can be there, too.
    pub fn place_seen_from(&self, ip: IpAddr, source: IpAddr) -> Place {
        let is_ambiguous = Reach::of(ip) == Reach::Site;
        let at_source = self.zone_of(source).filter(|&zone| is_ambiguous && self.has(zone, ip));
        Place { ip, zone: at_source.or_else(|| self.zone_of(ip)) }
    }

    fn has(&self, zone: ZoneId, ip: IpAddr) -> bool {
        self.networks.iter().any(|(network, other)| *other == zone && network.contains(&ip))
    }

    /// The address under which a peer is told to who asks, with the peer's own port. None when it is not to be told.
    pub fn address_for(&self, asks: Place, peer: Place) -> Option<IpAddr> {
        match Reach::of(peer.ip) {
            Reach::Nowhere => None,
            Reach::Everywhere => Some(peer.ip),
            // No one on the internet has such an address.
            Reach::Example => (Reach::of(asks.ip) != Reach::Everywhere).then_some(peer.ip),
            Reach::Host => (Reach::of(asks.ip) == Reach::Host).then_some(peer.ip),
            Reach::Link => (Reach::of(asks.ip) == Reach::Link && peer.zone == asks.zone).then_some(peer.ip),
            Reach::Site => match Reach::of(asks.ip) {
                Reach::Nowhere => None,
                Reach::Everywhere | Reach::Example => {
                    let own = self.external_of(peer).filter(|&ip| is_outside(ip));
                    own.or_else(|| self.external.instead_of(peer.ip).filter(|&ip| is_outside(ip)))
                }
                Reach::Host | Reach::Link | Reach::Site if peer.zone == asks.zone => Some(peer.ip),
                Reach::Host | Reach::Link | Reach::Site => self.external_of(peer),
            },
        }
    }

    /// By which other zones reach this peer: the zone's own address, or that of all who are in none.
    fn external_of(&self, peer: Place) -> Option<IpAddr> {
        let external = match peer.zone {
            Some(zone) => self.zone_externals.get(zone.number()).copied().unwrap_or_default(),
            None => self.external,
        };
        external.instead_of(peer.ip)
    }
}

#[cfg(test)]
mod tests {
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

    /// What the first is told of the second.
    fn told(views: &Views, asks: &str, peer: &str) -> String {
        let address = views.address_for(views.place(ip(asks)), views.place(ip(peer)));
        address.map_or("-".to_owned(), |ip| ip.to_string())
    }

    #[test]
    fn without_zones_an_address_is_told_where_it_means_the_same() {
        let views = Views::default();
        for (asks, peer, is_told) in [
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
            // No one on the internet has them, whoever says so.
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
            // Who is on a link sees the link, and what all of the site see.
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
            assert_eq!(told(&views, asks, peer), if is_told { peer } else { "-" }, "{asks} of {peer}");
        }
    }

    #[test]
    fn the_world_is_told_the_external_address() {
        let views = Views::new(&[], external(&["203.0.113.1", "2001:db8::1"]));
        assert_eq!(told(&views, "8.8.8.8", "10.0.0.1"), "203.0.113.1");
        assert_eq!(told(&views, "2001:db8:1::9", "10.0.0.1"), "203.0.113.1");
        assert_eq!(told(&views, "8.8.8.8", "fd00::1"), "2001:db8::1");
        assert_eq!(told(&views, "10.0.0.2", "10.0.0.1"), "10.0.0.1");
        assert_eq!(told(&views, "8.8.8.8", "127.0.0.1"), "-");
        let views = Views::new(&[], external(&["203.0.113.1"]));
        assert_eq!(told(&views, "8.8.8.8", "fd00::1"), "-", "a NAT of IPv4 forwards nothing to IPv6");
    }

    #[test]
    fn zones_see_each_other_under_their_external_addresses() {
        let zones = [
            zone("office", &["10.1.0.0/16", "fd00:1::/32"], &["203.0.113.1"]),
            zone("home", &["10.2.0.0/16"], &["192.168.9.2"]),
            zone("lab", &["10.0.0.0/8", "198.51.100.0/24"], &[]),
        ];
        let views = Views::new(&zones, external(&["203.0.113.9"]));
        for (asks, peer, address) in [
            ("10.1.0.1", "10.1.0.2", "10.1.0.2"),
            ("fd00:1::1", "10.1.0.2", "10.1.0.2"),
            ("10.2.0.1", "10.1.0.2", "203.0.113.1"),
            ("10.1.0.1", "10.2.0.2", "192.168.9.2"),
            ("10.2.0.1", "fd00:1::2", "-"),
            // The narrowest network decides; the lab has no address of its own for other zones.
            ("10.3.0.1", "10.4.0.2", "10.4.0.2"),
            ("10.1.0.1", "10.3.0.2", "-"),
            // Outside of all zones.
            ("10.1.0.1", "172.16.0.2", "203.0.113.9"),
            ("172.16.0.1", "10.3.0.2", "-"),
            ("172.16.0.1", "172.17.0.2", "172.17.0.2"),
            ("127.0.0.1", "10.1.0.2", "203.0.113.1"),
            // The world never sees a private address, though it is a zone's external one.
            ("8.8.8.8", "10.1.0.2", "203.0.113.1"),
            ("8.8.8.8", "10.2.0.2", "203.0.113.9"),
            ("8.8.8.8", "10.3.0.2", "203.0.113.9"),
            ("198.51.100.7", "10.3.0.2", "203.0.113.9"),
            ("10.3.0.1", "198.51.100.7", "198.51.100.7"),
        ] {
            assert_eq!(told(&views, asks, peer), address, "{asks} of {peer}");
        }
    }

    #[test]
    fn a_client_whose_address_is_not_known_is_told_nothing_of_any_site() {
        let zones = [zone("all", &["0.0.0.0/0", "::/0"], &["9.9.9.9"])];
        for views in [Views::default(), Views::new(&[], external(&["9.9.9.9"])), Views::new(&zones, external(&[]))] {
            for nowhere in [Place::nowhere(false), Place::nowhere(true)] {
                for peer in ["10.0.0.1", "fd00::1", "100.64.0.1", "127.0.0.1", "169.254.1.1"] {
                    assert_eq!(views.address_for(nowhere, views.place(ip(peer))), None, "{peer}");
                }
                for peer in ["8.8.8.8", "2600::1"] {
                    assert_eq!(views.address_for(nowhere, views.place(ip(peer))), Some(ip(peer)));
                }
            }
        }
    }

    #[test]
    fn sites_with_the_same_network_are_told_apart_by_where_an_announce_came_from() {
        let zones = [
            zone("here", &["192.168.1.0/24"], &["203.0.113.1"]),
            zone("there", &["192.168.1.0/24", "10.99.0.1/32"], &["203.0.113.2"]),
        ];
        let views = Views::new(&zones, ExternalAddress::default());
        let here = views.place(ip("192.168.1.5"));
        let there = views.place_seen_from(ip("192.168.1.5"), ip("10.99.0.1"));
        assert_eq!(views.place_seen_from(ip("192.168.1.5"), ip("192.168.1.1")), here);
        assert_eq!(views.place_seen_from(ip("172.16.0.1"), ip("10.99.0.1")).zone, None, "it cannot be there");
        assert_eq!(views.address_for(here, there), Some(ip("203.0.113.2")));
        assert_eq!(views.address_for(there, here), Some(ip("203.0.113.1")));
        assert_eq!(views.address_for(here, here), Some(here.ip));
        assert_eq!(views.address_for(there, there), Some(there.ip));
    }

    #[test]
    fn the_nearest_first() {
        let zones = [zone("office", &["10.0.0.0/8"], &[]), zone("home", &["192.168.0.0/16"], &[])];
        let nearness = |views: &Views, one: &str, other: &str| {
            let (one, other) = (views.place(ip(one)), views.place(ip(other)));
            let nearness = match other.ip {
                IpAddr::V4(ip) => Nearness::of(Ipv4Addr::of(one.ip), one.zone, ip, other.zone),
                IpAddr::V6(ip) => Nearness::of(Ipv6Addr::of(one.ip), one.zone, ip, other.zone),
            };
            assert!(nearness >= Nearness::nearest(Some(one.ip).and_then(Ipv4Addr::of), one.zone) || other.ip.is_ipv6());
            nearness
        };
        let views = Views::new(&zones, ExternalAddress::default());
        assert_eq!(nearness(&views, "10.0.0.1", "10.9.9.9"), Nearness::Zone);
        assert_eq!(nearness(&views, "203.0.113.5", "203.0.113.250"), Nearness::Prefix);
        assert_eq!(nearness(&views, "203.0.113.5", "203.0.112.5"), Nearness::Elsewhere);
        assert_eq!(nearness(&views, "10.0.0.1", "192.168.0.1"), Nearness::Elsewhere);
        let none = Views::default();
        assert_eq!(nearness(&none, "10.0.0.1", "10.9.9.9"), Nearness::Elsewhere);
        assert_eq!(nearness(&none, "2001:db8::1", "2001:db8::ffff:0:0:1"), Nearness::Prefix);
        assert_eq!(nearness(&none, "2001:db8::1", "2001:db8:0:1::1"), Nearness::Elsewhere);
        assert_eq!(nearness(&none, "0.0.0.1", "::1"), Nearness::Elsewhere);
        let apart = [zone("here", &["10.0.0.0/26"], &[])];
        let apart = Views::new(&apart, ExternalAddress::default());
        assert_eq!(nearness(&apart, "10.0.0.1", "10.0.0.99"), Nearness::Elsewhere, "another zone is elsewhere");
        assert!(Nearness::Zone < Nearness::Prefix && Nearness::Prefix < Nearness::Elsewhere);
    }

    /// Addresses of every kind.
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
        prop_oneof![
            v4,
            v6,
            Just(ip("::1")),
            any::<[u8; 4]>().prop_map(|v4| Ipv4Addr::from(v4).to_ipv6_compatible().into())
        ]
    }

    fn any_external() -> impl Strategy<Value = ExternalAddress> {
        (any::<Option<Ipv4Addr>>(), any::<Option<Ipv6Addr>>()).prop_map(|(v4, v6)| ExternalAddress { v4, v6 })
    }

    fn any_views() -> impl Strategy<Value = Views> {
        let network = (any_ip(), 0u8..=32).prop_map(|(ip, prefix)| IpNet::new(ip, prefix).unwrap());
        let zone = (prop::collection::vec(network, 1..4), any_external()).prop_map(|(networks, external)| Zone {
            name: String::new(),
            networks,
            external,
        });
        (prop::collection::vec(zone, 0..4), any_external()).prop_map(|(zones, external)| Views::new(&zones, external))
    }

    proptest! {
        #[test]
        fn nobody_routable_is_ever_told_a_private_address(views in any_views(), asks in any_ip(), peer in any_ip()) {
            let told = views.address_for(views.place(asks), views.place(peer));
            if Reach::of(asks) == Reach::Everywhere {
                prop_assert!(told.is_none_or(is_outside), "{:?}", told);
            }
        }

        #[test]
        fn loopback_is_told_to_loopback_only_and_a_peer_s_family_stays(
            views in any_views(), asks in any_ip(), peer in any_ip(),
        ) {
            let told = views.address_for(views.place(asks), views.place(peer));
            prop_assert!(Reach::of(peer) != Reach::Host || told == (Reach::of(asks) == Reach::Host).then_some(peer));
            prop_assert!(told.is_none_or(|ip| ip.is_ipv4() == peer.is_ipv4()));
            prop_assert!(Reach::of(peer) != Reach::Everywhere || told == Some(peer));
        }

        #[test]
        fn peers_of_one_kind_see_each_other_as_they_are_or_neither_does(
            views in any_views(), one in any_ip(), other in any_ip(),
        ) {
            prop_assume!(Reach::of(one) == Reach::of(other));
            let (one, other) = (views.place(one), views.place(other));
            let as_it_is = |asks: Place, peer: Place| views.address_for(asks, peer) == Some(peer.ip);
            // An external address may by chance be the peer's own.
            prop_assume!(views.external_of(one) != Some(one.ip) && views.external_of(other) != Some(other.ip));
            prop_assert_eq!(as_it_is(one, other), as_it_is(other, one));
        }

        #[test]
        fn a_zone_is_told_all_of_itself(views in any_views(), one in any_ip(), other in any_ip()) {
            let one = views.place(one);
            let other = Place { ip: other, zone: one.zone };
            if [one, other].iter().all(|place| Reach::of(place.ip) == Reach::Site) {
                prop_assert_eq!(views.address_for(one, other), Some(other.ip));
            }
        }
    }
}
