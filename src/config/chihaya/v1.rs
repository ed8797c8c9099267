//! `config.json` of Chihaya v1.0: one flat object. An absent key has a default.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::keys::Keys;
use super::lint::{Lint, Outcome};
use super::model::{
    Approval, ChihayaApi, ChihayaConfig, ChihayaGeneration, ChihayaHttp, ChihayaUdp, HttpTimeouts, KeySetUrl,
    RequestRules, TokenRule,
};
use super::outcomes;
use super::scalars::{self, Parsed, quoted, quoted_duration, seconds, switch, texts, whole};
use super::tree::{ConfigNode, KeyedNode};
use crate::frontend::listen::{Listen, UdpListenAddr};

/// Reads the object's keys.
pub(super) fn read(entries: &[KeyedNode], lint: &mut Lint) -> ChihayaConfig {
    let mut keys = Keys::new("", entries).folding_case();
    let (interval, min_interval) = intervals(&mut keys, lint);
    let peer_age = peer_age(&mut keys, lint, min_interval);
    let requests = requests(&mut keys, lint);
    let http = http(&mut keys, lint, requests);
    let udp = udp(&mut keys, lint, requests);
    let config = ChihayaConfig {
        generation: ChihayaGeneration::V1,
        interval,
        min_interval: min_interval.as_secs().try_into().unwrap_or(interval),
        peer_age,
        http,
        udp,
        metrics: None,
        api: api(&mut keys, lint),
        tokens: tokens(&mut keys, lint),
        clients: clients(&mut keys, lint),
        torrents: None,
        create_on_announce: create_on_announce(&mut keys, lint),
        respect_address_family: respect_address_family(&mut keys, lint),
        interval_variation: None,
        share: None,
    };
    meaningless(&mut keys, lint);
    keys.finish(lint);
    config
}

const MINUTE: Duration = Duration::from_mins(1);

fn intervals(keys: &mut Keys<'_>, lint: &mut Lint) -> (u32, Duration) {
    let parse =
        |node: &ConfigNode| scalars::interval(quoted_duration(node)?)?.ok_or("a duration from 1s to 24h in quotes");
    let interval = keys.read(lint, "announce", parse, |interval| outcomes::interval(*interval));
    let interval = interval.unwrap_or(30 * 60);
    let parse = |node: &ConfigNode| {
        let duration = quoted_duration(node)?;
        scalars::interval(duration)?;
        duration.ok_or("a duration from 1s to 24h in quotes")
    };
    let min = keys.read(lint, "minAnnounce", parse, |min| outcomes::min_interval(min.as_secs()));
    (interval, min.unwrap_or(15 * MINUTE))
}

fn peer_age(keys: &mut Keys<'_>, lint: &mut Lint, min_interval: Duration) -> Duration {
    let age = |ratio: &f64| {
        let age = Duration::try_from_secs_f64(min_interval.as_secs_f64() * ratio).ok();
        let age = age.and_then(|age| scalars::peer_age(Some(age)).ok()).flatten();
        age.filter(|age| !age.is_zero())
    };
    let parse = |node: &ConfigNode| {
        let expected = "a number above 0 such as 1.25, by which minAnnounce is multiplied to get the age of peers";
        age(&scalars::number(node).map_err(|_| expected)?).ok_or(expected)
    };
    let given = keys.read(lint, "reapRatio", parse, |age| outcomes::peer_age(*age, "minAnnounce times this"));
    given.or_else(|| age(&1.25)).unwrap_or(30 * MINUTE)
}

fn requests(keys: &mut Keys<'_>, lint: &mut Lint) -> RequestRules {
    let spoofing = keys.read(lint, "allowIPSpoofing", switch, |may| outcomes::ip_spoofing(*may));
    let parse = |node: &ConfigNode| match whole(node)? {
        number if number < 0 => Err("a whole number from 0 on"),
        number => u32::try_from(number).map_err(|_| "a whole number from 0 to 4294967295"),
    };
    let default_numwant = keys.read(lint, "defaultNumWant", parse, |number| outcomes::default_numwant(*number));
    RequestRules {
        ip_spoofing: spoofing.unwrap_or(true),
        max_numwant: None,
        default_numwant: default_numwant.unwrap_or(50),
        max_scrape: None,
    }
}

fn http(keys: &mut Keys<'_>, lint: &mut Lint, requests: RequestRules) -> Option<ChihayaHttp> {
    let parse = |node: &ConfigNode| scalars::listen(&quoted(node)?);
    let listen = keys.read(lint, "httpListenAddr", parse, |listen| outcomes::listen(listen.as_ref(), "--listen"));
    // An explicit "" means that there is no address.
    let listen = listen.unwrap_or_else(|| default_address("localhost:6881"));
    let timeouts = HttpTimeouts {
        read: timeout(keys, lint, "httpReadTimeout", "a request has to arrive within"),
        write: timeout(keys, lint, "httpWriteTimeout", "the client has to take a reply within"),
        idle: None,
        drain: timeout(keys, lint, "httpRequestTimeout", "requests under way at a stop may take"),
    };
    let max_connections = limit(keys, lint, "httpListenLimit", " (--max-connections)");
    let parse = |node: &ConfigNode| Ok((quoted(node)?, scalars::header(&quoted(node)?)?));
    let header = keys.read(lint, "realIPHeader", parse, |(name, header)| {
        header.as_ref().map_or_else(outcomes::no_header, |_| outcomes::real_ip_header(name, true))
    });
    Some(ChihayaHttp {
        listen: Some(listen?),
        tls: None,
        timeouts,
        keep_alive: false,
        max_connections,
        announce_routes: outcomes::default_routes("/announce"),
        scrape_routes: outcomes::default_routes("/scrape"),
        real_ip_header: header.and_then(|(_, header)| header),
        requests,
    })
}

fn default_address(text: &str) -> Option<Listen> {
    scalars::listen(text).ok().flatten()
}

fn timeout(keys: &mut Keys<'_>, lint: &mut Lint, key: &'static str, what: &str) -> Option<Duration> {
    let given = keys.read(lint, key, quoted_duration, |timeout| outcomes::timeout(*timeout, what));
    given.unwrap_or(Some(Duration::from_secs(10)))
}

/// Reads a limit of connections. `flag` is the flag that does the same, or empty.
fn limit(keys: &mut Keys<'_>, lint: &mut Lint, key: &'static str, flag: &str) -> Option<NonZeroUsize> {
    let parse = |node: &ConfigNode| -> Parsed<Option<NonZeroUsize>> {
        let limit = usize::try_from(whole(node)?).map_err(|_| "a number of connections, or 0 for no limit")?;
        Ok(NonZeroUsize::new(limit))
    };
    let outcome = |limit: &Option<NonZeroUsize>| match limit {
        None => Outcome::Becomes("no limit".to_owned()),
        Some(limit) => Outcome::Becomes(format!("at most {limit} connections{flag}")),
    };
    keys.read(lint, key, parse, outcome).flatten()
}

fn udp(keys: &mut Keys<'_>, lint: &mut Lint, requests: RequestRules) -> Option<ChihayaUdp> {
    let parse = |node: &ConfigNode| scalars::udp_listen(&quoted(node)?);
    let listen = keys.read(lint, "udpListenAddr", parse, |listen| outcomes::listen(listen.as_ref(), "--udp-listen"));
    let default = || scalars::udp_listen("localhost:6882").ok().flatten();
    let listen: Option<UdpListenAddr> = listen.unwrap_or_else(default);
    let why = "the sockets have a buffer of the tracker's own";
    keys.check(lint, "udpReadBufferSize", whole, why);
    Some(ChihayaUdp { listen: listen?, private_key: None, max_clock_skew: Duration::from_secs(10), requests })
}

fn api(keys: &mut Keys<'_>, lint: &mut Lint) -> Option<ChihayaApi> {
    let parse = |node: &ConfigNode| scalars::listen(&quoted(node)?);
    let listen = keys.read(lint, "apiListenAddr", parse, |listen| match listen {
        None => Outcome::Becomes("no API".to_owned()),
        Some(listen) => Outcome::Becomes(format!("v1's API at {listen}")),
    });
    let listen = listen.unwrap_or_else(|| default_address("localhost:6880"));
    let has_api = listen.is_some();
    let timeout = |keys: &mut Keys<'_>, lint: &mut Lint, key, what: &str| {
        let outcome = |timeout: &Option<Duration>| match timeout {
            _ if !has_api => Outcome::Nothing("there is no API".to_owned()),
            None => Outcome::Becomes("no limit".to_owned()),
            Some(timeout) => Outcome::Becomes(format!("{what} {}", seconds(*timeout))),
        };
        keys.read(lint, key, quoted_duration, outcome).unwrap_or(Some(Duration::from_secs(10)))
    };
    let timeouts = HttpTimeouts {
        read: timeout(keys, lint, "apiReadTimeout", "a request has to arrive within"),
        write: timeout(keys, lint, "apiWriteTimeout", "the client has to take a reply within"),
        idle: None,
        drain: timeout(keys, lint, "apiRequestTimeout", "requests under way at a stop may take"),
    };
    let max_connections = limit(keys, lint, "apiListenLimit", "");
    Some(ChihayaApi { listen: listen?, timeouts, max_connections })
}

fn tokens(keys: &mut Keys<'_>, lint: &mut Lint) -> Option<TokenRule> {
    let parse = |node: &ConfigNode| match quoted(node)?.as_str() {
        "" => Ok(None),
        text => scalars::key_set_url(text).map(Some),
    };
    let set = keys.read(lint, "jwkSetURI", parse, |set| match set {
        None => Outcome::Becomes("no tokens are asked for".to_owned()),
        Some(set) => outcomes::key_set(set, ", by the issuer that the set names, or by any if it names none"),
    });
    let set: Option<KeySetUrl> = set.flatten();
    let is_on = set.is_some();
    let unless_on = move |outcome: Outcome| match outcome {
        _ if !is_on => Outcome::Nothing("without jwkSetURI no tokens are asked for".to_owned()),
        outcome => outcome,
    };
    let refresh =
        keys.read(lint, "jwkSetUpdateInterval", quoted_duration, |refresh| unless_on(outcomes::refresh(*refresh)));
    let audience = keys.read(lint, "jwtAudience", quoted, |text| unless_on(outcomes::audience(text)));
    Some(TokenRule {
        keys: set?,
        issuer: None,
        audience: audience.unwrap_or_default(),
        refresh: refresh.flatten().unwrap_or(5 * MINUTE),
    })
}

fn clients(keys: &mut Keys<'_>, lint: &mut Lint) -> Option<Approval<[u8; 6]>> {
    let outcome = |is_on: &bool| match is_on {
        true => Outcome::Becomes("only the clients of clientWhitelist may announce".to_owned()),
        false => Outcome::Becomes("all clients may announce".to_owned()),
    };
    let is_on = keys.read(lint, "clientWhitelistEnabled", switch, outcome).unwrap_or(false);
    let parse = |node: &ConfigNode| scalars::client_ids(&texts(node)?);
    let approved = keys.read(lint, "clientWhitelist", parse, |approved| match is_on {
        false => Outcome::Nothing("clientWhitelistEnabled is not true".to_owned()),
        true if approved.is_empty() => Outcome::Warns(String::new(), "is empty: no client may announce".to_owned()),
        true => Outcome::Becomes(format!("clients that may announce: {}", approved.len())),
    });
    is_on.then(|| Approval::Allow(approved.unwrap_or_default()))
}

fn create_on_announce(keys: &mut Keys<'_>, lint: &mut Lint) -> bool {
    let outcome = |creates: &bool| match creates {
        true => Outcome::Becomes("a torrent exists as soon as a client announces it".to_owned()),
        false => Outcome::Becomes("only torrents added via the API may be announced".to_owned()),
    };
    keys.read(lint, "createOnAnnounce", switch, outcome).unwrap_or(true)
}

fn respect_address_family(keys: &mut Keys<'_>, lint: &mut Lint) -> bool {
    let outcome = |respects: &bool| match respects {
        true => Outcome::Becomes("a client gets peers of its own address family only".to_owned()),
        false => Outcome::Becomes("a client gets peers of both address families".to_owned()),
    };
    keys.read(lint, "respectAF", switch, outcome).unwrap_or(false)
}

/// Reads keys that v1 knows and that have no effect here.
fn meaningless(keys: &mut Keys<'_>, lint: &mut Lint) {
    keys.check(lint, "purgeInactiveTorrents", switch, "the store forgets torrents without peers by a rule of its own");
    keys.check(lint, "reapInterval", quoted_duration, "a peer that is too old is never given out");
    keys.check(lint, "torrentMapShards", whole, "the store divides its work itself");
    keys.check(lint, "dualStackedPeers", switch, "a client always counts once, with an address of each family");
    let nearest = "peers of the client's own /24, or /64 of IPv6, always come first";
    keys.check(lint, "preferredSubnet", switch, nearest);
    keys.check(lint, "preferredIPv4Subnet", whole, nearest);
    keys.check(lint, "preferredIPv6Subnet", whole, nearest);
    let memory = "there is no Go memory to measure here, and /metrics has the memory of the process";
    keys.check(lint, "statsBufferSize", whole, "counting needs no buffer");
    keys.check(lint, "includeMemStats", switch, memory);
    keys.check(lint, "verboseMemStats", switch, memory);
    keys.check(lint, "memStatsInterval", quoted_duration, memory);
}
