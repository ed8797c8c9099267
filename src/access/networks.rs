//! A set of networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A set of networks. A look-up takes a binary search.
#[derive(Debug, Default)]
pub struct NetworkSet {
    /// The networks of IPv4, disjoint and in ascending order.
    v4: Vec<Ipv4Net>,
    /// The networks of IPv6, disjoint and in ascending order.
    v6: Vec<Ipv6Net>,
}

impl NetworkSet {
    /// Returns whether one of the networks has this address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                let behind = self.v4.partition_point(|network| network.network() <= ip);
                self.v4.get(..behind).and_then(<[_]>::last).is_some_and(|network| network.contains(&ip))
            }
            IpAddr::V6(ip) => {
                let behind = self.v6.partition_point(|network| network.network() <= ip);
                self.v6.get(..behind).and_then(<[_]>::last).is_some_and(|network| network.contains(&ip))
            }
        }
    }
}

impl FromIterator<IpNet> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        let (mut v4, mut v6) = (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6));
        v4.sort_unstable();
        v6.sort_unstable();
        Self { v4, v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<u32>(), 0_u8..=32).prop_map(|(ip, prefix)| IpNet::new(IpAddr::V4(ip.into()), prefix).unwrap()),
            (any::<u128>(), 0_u8..=128).prop_map(|(ip, prefix)| IpNet::new(IpAddr::V6(ip.into()), prefix).unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn it_has_the_addresses_that_one_of_its_networks_has(
            networks in prop::collection::vec(network(), 0..40),
            v4 in any::<u32>(),
            v6 in any::<u128>(),
        ) {
            let set: NetworkSet = networks.iter().copied().collect();
            let ends = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            for ip in ends.chain([IpAddr::V4(v4.into()), IpAddr::V6(v6.into())]) {
                prop_assert_eq!(set.contains(ip), networks.iter().any(|network| network.contains(&ip)), "{}", ip);
            }
        }
    }
}
