//! Every setting, declared once. The command line, the reading of variables, errors, help, manual page, completions and
//! the tests of all settings come from here; `docs/configuration.md`, `.env.example` and `docker-compose.yml` are held equal
//! to it: `UPDATE_SETTINGS=1 cargo test --test it settings` writes them anew. A new setting is one entry here, and its use in
//! [`super::read`].

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::about::{About, Section, Takes};
use super::origin::Flag;
use super::setting::{Declared, Is, Setting, Unset, Wrong};
use super::values::{duration, external_address, list, networks, switch, value, whole};
use crate::frontend::client_address::RealIpHeader;
use crate::frontend::hosts::HostName;
use crate::frontend::listen::{Listen, UdpListenAddr};
use crate::topology::{ExternalAddress, IpParam};

/// Every setting, as help and pages tell of it, in their order.
pub fn all() -> impl Iterator<Item = About> {
    ALL.iter().map(|setting| setting.about())
}

macro_rules! settings {
    ($($name:ident: $type:ty = $setting:expr;)*) => {
        $(pub(super) static $name: $type = $setting;)*
        static ALL: &[&dyn Declared] = &[$(&$name),*];
    };
}

settings! {
    LISTEN: Setting<Vec<Listen>, Is> = Setting {
        section: Section::Listening,
        flag: Some(Flag::global('l', "listen")),
        variable: "LISTEN_ADDR",
        takes: Takes::List("ADDRESS"),
        help: "Listen on these addresses: `:8080` (all addresses, IPv4 and IPv6), `127.0.0.1:8080`, `[::1]:8080` or \
               `unix:/run/retracker.sock`; for proxies that speak the [PROXY \
               protocol](reverse-proxy.md#the-proxy-protocol) `proxy+tcp://127.0.0.1:8081` or \
               `proxy+unix:/run/retracker.sock`. The flag may be repeated, the variable takes a comma-separated list.",
        details: "A name means [all of its addresses](#addresses).",
        docker: "This is the address inside the container: when you change its port, change docker-compose.yml as well.",
        default: Is(":80"),
        example: "127.0.0.1:8080,unix:/run/retracker.sock",
        expected: "addresses such as :8080, 127.0.0.1:8080, [::1]:8080, unix:/run/retracker.sock or proxy+tcp://:8081",
        parse: list,
    };

    UDP_LISTEN: Setting<Vec<UdpListenAddr>, Unset> = Setting {
        section: Section::Listening,
        flag: Some(Flag::with_short('u', "udp-listen")),
        variable: "UDP_LISTEN_ADDR",
        takes: Takes::List("ADDRESS"),
        help: "Serve [UDP](#udp) clients on these addresses as well: `:6969`, `127.0.0.1:6969` or `[::1]:6969`; for \
               proxies that speak the [PROXY protocol](reverse-proxy.md#udp-behind-a-proxy), version 2, \
               `proxy+udp://127.0.0.1:6969`. The flag may be repeated, the variable takes a comma-separated list.",
        details: "",
        docker: "`:80` is published under HOST_PORT, as LISTEN_ADDR is.",
        default: Unset("none"),
        example: ":6969,proxy+udp://127.0.0.1:6970",
        expected: "addresses such as :6969, 127.0.0.1:6969, [::1]:6969 or proxy+udp://:6969",
        parse: list,
    };

    ANNOUNCE_INTERVAL: Setting<u32, Is> = Setting {
        section: Section::Peers,
        flag: Some(Flag::with_short('i', "announce-interval")),
        variable: "ANNOUNCE_INTERVAL",
        takes: Takes::Number("SECONDS"),
        help: "Ask clients to announce again after this many seconds, 1 to 86400.",
        details: "",
        docker: "",
        default: Is("30"),
        example: "1800",
        expected: "whole seconds from 1 to 86400, such as 30",
        parse: |text| whole(text, &(1..=86_400)),
    };

    PEER_AGE: Setting<Duration, Is> = Setting {
        section: Section::Peers,
        flag: Some(Flag::with_short('a', "peer-age")),
        variable: "PEER_AGE",
        takes: Takes::Number("MINUTES"),
        help: "Drop a peer this many minutes after its latest announce.",
        details: "Fractions are allowed.",
        docker: "",
        default: Is("180"),
        example: "0.5",
        expected: "minutes above 0 and up to 525600, such as 180 or 0.5",
        parse: |text| duration(text, Duration::from_mins(1), 525_600.0),
    };

    MAX_PEERS: Setting<u64, Is> = Setting {
        section: Section::Peers,
        flag: Some(Flag::long("max-peers")),
        variable: "MAX_PEERS",
        takes: Takes::Number("NUMBER"),
        help: "Keep at most this many peers, of all torrents together.",
        details: "Beyond it the address that has the most peers loses its own first, so that a flood from one host takes \
                  nothing from others; among equals, torrents that are rarely asked for go first.",
        docker: "",
        default: Is("2000000"),
        example: "1000",
        expected: "a whole number from 1 to 1000000000, such as 2000000",
        parse: |text| whole(text, &(1..=1_000_000_000)),
    };

    X_REAL_IP: Setting<bool, Is> = Setting {
        section: Section::Clients,
        flag: Some(Flag::with_short('x', "x-real-ip")),
        variable: "X_REAL_IP",
        takes: Takes::Switch,
        help: "Take the client's address from the `X-Real-IP` header, from any sender. Use it only behind a proxy that \
               sets the header; `--trusted-proxies` is [safer](reverse-proxy.md#nginx).",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    TRUSTED_PROXIES: Setting<Vec<IpNet>, Unset> = Setting {
        section: Section::Clients,
        flag: Some(Flag::long("trusted-proxies")),
        variable: "TRUSTED_PROXIES",
        takes: Takes::Value("NETWORKS"),
        help: "Trust the client-address header of these reverse proxies: addresses and networks, comma-separated, such as \
               `127.0.0.1,172.18.0.0/16,fd00::5`.",
        details: "List proxies only: clients at these addresses [are not \
                  listed](reverse-proxy.md#clients-that-are-not-listed).",
        docker: "",
        default: Unset("none"),
        example: "10.0.0.0/8,fd00::5",
        expected: "addresses and networks such as 127.0.0.1,10.0.0.0/8,fd00::/8",
        parse: networks,
    };

    REAL_IP_HEADER: Setting<RealIpHeader, Unset> = Setting {
        section: Section::Clients,
        flag: Some(Flag::long("real-ip-header")),
        variable: "REAL_IP_HEADER",
        takes: Takes::Value("NAME"),
        help: "Read only this header of the trusted proxies, such as `X-Forwarded-For`.",
        details: "`X-Forwarded-For` and `Forwarded` are read as lists, a header of any other name holds one address.",
        docker: "",
        default: Unset("`X-Real-IP`, `X-Forwarded-For` and `Forwarded`, which must agree"),
        example: "X-Forwarded-For",
        expected: "the name of a header such as X-Forwarded-For",
        parse: |text| RealIpHeader::new(text).ok_or(Wrong::Value),
    };

    IP_PARAM: Setting<IpParam, Is> = Setting {
        section: Section::Clients,
        flag: Some(Flag::long("ip-param")),
        variable: "IP_PARAM",
        takes: Takes::Value("WHEN"),
        help: "Let a client announce another address with `ip=`: `never`, `private` (from private networks and this host) \
               or `always`.",
        details: "With `always`, any client can make others connect to an address of its choice.",
        docker: "",
        default: Is("private"),
        example: "always",
        expected: "never, private or always",
        parse: |text| value(&text.to_ascii_lowercase()),
    };

    EXTERNAL_ADDRESS: Setting<ExternalAddress, Unset> = Setting {
        section: Section::Networks,
        flag: Some(Flag::long("external-address")),
        variable: "EXTERNAL_ADDRESS",
        takes: Takes::Value("ADDRESSES"),
        help: "Give [clients outside](networks.md#clients-outside) this address for peers on private addresses. It is the \
               public address of your NAT: one of IPv4, one of IPv6 or both, comma-separated.",
        details: "",
        docker: "",
        default: Unset("none, clients outside do not get these peers"),
        example: "203.0.113.1,2001:db8::1",
        expected: "a public address, or one of IPv4 and one of IPv6, such as 203.0.113.1,2001:db8::1",
        parse: external_address,
    };

    ZONES: Setting<PathBuf, Unset> = Setting {
        section: Section::Networks,
        flag: Some(Flag::long("zones")),
        variable: "ZONES_FILE",
        takes: Takes::File,
        help: "Divide the network into the [sites](networks.md#sites) in this YAML file.",
        details: "",
        docker: "This is a path inside the container: /app/zones.yml.",
        default: Unset("none"),
        example: "- name: office\n  networks: [192.168.1.0/24]\n",
        expected: "a YAML file with a list of zones",
        parse: value,
    };

    FORWARDS: Setting<PathBuf, Unset> = Setting {
        section: Section::Forwarding,
        flag: Some(Flag::global('f', "forwards")),
        variable: "FORWARDS_FILE",
        takes: Takes::File,
        help: "Announce to the [upstream trackers](forwarding.md) in this YAML file, which SIGHUP reads again.",
        details: "",
        docker: "This is a path inside the container: /app/forwarders.yml.",
        default: Unset("none"),
        example: "- uri: http://tracker.example/announce\n",
        expected: "a YAML file with a list of forwarders",
        parse: value,
    };

    FORWARD_TIMEOUT: Setting<Duration, Is> = Setting {
        section: Section::Forwarding,
        flag: Some(Flag::with_short('t', "forward-timeout")),
        variable: "FORWARD_TIMEOUT",
        takes: Takes::Number("SECONDS"),
        help: "Let an announce wait at most this many seconds for upstream peers.",
        details: "[Few do](forwarding.md#what-a-client-gets-and-when). Fractions are allowed.",
        docker: "",
        default: Is("2"),
        example: "0.5",
        expected: "seconds above 0 and up to 60, such as 2 or 0.5",
        parse: |text| duration(text, Duration::from_secs(1), 60.0),
    };

    LOCAL_ONLY_AFTER: Setting<NonZeroU32, Unset> = Setting {
        section: Section::Forwarding,
        flag: Some(Flag::long("local-only-after")),
        variable: "LOCAL_ONLY_AFTER",
        takes: Takes::Number("SEEDS"),
        help: "Return few upstream peers once this many local seeds of a torrent exist.",
        details: "Five at most, so that the transfer stays inside.",
        docker: "",
        default: Unset("never"),
        example: "3",
        expected: "a whole number from 1 to 4294967295, such as 3",
        parse: value,
    };

    MAX_EXCHANGES: Setting<usize, Unset> = Setting {
        section: Section::Forwarding,
        flag: Some(Flag::long("max-exchanges")),
        variable: "MAX_EXCHANGES",
        takes: Takes::Number("NUMBER"),
        help: "Run at most this many exchanges with upstream trackers at once, all together; others wait until one ends.",
        details: "Each takes a file descriptor.",
        docker: "",
        default: Unset("three quarters of the file descriptors [kept for them](#limits), 3072 at most"),
        example: "100",
        expected: "a whole number from 1 to 1000000, such as 1024",
        parse: |text| whole(text, &(1..=1_000_000)),
    };

    MAX_CONNECTIONS: Setting<usize, Unset> = Setting {
        section: Section::Operation,
        flag: Some(Flag::long("max-connections")),
        variable: "MAX_CONNECTIONS",
        takes: Takes::Number("NUMBER"),
        help: "Keep at most this many connections [open](#limits); beyond it, idle ones are closed for new ones.",
        details: "",
        docker: "",
        default: Unset("what the limit of open files allows"),
        example: "1000",
        expected: CONNECTIONS,
        parse: |text| whole(text, &(1..=1_000_000_000)),
    };

    MAX_CONNECTIONS_PER_ADDRESS: Setting<usize, Unset> = Setting {
        section: Section::Operation,
        flag: Some(Flag::long("max-connections-per-address")),
        variable: "MAX_CONNECTIONS_PER_ADDRESS",
        takes: Takes::Number("NUMBER"),
        help: "Let one address, or one /64 of IPv6, have at most this many connections open. Trusted proxies have no such \
               limit.",
        details: "",
        docker: "",
        default: Unset("three quarters of `--max-connections`"),
        example: "100",
        expected: CONNECTIONS,
        parse: |text| whole(text, &(1..=1_000_000_000)),
    };

    ALLOWED_HOSTS: Setting<Vec<HostName>, Unset> = Setting {
        section: Section::Operation,
        flag: Some(Flag::long("allowed-hosts")),
        variable: "ALLOWED_HOSTS",
        takes: Takes::Value("NAMES"),
        help: "Serve `/metrics`, `/forwarders` and the front page's notices under these [host \
               names](reverse-proxy.md#host-names) as well: comma-separated, `*.example.com` for all below it, `*` for any.",
        details: "",
        docker: "",
        default: Unset("local names and addresses only"),
        example: "retracker.example.com",
        expected: "host names such as retracker.example.com,*.example.net, without ports",
        parse: list,
    };

    CHIHAYA: Setting<PathBuf, Unset> = Setting {
        section: Section::Operation,
        flag: Some(Flag { short: None, long: "chihaya", global: true }),
        variable: "CHIHAYA_CONFIG",
        takes: Takes::File,
        help: "Read the [configuration of Chihaya](from-chihaya.md) in this file. So far only `retracker check` takes it.",
        details: "Variables in the path, such as `$HOME`, are expanded.",
        docker: "This is a path inside the container: /etc/chihaya.yaml.",
        default: Unset("none"),
        example: "chihaya:\n  http:\n    addr: 127.0.0.1:6881\n",
        expected: "chihaya.yaml or config.json of Chihaya",
        parse: value,
    };

    PROMETHEUS: Setting<bool, Is> = Setting {
        section: Section::Operation,
        flag: Some(Flag::with_short('p', "prometheus")),
        variable: "ENABLE_PROMETHEUS",
        takes: Takes::Switch,
        help: "Serve Prometheus [metrics](metrics.md) at `/metrics`.",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    DEBUG: Setting<bool, Is> = Setting {
        section: Section::Operation,
        flag: Some(Flag::with_short('d', "debug")),
        variable: "DEBUG_MODE",
        takes: Takes::Switch,
        help: "Log every announce, scrape and exchange with an upstream tracker; RUST_LOG overrides it.",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    RUST_LOG: Setting<String, Unset> = Setting {
        section: Section::Operation,
        flag: None,
        variable: "RUST_LOG",
        takes: Takes::Value("FILTER"),
        help: "Log what this [filter](https://docs.rs/env_logger) lets through, such as `warn` or `retracker=debug`. It \
               overrides DEBUG_MODE.",
        details: "Parts that it does not understand are ignored.",
        docker: "",
        default: Unset("`info`"),
        example: "warn",
        expected: "a filter such as warn or retracker=debug",
        parse: value,
    };
}

const SWITCH: &str = "true or false (also 1/0, yes/no, on/off)";
const CONNECTIONS: &str = "a whole number from 1 to 1000000000, such as 10000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_value() {
        for setting in ALL {
            assert_eq!(setting.check_default(), Ok(()), "{}", setting.about().variable);
        }
    }
}
