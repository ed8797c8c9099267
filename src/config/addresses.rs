//! The settings that decide whose address is whose.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::ConfigError;
use super::args::Args;
use super::setting::{Setting, Value, items};
use super::zones;
use crate::frontend::client_address::{ClientAddressOptions, Proxies, RealIpHeader};
use crate::frontend::listen::{Listen, ListenAddr};
use crate::topology::IpParam;
use crate::topology::reach::is_outside;
use crate::topology::{ExternalAddress, Topology};

/// `-x`, `--trusted-proxies` and `--real-ip-header` together.
pub(super) fn client_address(
    args: &Args,
    env: &impl Fn(&str) -> Option<OsString>,
    x_real_ip: bool,
    listen: &[Listen],
) -> Result<ClientAddressOptions, ConfigError> {
    let trusted = Setting { flag: "--trusted-proxies", variable: "TRUSTED_PROXIES" };
    let trusted = networks(&trusted.value(args.trusted_proxies.as_deref(), env))?;
    let value =
        Setting { flag: "--real-ip-header", variable: "REAL_IP_HEADER" }.value(args.real_ip_header.as_deref(), env);
    let header = value.parse("the name of a header such as X-Forwarded-For", RealIpHeader::new)?;
    let is_believed = trusted.is_some()
        || (!x_real_ip && listen.iter().any(|address| matches!(address.address, ListenAddr::Unix(_))));
    if header.is_some() && !is_believed {
        return Err(value.invalid("--trusted-proxies (TRUSTED_PROXIES) beside it, to say whose headers are believed"));
    }
    // `-x` alone is what it is with the Go retracker.
    Ok(match (trusted, x_real_ip) {
        // With both, `-x` says which header it is.
        (Some(networks), _) => ClientAddressOptions {
            proxies: Proxies::At(networks),
            header: header.or_else(|| x_real_ip.then(RealIpHeader::x_real_ip)),
        },
        (None, true) => ClientAddressOptions { proxies: Proxies::Anyone, header: Some(RealIpHeader::x_real_ip()) },
        (None, false) => ClientAddressOptions { proxies: Proxies::default(), header },
    })
}

pub(super) fn ip_param(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Result<IpParam, ConfigError> {
    let value = Setting { flag: "--ip-param", variable: "IP_PARAM" }.value(args.ip_param.as_deref(), env);
    let whose = value.parse("never, private or always", |text| text.to_ascii_lowercase().parse().ok())?;
    Ok(whose.unwrap_or_default())
}

/// `--zones` and `--external-address` together.
pub(super) fn topology(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Result<Topology, ConfigError> {
    let external = Setting { flag: "--external-address", variable: "EXTERNAL_ADDRESS" }
        .value(args.external_address.as_deref(), env)
        .parse("a public address, or one of IPv4 and one of IPv6, such as 203.0.113.1,2001:db8::1", external_address)?;
    let file = Setting { flag: "--zones", variable: "ZONES_FILE" }.value(args.zones.as_deref(), env);
    let zones = match &file.text {
        Some(path) => zones::read(file.setting, Path::new(path))?,
        None => Vec::new(),
    };
    Ok(Topology::new(&zones, external.unwrap_or_default()))
}

/// What the world is told must be an address that leads here from everywhere.
fn external_address(text: &str) -> Option<ExternalAddress> {
    let address = |text: &str| text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let addresses = items(text)?.map(|item| address(item).filter(|&ip| is_outside(ip))).collect::<Option<Vec<_>>>()?;
    zones::one_per_family(addresses)
}

/// A comma-separated list of networks.
fn networks(value: &Value) -> Result<Option<Vec<IpNet>>, ConfigError> {
    let Some(text) = &value.text else { return Ok(None) };
    let networks = items(text).ok_or(NotANetwork::Other).and_then(|items| items.map(network).collect());
    networks.map(Some).map_err(|wrong| {
        value.invalid(match wrong {
            NotANetwork::Other => "addresses and networks such as 127.0.0.1,10.0.0.0/8,fd00::/8",
            NotANetwork::MappedTooWide => {
                "networks of IPv4 that are written as IPv6 to have a prefix of 96 or more, such as ::ffff:10.0.0.0/104; \
                 better 10.0.0.0/8"
            }
        })
    })
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotANetwork {
    /// It is something else.
    Other,
    /// It begins as an IPv4 address that is written as IPv6, but is wider than all of IPv4.
    MappedTooWide,
}

/// `10.0.0.0/8`, or an address alone. What a network's address has beyond its prefix means nothing. A network of IPv4 that
/// is written as IPv6 is one of IPv4, as addresses are.
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
