//! The arguments of `retracker dns`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ::settings::values::{items, value};
use ::settings::{Flag, InvalidValue, Origin, Sources, Wrong};
use clap::{Arg, ArgAction, ArgMatches, Command};
use ipnet::IpNet;

use super::error::ConfigError;
use super::values::networks;

/// What the records of `retracker dns` are about.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// The tracker's name.
    pub name: DnsName,
    /// The tracker's addresses: at least one, and no address twice.
    pub addresses: Vec<IpAddr>,
    /// The domain that contains the names of the clients.
    pub domain: DnsName,
    /// Networks of clients whose addresses have no reverse names yet.
    pub clients: Vec<ReverseZone>,
    /// The port of HTTP.
    pub http_port: NonZeroU16,
    /// The port of UDP, if the tracker serves UDP clients.
    pub udp_port: Option<NonZeroU16>,
}

/// A domain name in the syntax of host names, in lower case, without the dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName(String);

impl DnsName {
    /// Parses a name (RFC 1123, section 2.1): labels of letters, digits and hyphens, with no hyphen at either end. The
    /// last label is not a number, because only addresses end with a number.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let ends_in_number =
            name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        // A name has at most 253 characters. SRV records put the 25 of "_bittorrent-tracker._tcp." before the domain.
        if name.len() > 253 - 25 || !name.split('.').all(is_label) || ends_in_number {
            return Err(Wrong::Value);
        }
        Ok(Self(name))
    }

    /// Returns the name without its first label; `None` if there is only one label.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, parent)| Self(parent.to_owned()))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network with a reverse zone of its own: its prefix ends with a label of the reverse name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReverseZone(IpNet);

impl ReverseZone {
    /// Parses networks, separated by commas.
    pub(super) fn list(text: &str) -> Result<Vec<Self>, Wrong> {
        let zone = |network: IpNet| {
            let bits_of_label = match network {
                IpNet::V4(_) => 8,
                IpNet::V6(_) => 4,
            };
            let length = network.prefix_len();
            if length == 0 || !length.is_multiple_of(bits_of_label) { Err(Wrong::Value) } else { Ok(Self(network)) }
        };
        networks(text)?.into_iter().map(zone).collect()
    }

    /// Returns the network.
    pub fn network(self) -> IpNet {
        self.0
    }
}

/// The name of the command.
pub(super) const DNS: &str = "dns";

const NAME: Flag = Flag::long("name");
const ADDRESS: Flag = Flag::long("address");
const HTTP_PORT: Flag = Flag::long("http-port");
const UDP_PORT: Flag = Flag::long("udp-port");
const DOMAIN: Flag = Flag::long("domain");
const CLIENTS: Flag = Flag::long("clients");

/// Returns the command with its arguments. As with settings, values remain texts.
pub(super) fn command() -> Command {
    let argument = |flag: Flag, value: &'static str| Arg::new(flag.long).long(flag.long).value_name(value);
    Command::new(DNS)
        .about(
            "Print DNS records with which clients find the tracker, for dnsmasq, unbound and BIND: its name, its ports (BEP 34), \
             and the tracker of a provider's clients (BEP 22)",
        )
        .arg(
            argument(NAME, "NAME")
                .required(true)
                .help("The tracker's name, with its domain, such as retracker.lan"),
        )
        .arg(
            argument(ADDRESS, "IP")
                .required(true)
                .action(ArgAction::Append)
                .help("An address of the tracker, IPv4 or IPv6. The flag may be repeated"),
        )
        .arg(
            argument(HTTP_PORT, "PORT")
                .allow_hyphen_values(true)
                .help("The port at which clients reach the tracker over HTTP\n[default: 80, the default of --listen]"),
        )
        .arg(
            argument(UDP_PORT, "PORT")
                .allow_hyphen_values(true)
                .help("The port of --udp-listen\n[default: none, the tracker does not serve UDP clients]"),
        )
        .arg(
            argument(DOMAIN, "NAME")
                .help("The domain of the clients' host names\n[default: the tracker's name without its first label]"),
        )
        .arg(argument(CLIENTS, "NETWORK").action(ArgAction::Append).help(
            "Give the addresses of this network reverse names in the domain of --domain, if they have no reverse names yet. The \
             flag may be repeated\n[default: none, the clients' addresses have reverse names]",
        ))
}

/// Reads the arguments of the command.
pub(super) fn options(matches: &ArgMatches, sources: &Sources<'_>) -> Result<DnsOptions, ConfigError> {
    let sources = Sources { flags: matches, env: sources.env };
    let expected = "a host name with a domain, such as retracker.lan";
    let name = required(&sources, NAME, expected, DnsName::parse)?;
    let Some(parent) = name.parent() else {
        return Err(wrong(NAME, name.to_string(), expected));
    };
    let port = "a port, 1 to 65535";
    Ok(DnsOptions {
        addresses: required(&sources, ADDRESS, "addresses of the tracker, such as 192.168.1.5 or fd00::5", addresses)?,
        domain: given(&sources, DOMAIN, "a domain, such as lan or example.net", DnsName::parse)?.unwrap_or(parent),
        clients: given(
            &sources,
            CLIENTS,
            "networks with a prefix of 8, 16, 24 or 32 such as 192.168.1.0/24, or over IPv6 of a multiple of 4 such as \
             fd00::/64",
            ReverseZone::list,
        )?
        .unwrap_or_default(),
        http_port: given(&sources, HTTP_PORT, port, value)?.unwrap_or(HTTP),
        udp_port: given(&sources, UDP_PORT, port, value)?,
        name,
    })
}

/// The port of the default listener, and of an announce URL without a port.
const HTTP: NonZeroU16 = NonZeroU16::MIN.saturating_add(79);

fn addresses(text: &str) -> Result<Vec<IpAddr>, Wrong> {
    let mut addresses = Vec::new();
    for item in items(text)? {
        let ip = value::<IpAddr>(item)?.to_canonical();
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(Wrong::Value);
        }
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    Ok(addresses)
}

fn given<T>(
    sources: &Sources<'_>,
    flag: Flag,
    expected: &'static str,
    parse: fn(&str) -> Result<T, Wrong>,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = sources.flag(flag) else { return Ok(None) };
    parse(&text).map(Some).map_err(|_| wrong(flag, text, expected))
}

/// Reads a required flag as [`given`] does. A missing flag is an error like an empty value.
fn required<T>(
    sources: &Sources<'_>,
    flag: Flag,
    expected: &'static str,
    parse: fn(&str) -> Result<T, Wrong>,
) -> Result<T, ConfigError> {
    given(sources, flag, expected, parse)?.ok_or_else(|| wrong(flag, String::new(), expected))
}

fn wrong(flag: Flag, found: String, expected: &'static str) -> ConfigError {
    InvalidValue { origin: Origin::Flag(flag), found, expected }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(36));
        for (text, expected) in [
            ("retracker.lan", "retracker.lan"),
            ("Retracker.LAN.", "retracker.lan"),
            ("lan", "lan"),
            ("4.example", "4.example"),
            ("xn--80ak6aa92e.com", "xn--80ak6aa92e.com"),
            (&longest, &longest),
        ] {
            assert_eq!(DnsName::parse(text).unwrap().to_string(), expected);
        }
        let long_label = format!("{}.lan", "a".repeat(64));
        for text in [
            "",
            ".",
            "..",
            "a..lan",
            ".lan",
            "a b.lan",
            "a_b.lan",
            "-a.lan",
            "a-.lan",
            "*.lan",
            "192.168.1.5",
            "fd00::5",
            "a.lan:80",
            "http://a.lan",
            "a.lan\nb.lan",
            "a\".lan",
            "\u{e9}.lan",
            &long_label,
            &format!("{longest}b"),
        ] {
            assert_eq!(DnsName::parse(text), Err(Wrong::Value), "{text}");
        }
    }

    #[test]
    fn networks_that_end_at_a_label() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::/64", "fd00::/64"),
            ("fd00::/60", "fd00::/60"),
        ] {
            assert_eq!(ReverseZone::list(text).unwrap()[0].network().to_string(), expected);
        }
        for text in ["", "0.0.0.0/0", "::/0", "10.0.0.0/12", "10.0.0.0/33", "fd00::/63", "lan"] {
            assert_eq!(ReverseZone::list(text), Err(Wrong::Value), "{text}");
        }
    }

    #[test]
    fn addresses_of_hosts() {
        let parsed = addresses("fd00::5, 192.168.1.5,::ffff:192.168.1.5,").unwrap();
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fd00::5", "192.168.1.5"]);
        for text in
            ["", ",", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "192.168.1", "192.168.1.5:80", "fe80::1%eth0", "lan"]
        {
            assert_eq!(addresses(text), Err(Wrong::Value), "{text}");
        }
    }
}
