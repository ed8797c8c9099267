//! Parses the texts of settings.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::networks::{NotANetwork, network, one_per_family};
use super::setting::Wrong;
use crate::frontend::listen::{Listen, NotAListenAddr};
use crate::topology::ExternalAddress;
use crate::topology::reach::is_outside;

/// Parses a value of a type that implements [`FromStr`].
pub(super) fn value<T: FromStr>(text: &str) -> Result<T, Wrong> {
    text.parse().map_err(|_| Wrong::Value)
}

/// The words that [`switch`] accepts.
pub(super) const SWITCH: &str = "true or false (also 1/0, yes/no, on/off)";

/// Parses `true`, `false` and their synonyms.
pub(super) fn switch(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Wrong::Value),
    }
}

/// Parses a whole number within a range.
pub(super) fn whole<T: FromStr + PartialOrd>(text: &str, range: &RangeInclusive<T>) -> Result<T, Wrong> {
    value(text).and_then(|number| if range.contains(&number) { Ok(number) } else { Err(Wrong::Value) })
}

/// Parses a duration in this unit, minutes or seconds. The number may have a fraction.
pub(super) fn duration(text: &str, unit: Duration, most: f64) -> Result<Duration, Wrong> {
    // A number below a ten-thousandth of the unit is probably a mistake.
    let units = value(text).ok().filter(|units| (0.000_1..=most).contains(units)).ok_or(Wrong::Value)?;
    Ok(Duration::from_secs_f64(units * unit.as_secs_f64()))
}

/// Values separated by commas, at least one.
pub(super) fn list<T: FromStr>(text: &str) -> Result<Vec<T>, Wrong> {
    items(text)?.map(value).collect()
}

/// Addresses to listen on.
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

/// Addresses to listen on, or `none`.
pub(super) fn listen_or_none(text: &str) -> Result<Vec<Listen>, Wrong> {
    if text == "none" { Ok(Vec::new()) } else { listen(text) }
}

/// A list of networks.
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

/// Parses at most one address of each family. Clients outside get these addresses, so none may be private.
pub(super) fn external_address(text: &str) -> Result<ExternalAddress, Wrong> {
    let outside = |ip: IpAddr| if is_outside(ip) { Ok(ip) } else { Err(Wrong::Value) };
    let addresses = items(text)?.map(|item| value(item).map(|ip: IpAddr| ip.to_canonical()).and_then(outside));
    one_per_family(addresses.collect::<Result<Vec<_>, _>>()?).ok_or(Wrong::Value)
}

/// Splits a text at its commas. Superfluous commas, such as one at the end, are ignored.
pub(super) fn items(text: &str) -> Result<impl Iterator<Item = &str>, Wrong> {
    let mut items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).peekable();
    if items.peek().is_some() { Ok(items) } else { Err(Wrong::Value) }
}
