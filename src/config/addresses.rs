//! The settings that decide whose address is whose.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::ConfigError;
use super::args::Args;
use super::setting::Setting;
use super::zones;
use crate::bittorrent::address::Reach;
use crate::bittorrent::{ExternalAddress, Views};
use crate::frontend::client_address::{ClientAddressOptions, Proxies, RealIpHeader};
use crate::frontend::listen::{Listen, ListenAddr};
use crate::tracker::IpParam;

/// `-x`, `--trusted-proxies` and `--real-ip-header` together.
pub(super) fn client_address(
    args: &Args,
    env: &impl Fn(&str) -> Option<OsString>,
    x_real_ip: bool,
    listen: &[Listen],
) -> Result<ClientAddressOptions, ConfigError> {
    let trusted = Setting { flag: "--trusted-proxies", variable: "TRUSTED_PROXIES" }
        .value(args.trusted_proxies.as_deref(), env)
        .parse("addresses and networks such as 127.0.0.1,10.0.0.0/8,fd00::/8", |text| {
            text.split(',').map(|part| network(part.trim())).collect::<Option<Vec<_>>>()
        })?;
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
pub(super) fn views(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Result<Views, ConfigError> {
    let external = Setting { flag: "--external-address", variable: "EXTERNAL_ADDRESS" }
        .value(args.external_address.as_deref(), env)
        .parse("a public address, or one of IPv4 and one of IPv6, such as 203.0.113.1,2001:db8::1", external_address)?;
    let file = Setting { flag: "--zones", variable: "ZONES_FILE" }.value(args.zones.as_deref(), env);
    let zones = match &file.text {
        Some(path) => zones::read(file.setting, Path::new(path))?,
        None => Vec::new(),
    };
    Ok(Views::new(&zones, external.unwrap_or_default()))
}

/// What the world is told must be an address that leads here from everywhere.
fn external_address(text: &str) -> Option<ExternalAddress> {
    let address = |text: &str| text.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let is_public = |ip: &IpAddr| Reach::of(*ip) == Reach::Everywhere;
    let addresses = text.split(',').map(|part| address(part).filter(is_public)).collect::<Option<Vec<_>>>()?;
    zones::one_per_family(addresses)
}

/// `10.0.0.0/8`, or an address alone. What a network's address has beyond its prefix means nothing.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(|ip| ip.to_canonical().into()));
    network.map(|network| network.trunc()).ok()
}
