//! `zones.yml`: a list of zones, each with its networks and, behind a NAT, its external address.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use ::settings::Origin;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::error::ConfigError;
use super::networks::{self, NotANetwork, one_per_family};
use super::settings::ZONES;
use super::yaml::{self, Fields, Mapping, Problem, Text};
use crate::topology::reach::{Reach, is_connectable};
use crate::topology::{Zone, ZoneId};

/// Reads and checks the file.
pub(super) fn read(origin: Origin, path: &Path) -> Result<Vec<Zone>, ConfigError> {
    yaml::read(origin, path, ZONES.expected, parse)
}

fn parse(text: &str) -> Result<Vec<Zone>, Problem> {
    let entries = yaml::parse::<Vec<Mapping<ZoneEntry>>>(text)?.unwrap_or_default();
    let zones: Vec<_> = entries.into_iter().map(|Mapping(zone)| zone).collect();
    let wrong = |entry, problem| Err(Problem { line: yaml::line_of(text, "", entry), problem });
    if zones.len() > ZoneId::MOST {
        let problem = format!("there are {} zones, expected at most {}", zones.len(), ZoneId::MOST);
        return wrong(ZoneId::MOST, problem);
    }
    let mut names = HashSet::new();
    match zones.iter().position(|zone| !names.insert(&zone.name)) {
        Some(second) => {
            let name = zones.get(second).map_or("", |zone| &zone.name).escape_default();
            wrong(second, format!("there is a zone \"{name}\" already, expected a different name for each"))
        }
        None => Ok(zones),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ZoneEntry {
    #[serde(deserialize_with = "name")]
    name: String,
    networks: Vec<Network>,
    #[serde(default)]
    external_address: Option<Vec<Address>>,
}

#[derive(Debug, Deserialize)]
struct Network(#[serde(deserialize_with = "network")] IpNet);

#[derive(Debug, Deserialize)]
struct Address(#[serde(deserialize_with = "address")] IpAddr);

impl Fields for ZoneEntry {
    type Checked = Zone;
    const EXPECTED: &'static str = "a zone such as `- name: office` with `networks: [192.168.1.0/24]`";

    fn check(self) -> Result<Zone, String> {
        let Self { name, networks, external_address } = self;
        if networks.is_empty() {
            return Err("it has no networks, expected a list such as [192.168.1.0/24]".to_owned());
        }
        let addresses = external_address.unwrap_or_default().into_iter().map(|Address(ip)| ip);
        let external = one_per_family(addresses)
            .ok_or("its external-address has two of one family, expected one of IPv4 and one of IPv6 at most")?;
        Ok(Zone { name, networks: networks.into_iter().map(|Network(network)| network).collect(), external })
    }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        let is_name = (1..=64).contains(&text.len()) && !text.contains(char::is_control);
        let wrong = || format!("name is \"{}\", expected 1 to 64 characters such as office", text.escape_default());
        is_name.then(|| text.to_owned()).ok_or_else(wrong)
    }))
}

fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        networks::network(text).map_err(|wrong| {
            let expected = match wrong {
                NotANetwork::Other => "one such as 192.168.1.0/24 or fd00:1::/32",
                NotANetwork::MappedTooWide => "a prefix of 96 or more for an IPv4 network that is written as IPv6",
            };
            format!("the network is \"{}\", expected {expected}", text.escape_default())
        })
    }))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        // The external address may be private, because other zones may reach a private address. But clients must be
        // able to connect to it.
        let leads_there = |ip: &IpAddr| is_connectable(*ip) && Reach::of(*ip) != Reach::Host;
        let wrong =
            || format!("external-address is \"{}\", expected an address such as 203.0.113.1", text.escape_default());
        text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()).filter(leads_there).ok_or_else(wrong)
    }))
}

#[cfg(test)]
mod tests;
