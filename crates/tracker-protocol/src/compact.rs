//! Compact peer lists: 4 or 16 bytes of address and 2 of port, in network order (BEP 23, BEP 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use crate::{Ip, Peer};

/// Bytes of an IPv4 peer in a compact list.
pub const V4: usize = 6;
/// Bytes of an IPv6 peer in a compact list.
pub const V6: usize = 18;

/// An address that can be written in network order.
pub trait CompactIp: Ip {
    /// Appends the address and the port, both in network order.
    fn put(self, port: [u8; 2], out: &mut Vec<u8>);
}

impl CompactIp for Ipv4Addr {
    fn put(self, [high, low]: [u8; 2], out: &mut Vec<u8>) {
        let [a, b, c, d] = self.octets();
        out.extend_from_slice(&[a, b, c, d, high, low]);
    }
}

impl CompactIp for Ipv6Addr {
    fn put(self, port: [u8; 2], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets());
        out.extend_from_slice(&port);
    }
}

/// Appends the peers, without a length.
pub fn encode<A: CompactIp>(peers: &[Peer<A>], out: &mut Vec<u8>) {
    for peer in peers {
        peer.endpoint.ip.put(peer.endpoint.port.get().to_be_bytes(), out);
    }
}

/// Returns the IPv4 peers in a list. Skips entries with port 0, and a tail that is shorter than an entry.
pub fn decode_v4(list: &[u8]) -> impl Iterator<Item = (IpAddr, NonZeroU16)> {
    list.as_chunks::<V4>().0.iter().filter_map(|&[a, b, c, d, high, low]| {
        Some((Ipv4Addr::new(a, b, c, d).into(), NonZeroU16::new(u16::from_be_bytes([high, low]))?))
    })
}

/// Returns the IPv6 peers in a list. Skips entries with port 0, and a tail that is shorter than an entry.
pub fn decode_v6(list: &[u8]) -> impl Iterator<Item = (IpAddr, NonZeroU16)> {
    list.as_chunks::<V6>().0.iter().filter_map(|entry| {
        let (ip, port) = entry.split_first_chunk::<16>()?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some((Ipv6Addr::from_octets(*ip).into(), NonZeroU16::new(port)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerLists;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_round_trip(
            v4 in proptest::collection::vec((any::<Ipv4Addr>(), any::<NonZeroU16>()), 0..50),
            v6 in proptest::collection::vec((any::<Ipv6Addr>(), any::<NonZeroU16>()), 0..50),
            tail in 0..V4,
        ) {
            let mut peers = PeerLists::default();
            v4.iter().for_each(|&(ip, port)| peers.push(ip.into(), port, None));
            let mut bytes = Vec::new();
            encode(&peers.v4, &mut bytes);
            prop_assert_eq!(bytes.len(), V4 * v4.len());
            bytes.extend(vec![1; tail]);
            let expected: Vec<_> = v4.iter().map(|&(ip, port)| (IpAddr::from(ip), port)).collect();
            prop_assert_eq!(decode_v4(&bytes).collect::<Vec<_>>(), expected);

            let mut peers = PeerLists::default();
            let expected: Vec<_> = v6.iter().filter(|(ip, _)| ip.to_ipv4_mapped().is_none())
                .map(|&(ip, port)| (IpAddr::from(ip), port)).collect();
            expected.iter().for_each(|&(ip, port)| peers.push(ip, port, None));
            let mut bytes = Vec::new();
            encode(&peers.v6, &mut bytes);
            prop_assert_eq!(bytes.len(), V6 * expected.len());
            bytes.extend(vec![1; tail]);
            prop_assert_eq!(decode_v6(&bytes).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn an_entry_with_port_zero_is_skipped() {
        assert_eq!(decode_v4(&[1, 2, 3, 4, 0, 0]).count(), 0);
        assert_eq!(decode_v6(&[0; 18]).count(), 0);
    }
}
