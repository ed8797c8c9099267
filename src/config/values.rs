//! Parses the texts of settings.

use std::net::IpAddr;

use ::settings::Wrong;
use ::settings::values::{items, value};
use ipnet::IpNet;

use super::networks::{NotANetwork, network, one_per_family};
use crate::frontend::listen::{Listen, NotAListenAddr};
use crate::topology::ExternalAddress;
use crate::topology::reach::is_outside;

/// Parses addresses to listen on.
pub(super) fn listen(text: &str) -> Result<Vec<Listen>, Wrong> {
    let wrong = |wrong| match wrong {
        NotAListenAddr::Other => Wrong::Value,
        NotAListenAddr::NotOverTls => Wrong::Expected(
            "tls:// before an address of TCP alone, such as tls://:443: a Unix socket does not leave this host, and a proxy \
             in front ends TLS itself",
        ),
    };
    items(text)?.map(|item| item.parse().map_err(wrong)).collect()
}

/// Parses addresses to listen on, or `none`.
pub(super) fn listen_or_none(text: &str) -> Result<Vec<Listen>, Wrong> {
    if text == "none" { Ok(Vec::new()) } else { listen(text) }
}

/// Parses a list of networks.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, Wrong> {
    let wrong = |wrong| match wrong {
        NotANetwork::Other => Wrong::Value,
        NotANetwork::MappedTooWide => Wrong::Expected(
            "a prefix of 96 or more for an IPv4 network that is written as IPv6, such as ::ffff:10.0.0.0/104; \
             better 10.0.0.0/8",
        ),
    };
    items(text)?.map(|item| network(item).map_err(wrong)).collect()
}

/// Parses at most one address of each family. No address may be private, because clients outside get these addresses.
pub(super) fn external_address(text: &str) -> Result<ExternalAddress, Wrong> {
    let outside = |ip: IpAddr| if is_outside(ip) { Ok(ip) } else { Err(Wrong::Value) };
    let addresses = items(text)?.map(|item| value(item).map(|ip: IpAddr| ip.to_canonical()).and_then(outside));
    one_per_family(addresses.collect::<Result<Vec<_>, _>>()?).ok_or(Wrong::Value)
}
