//! Networks and addresses as people write them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::topology::ExternalAddress;

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotANetwork {
    /// The text is something else.
    Other,
    /// An IPv4 network written as IPv6, with so short a prefix that it would cover more than IPv4 addresses.
    MappedTooWide,
}

/// Parses a network such as `10.0.0.0/8`, or one address. Bits beyond the prefix are ignored. An IPv4 network written
/// as IPv6 becomes an IPv4 network.
pub(super) fn network(text: &str) -> Result<IpNet, NotANetwork> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| NotANetwork::Other)?;
    let network = match (network.addr().to_canonical(), network) {
        (IpAddr::V4(ip), IpNet::V6(mapped)) => {
            let prefix = mapped.prefix_len().checked_sub(96).ok_or(NotANetwork::MappedTooWide)?;
            IpNet::new(ip.into(), prefix).map_err(|_| NotANetwork::Other)?
        }
        (_, network) => network,
    };
    Ok(network.trunc())
}

/// Returns the external address made of these addresses. `None` if two are of one family.
pub(super) fn one_per_family(addresses: impl IntoIterator<Item = IpAddr>) -> Option<ExternalAddress> {
    let mut external = ExternalAddress::default();
    for ip in addresses {
        let is_second = match ip {
            IpAddr::V4(ip) => external.v4.replace(ip).is_some(),
            IpAddr::V6(ip) => external.v6.replace(ip).is_some(),
        };
        if is_second {
            return None;
        }
    }
    Some(external)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_either_family() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::1/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:7f00:0/104", "127.0.0.0/8"),
            ("::FFFF:10.1.2.3/112", "10.1.0.0/16"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in ["::ffff:10.0.0.0/95", "::ffff:10.0.0.0/8", "::ffff:0:0/0"] {
            assert_eq!(network(text), Err(NotANetwork::MappedTooWide), "{text}");
        }
        for text in ["", "10.0.0.0/33", "::ffff:10.0.0.0/129", "10.0.0", "a", "10.0.0.0/-1", "fd00::/8/8"] {
            assert_eq!(network(text), Err(NotANetwork::Other), "{text}");
        }
    }
}
