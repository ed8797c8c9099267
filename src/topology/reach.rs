//! From where an address can be reached, by IANA's registries of special-purpose addresses (RFC 6890) as of 2026.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where a host can be reached at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From nowhere: no host has the address, or only a translator uses it.
    Nowhere,
    /// From the same host: loopback.
    Host,
    /// From the same link: `169.254.0.0/16` and `fe80::/10`.
    Link,
    /// From its owner's network: private addresses, CGNAT (RFC 6598), and others that no host on the internet has.
    Site,
    /// From a lab. These addresses are reserved for examples (RFC 5737, RFC 3849, RFC 9637). Labs use them as internet
    /// addresses, but no host on the internet has them.
    Example,
    /// From everywhere.
    Everywhere,
}

impl Reach {
    /// Returns from where this address can be reached.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    /// Returns from where all addresses of the subnet of `ip` can be reached: its /24 of IPv4, or its /64 of IPv6. `None`
    /// if the subnet has addresses of several kinds.
    pub fn of_subnet(ip: IpAddr) -> Option<Self> {
        let is_mixed = match ip {
            IpAddr::V4(ip) => matches!(ip.octets(), [192, 0, 0, _]),
            // Loopback and embedded IPv4, NAT64, Teredo, and anycast of PCP, TURN and DNS-SD.
            IpAddr::V6(ip) => matches!(
                ip.segments(),
                [0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, ..] | [0x2001, 0, ..] | [0x2001, 1, 0, 0, ..]
            ),
        };
        (!is_mixed).then(|| Self::of(ip))
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        match ip.octets() {
            [127, ..] => Self::Host,
            [169, 254, ..] => Self::Link,
            // RFC 1918; CGNAT; benchmarks (RFC 2544); DS-Lite and the like (RFC 7335).
            [10, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [100, 64..=127, ..]
            | [198, 18..=19, ..]
            | [192, 0, 0, 0..=7] => Self::Site,
            // Anycast of PCP and TURN.
            [192, 0, 0, 9..=10] => Self::Everywhere,
            [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Self::Example,
            // This network; other protocols; relays of 6to4 (RFC 7526); multicast, reserved and broadcast.
            [0 | 224..=255, ..] | [192, 0, 0, _] | [192, 88, 99, _] => Self::Nowhere,
            _ => Self::Everywhere,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Host,
            [0, 0, 0, 0, 0, 0xffff, high, low] => Self::of_v4(v4(high, low)),
            // NAT64 (RFC 6052), 6to4 (RFC 3056), and Teredo (RFC 4380), whose server and client must both be public.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Self::of_embedded(v4(high, low)),
            [0x2001, 0, high, low, _, _, client_high, client_low] => {
                let server = Self::of_embedded(v4(high, low));
                let client = Self::of_embedded(v4(!client_high, !client_low));
                if server == client { server } else { Self::Nowhere }
            }
            // Anycast of PCP, TURN and DNS-SD; AMT; AS112; ORCHIDv2 and DRIP.
            [0x2001, 1, 0, 0, 0, 0, 0, 1..=3] | [0x2001, 3 | 0x20..=0x3f, ..] | [0x2001, 4, 0x112, ..] => {
                Self::Everywhere
            }
            // Benchmarks (RFC 5180); ULA, and its predecessor site-local.
            [0x2001, 2, 0, ..] | [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Site,
            // Other protocols, the old ORCHIDs among them.
            [0x2001, 0..=0x1ff, ..] => Self::Nowhere,
            [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Example,
            // Global unicast (RFC 4291). 200::/7 is unassigned, but members of Yggdrasil reach each other there.
            [0x2000..=0x3fff | 0x0200..=0x03ff, ..] => Self::Everywhere,
            [0xfe80..=0xfebf, ..] => Self::Link,
            // Unspecified, IPv4-compatible (RFC 4291) and translated (RFC 2765); local NAT64 (RFC 8215), whose
            // addresses stand for hosts anywhere; discard (RFC 6666); segment routing (RFC 9602); multicast; unassigned
            // addresses.
            _ => Self::Nowhere,
        }
    }

    /// Returns the reach of an IPv6 address that embeds this IPv4 address. Packets to such an IPv6 address go over the
    /// internet, so they arrive only if the IPv4 address is public.
    fn of_embedded(ip: Ipv4Addr) -> Self {
        match Self::of_v4(ip) {
            reach @ (Self::Everywhere | Self::Example) => reach,
            _ => Self::Nowhere,
        }
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

/// Returns whether clients on other links can connect to this address. Loopback counts, for clients on the same host.
pub fn is_connectable(ip: IpAddr) -> bool {
    !matches!(Reach::of(ip), Reach::Nowhere | Reach::Link)
}

/// Returns whether an address is of this host or a private network: loopback, RFC 1918, link-local, ULA.
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Returns whether an address is outside of private networks: public, or an example's stand-in for a public one.
pub fn is_outside(ip: IpAddr) -> bool {
    matches!(Reach::of(ip), Reach::Everywhere | Reach::Example)
}

/// Returns whether an address is public: not of a private network, this host, a link or a multicast group, nor an IPv6
/// form of such an IPv4 address. An upstream on the internet may redirect only to public addresses.
pub fn is_public(ip: IpAddr) -> bool {
    Reach::of(ip) == Reach::Everywhere
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_classed_as_the_registries_have_them() {
        for (addresses, reach) in [
            ("127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1", Reach::Host),
            ("169.254.0.1 169.254.255.255 fe80::1 febf::1 ::ffff:169.254.1.1", Reach::Link),
            (
                "10.0.0.1 100.64.0.1 100.127.255.255 172.16.0.1 172.31.255.255 192.168.1.1 198.18.0.1 198.19.255.255",
                Reach::Site,
            ),
            ("192.0.0.1 192.0.0.7 fc00::1 fdff::1 fec0::1 2001:2::1 ::ffff:10.0.0.1", Reach::Site),
            ("192.0.2.1 198.51.100.1 203.0.113.255 2001:db8::1 2001:db8:ffff::1 3fff::1 3fff:fff::1", Reach::Example),
            ("2002:cb00:7101::1 64:ff9b::192.0.2.1", Reach::Example),
            (
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.0.3.1 198.17.0.1",
                Reach::Everywhere,
            ),
            ("198.20.0.1 198.51.99.1 203.0.112.1 203.0.114.1 192.88.98.1 223.255.255.255", Reach::Everywhere),
            // Anycast, AMT and AS112, which the registries call globally reachable.
            ("192.0.0.9 192.0.0.10 192.31.196.1 192.52.193.1 192.175.48.1", Reach::Everywhere),
            (
                "2001:1::1 2001:1::2 2001:1::3 2001:3::1 2001:4:112::1 2001:20::1 2001:3f::1 2620:4f:8000::1",
                Reach::Everywhere,
            ),
            (
                "2000::1 2001:200::1 2600::1 2001:db7::1 2001:db9::1 3fff:1000::1 3ffe::1 200::1 3ff::1",
                Reach::Everywhere,
            ),
            ("64:ff9b::8.8.8.8 2002:808:808::1 2001:0:808:808:0:0:f7f7:f7f7 ::ffff:8.8.8.8", Reach::Everywhere),
            (
                "0.0.0.0 0.1.2.3 192.0.0.8 192.0.0.170 192.0.0.255 192.88.99.1 224.0.0.1 240.0.0.1 255.255.255.255",
                Reach::Nowhere,
            ),
            (":: ::2 ::8.8.8.8 ::10.0.0.1 ::ffff:0:10.0.0.1 ::ffff:0:8.8.8.8 ::fffe:8.8.8.8", Reach::Nowhere),
            (
                "64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::8.8.8.8 64:ff9b:1::10.0.0.1 64:ff9b:0:1::8.8.8.8",
                Reach::Nowhere,
            ),
            ("2002:a00:1::1 2002:7f00:1::1 2002:a9fe:101::1 2002:6440:1::1 2002:e000:1::", Reach::Nowhere),
            ("2001:0:808:808:0:0:f5ff:fffe 2001:0:a00:1:0:0:f7f7:f7f7 2001:0:808:808::", Reach::Nowhere),
            ("2001:1::4 2001:4:113::1 2001:10::1 2001:1f::1 2001:40::1 2001:1ff::1 2001:2:1::1", Reach::Nowhere),
            ("100::1 100:0:0:1::1 5f00::1 4000::1 ff02::1 ff0e::1 400::1 1fff::1 e000::1 fe00::1", Reach::Nowhere),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_an_address_is_called_twice_it_is_once(ip: [u8; 16]) {
            let ip = IpAddr::from(ip);
            prop_assert_eq!(is_public(ip), Reach::of(ip) == Reach::Everywhere);
            // An address from which claims count is on this host, on a link or in a private network.
            prop_assert!(!is_local(ip) || matches!(Reach::of(ip), Reach::Host | Reach::Link | Reach::Site));
        }

        #[test]
        fn the_addresses_of_a_subnet_are_of_one_kind(
            v4 in prop_oneof![
                any::<[u8; 3]>(),
                proptest::sample::select(vec![[192, 0, 0], [192, 0, 2], [192, 88, 99], [0; 3]]),
            ],
            v4_hosts: [u8; 2],
            v6 in prop_oneof![
                any::<[u16; 4]>(),
                proptest::sample::select(vec![
                    [0; 4], [0x64, 0xff9b, 0, 0], [0x2001, 0, 0x808, 0x808], [0x2001, 1, 0, 0], [0x2001, 2, 0, 0],
                    [0x2001, 4, 0x112, 0], [0x2002, 0x808, 0x808, 0], [0xfe80, 0, 0, 0], [0xfd00, 0, 0, 0],
                ]),
            ],
            v6_host: [u16; 4],
            low in 0..8_u16,
        ) {
            let [a, b, c] = v4;
            let v4 = v4_hosts.map(|host| IpAddr::from([a, b, c, host]));
            // Some kinds are only at the beginning of a subnet.
            let v6 = [v6_host, [0, 0, 0, low]].map(|[e, f, g, h]| {
                let [a, b, c, d] = v6;
                IpAddr::from([a, b, c, d, e, f, g, h])
            });
            for [one, other] in [v4, v6] {
                let of_all = Reach::of_subnet(one);
                prop_assert_eq!(of_all, Reach::of_subnet(other));
                prop_assert!(of_all.is_none_or(|reach| reach == Reach::of(other)), "{} {}", one, other);
            }
        }

        #[test]
        fn a_mapped_address_is_the_ipv4_one(ip: [u8; 4]) {
            let ip = Ipv4Addr::from(ip);
            prop_assert_eq!(Reach::of(ip.into()), Reach::of(ip.to_ipv6_mapped().into()));
            prop_assert!(Reach::of(ip.to_ipv6_compatible().into()) == Reach::Nowhere || ip == Ipv4Addr::new(0, 0, 0, 1));
        }
    }
}
