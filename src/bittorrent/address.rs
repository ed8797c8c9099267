//! Which networks an address belongs to, as far as a tracker must know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address means the same host to others as to us. Loopback does to the clients of one host, which are
/// told apart later.
pub fn tellable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let this_network = ip.octets().first() == Some(&0);
            !(this_network || ip.is_multicast() || ip.is_link_local() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

/// Whether an address belongs to this host or to a network of its owner's: loopback, RFC 1918, link-local, ULA.
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// From where a host can be reached by an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From nowhere: the address means nothing to others, see [`tellable`].
    Nowhere,
    /// From the same host: loopback.
    Host,
    /// From the networks of its owner: private addresses of both families, CGNAT (RFC 6598) among them, and what is no
    /// one's on the internet.
    Site,
    /// From everywhere.
    Everywhere,
}

impl Reach {
    /// That of a canonical address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_loopback() {
            Self::Host
        } else if !tellable(ip) {
            Self::Nowhere
        } else if is_public(ip) {
            Self::Everywhere
        } else {
            Self::Site
        }
    }
}

/// Whether an address is one that anybody may be sent to by a stranger's redirect: no one's private network, not this
/// host, not a link, not a group, nor an IPv6 way of writing such an IPv4 address.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        // This network, RFC 1918, loopback, multicast and reserved.
        [0 | 10 | 127 | 224.., ..] |
        // CGNAT (RFC 6598).
        [100, 64..=127, ..] |
        [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] |
        // Protocol assignments and benchmarks (RFC 6890).
        [192, 0, 0, _] | [198, 18..=19, ..] => false,
        _ => true,
    }
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4-compatible, with unspecified and loopback among them; mapped; NAT64 (RFC 6052); 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // Local NAT64 (RFC 8215); ULA, link-local and the site-local before it, multicast.
        [0x64, 0xff9b, 1, ..] | [0xfc00..=0xffff, ..] => false,
        _ => true,
    }
}
