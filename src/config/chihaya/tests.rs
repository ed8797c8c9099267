//! How files are read, and what the linter says about them.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::frontend::routes::RoutePattern;
use crate::tracker::IntervalVariation;

fn read(text: &str) -> ChihayaText {
    ChihayaText::read(text).unwrap_or_else(|problem| panic!("{problem:?}:\n{text}"))
}

/// Returns the configuration in a text. Panics if a value is wrong.
fn config(text: &str) -> ChihayaConfig {
    let read = read(text);
    let wrong: Vec<_> = read.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    read.config
}

fn lines(text: &str) -> Vec<String> {
    read(text).findings.iter().map(Finding::to_string).collect()
}

fn errors(text: &str) -> Vec<String> {
    let errors = read(text).findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.to_string()).collect()
}

fn v2(below: &str) -> String {
    let below: Vec<_> = below.lines().map(|line| format!("  {line}\n")).collect();
    format!("chihaya:\n{}", below.concat())
}

const SECOND: Duration = Duration::from_secs(1);

// --- Which form it is ------------------------------------------------------------------------------------------

#[test]
fn the_form_of_a_file() {
    use ChihayaGeneration::{V1, V2, V2Rc1};
    for (text, expected) in [
        ("{}", V1),
        ("{\"announce\": \"15m\"}", V1),
        ("\n  {\"storage\": {\"name\": \"memory\"}}", V1),
        ("{\"chihaya\": {}}", V2),
        ("{chihaya: {storage: {gc_interval: 3m}}}", V2Rc1),
        ("chihaya:\n", V2),
        ("chihaya:\n  http:\n    addr: :80\n", V2),
        ("chihaya:\n  storage:\n    name: memory\n", V2),
        ("chihaya:\n  storage:\n    gc_interval: 3m\n", V2Rc1),
        ("chihaya:\n  storage:\n    gc_interval: 3m\n  prehooks:\n  - name: jwt\n    config: {}\n", V2Rc1),
        ("chihaya:\n  storage:\n    gc_interval: 3m\n  prehooks:\n  - name: jwt\n    options: {}\n", V2),
        ("x: &a\n  name: memory\nchihaya:\n  storage:\n    <<: *a\n", V2),
        ("---\nchihaya:\n---\nx: 1\n", V2),
    ] {
        assert_eq!(read(text).config.generation, expected, "{text}");
    }
}

#[test]
fn what_is_no_configuration_of_chihaya() {
    for (text, line, part) in [
        ("", Some(1), "no top-level key chihaya"),
        ("# nothing\n", Some(1), "no top-level key chihaya"),
        ("announce_interval: 15m\n", Some(1), "no top-level key chihaya"),
        ("[]", Some(1), "no top-level key chihaya"),
        ("{\"announce\": \"15m\",\n}", Some(2), "it is no JSON: "),
        ("{\"announce\": \"15m\"\n\"a\": 1}", Some(2), "it is no JSON: expected `,` or `}`"),
        ("chihaya:\n  http: [\n", Some(3), "it is no YAML: "),
        ("chihaya:\n\thttp: 1\n", Some(2), "it is no YAML: "),
        ("chihaya:\n  a: *b\n", Some(2), "it is no YAML: "),
        ("chihaya:\n  a: &a [*a]\n", Some(2), "the anchor is not known here"),
        ("chihaya:\n  <<: 3\n", Some(2), "`<<` merges a value that is not a section"),
        ("chihaya:\n  ? [a]\n  : 1\n", Some(2), "where a key is expected"),
        ("chihaya: 3\n", Some(1), "it is 3, expected keys below chihaya"),
    ] {
        let problem = ChihayaText::read(text).unwrap_err();
        assert!(problem.line == line && problem.problem.contains(part), "{text:?}: {problem:?}");
    }
}

#[test]
fn no_file_makes_the_reader_grow() {
    let ten = |n| vec![format!("*a{}", n - 1); 10].join(", ");
    let bomb = (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", ten(n))).collect::<Vec<_>>().concat();
    for (text, part) in [
        (format!("a0: &a0 [x]\n{bomb}chihaya:\n"), "1000000 values"),
        (format!("chihaya: {}1{}\n", "[".repeat(40), "]".repeat(40)), "32 levels"),
        (format!("{{\"a\": {}1{}}}", "[".repeat(40), "]".repeat(40)), "32 levels"),
        (format!("{{\"a\": [{}1]}}", "1,".repeat(1_000_000)), "1000000 values"),
    ] {
        let problem = ChihayaText::read(&text).unwrap_err();
        assert!(problem.problem.contains(part), "{problem:?}");
    }
}

// --- v2 --------------------------------------------------------------------------------------------------------

const NEWEST: &str = r#"
announce_interval: "20m"
min_announce_interval: 10m
metrics_addr: "0.0.0.0:6880"
http:
  addr: "0.0.0.0:6969"
  https_addr: "[::]:6970"
  tls_cert_path: /etc/tracker.pem
  tls_key_path: /etc/tracker.key
  read_timeout: 5s
  write_timeout: 1500ms
  enable_keepalive: true
  idle_timeout: 1m30s
  enable_request_timing: false
  announce_routes: [/announce, "/:passkey/announce"]
  scrape_routes:
    - /scrape
  allow_ip_spoofing: off
  real_ip_header: x-real-ip
  max_numwant: 120
  default_numwant: 30
  max_scrape_infohashes: 40
udp:
  addr: "0.0.0.0:6969"
  max_clock_skew: 10s
  private_key: not for everybody
  enable_request_timing: yes
  allow_ip_spoofing: false
  max_numwant: 60
  default_numwant: 20
  max_scrape_infohashes: 10
storage:
  name: memory
  config:
    gc_interval: 3m
    peer_lifetime: 31m
    shard_count: 1024
    prometheus_reporting_interval: 1s
prehooks:
- name: jwt
  options:
    issuer: https://issuer.example
    audience: https://tracker.example
    jwk_set_url: https://issuer.example/keys
    jwk_set_update_interval: 7m
- name: client approval
  options:
    whitelist: [OP1011, "TR4000"]
- name: torrent approval
  options:
    blacklist: [a1b2c3d4e5a1b2c3d4e5a1b2c3d4e5a1b2c3d4e5]
- name: interval variation
  options:
    modify_response_probability: 0.25
    max_increase_delta: 60
    modify_min_interval: true
"#;

#[test]
fn every_key_of_the_newest_form() {
    let config = config(&v2(NEWEST));
    assert_eq!(config.generation, ChihayaGeneration::V2);
    assert_eq!((config.interval, config.min_interval, config.peer_age), (1200, 600, 1860 * SECOND));
    assert_eq!(config.metrics, "0.0.0.0:6880".parse().ok());
    let http = config.http.unwrap();
    assert_eq!(http.listen, "0.0.0.0:6969".parse().ok());
    let tls = http.tls.unwrap();
    assert_eq!(tls.listen, "[::]:6970".parse().unwrap());
    assert_eq!((tls.certificate.to_str(), tls.key.to_str()), (Some("/etc/tracker.pem"), Some("/etc/tracker.key")));
    let timeouts = http.timeouts;
    assert_eq!((timeouts.read, timeouts.write), (Some(5 * SECOND), Some(Duration::from_millis(1500))));
    assert_eq!((timeouts.idle, timeouts.drain), (Some(90 * SECOND), None));
    assert!(http.keep_alive && http.max_connections.is_none());
    let routes: Vec<_> = http.announce_routes.iter().chain(&http.scrape_routes).map(RoutePattern::as_str).collect();
    assert_eq!(routes, ["/announce", "/:passkey/announce", "/scrape"]);
    assert_eq!(http.real_ip_header, crate::frontend::client_address::RealIpHeader::new("x-real-ip"));
    let rules = |ip_spoofing, max, default_numwant, scrape| RequestRules {
        ip_spoofing,
        max_numwant: Some(max),
        default_numwant,
        max_scrape: Some(scrape),
    };
    assert_eq!(http.requests, rules(false, 120, 30, 40));
    let udp = config.udp.unwrap();
    assert_eq!(udp.listen, "0.0.0.0:6969".parse().unwrap());
    assert_eq!(udp.private_key, Some(PrivateKey("not for everybody".to_owned())));
    assert!(!format!("{udp:?}").contains("everybody"));
    assert_eq!((udp.max_clock_skew, udp.requests), (10 * SECOND, rules(false, 60, 20, 10)));
    assert_eq!(
        config.tokens,
        Some(TokenRule {
            keys: KeySetUrl::Url("https://issuer.example/keys".parse().unwrap()),
            issuer: Some("https://issuer.example".to_owned()),
            audience: "https://tracker.example".to_owned(),
            refresh: 420 * SECOND,
        })
    );
    assert_eq!(config.clients, Some(Approval::Allow(BTreeSet::from([*b"OP1011", *b"TR4000"]))));
    let torrent = "a1b2c3d4e5a1b2c3d4e5a1b2c3d4e5a1b2c3d4e5".parse().unwrap();
    assert_eq!(config.torrents, Some(Approval::Deny(BTreeSet::from([torrent]))));
    let variation = IntervalVariation { probability: 0.25, max_increase: 60, min_interval_too: true };
    assert_eq!(config.interval_variation, Some(variation));
    assert!(config.create_on_announce && !config.respect_address_family && config.api.is_none());
}

#[test]
fn what_the_linter_says_of_every_key_of_the_newest_form() {
    insta::assert_snapshot!(lines(&v2(NEWEST)).join("\n"));
}

const RC1: &str = r"
announce_interval: 15m
prometheus_addr: localhost:6880
http:
  addr: 0.0.0.0:6881
  allow_ip_spoofing: false
  real_ip_header: x-real-ip
  read_timeout: 5s
  write_timeout: 6s
  request_timeout: 7s
udp:
  addr: 0.0.0.0:6881
  allow_ip_spoofing: true
  max_clock_skew: 10s
  private_key: |
    paste a random string here that will be used to hmac connection IDs
storage:
  gc_interval: 14m
  peer_lifetime: 16m
  shards: 1
  shard_count: 2
  max_numwant: 40
prehooks:
- name: jwt
  config:
    issuer: https://issuer.example
    audience: https://tracker.example
    jwk_set_url: https://issuer.example/keys
- name: client approval
  config:
    whitelist:
    - OP1011
    - OP1012
    blacklist:
    - OP1012
posthooks:
- name: gossip
  config:
    boostrap_node: 127.0.0.1:6881
";

#[test]
fn every_key_of_rc1() {
    let config = config(&v2(RC1));
    assert_eq!(config.generation, ChihayaGeneration::V2Rc1);
    assert_eq!((config.interval, config.min_interval, config.peer_age), (900, 900, 960 * SECOND));
    assert_eq!(config.metrics, "localhost:6880".parse().ok());
    let http = config.http.unwrap();
    assert_eq!((http.listen, http.tls), ("0.0.0.0:6881".parse().ok(), None));
    let HttpTimeouts { read, write, idle, drain } = http.timeouts;
    assert_eq!((read, write, idle, drain), (Some(5 * SECOND), Some(6 * SECOND), None, Some(7 * SECOND)));
    assert!(!http.keep_alive);
    let rules =
        |ip_spoofing| RequestRules { ip_spoofing, max_numwant: Some(40), default_numwant: 40, max_scrape: None };
    let udp = config.udp.unwrap();
    assert_eq!((http.requests, udp.requests), (rules(false), rules(true)));
    assert_eq!(config.tokens.unwrap().refresh, 300 * SECOND);
    assert_eq!(config.clients, Some(Approval::Allow(BTreeSet::from([*b"OP1011"]))), "both lists count");
}

#[test]
fn what_the_linter_says_of_every_key_of_rc1() {
    insta::assert_snapshot!(lines(&v2(RC1)).join("\n"));
}

#[test]
fn rc2_has_numbers_at_the_top_and_one_address_for_http_and_https() {
    let text = v2("prometheus_addr: :6880\nmax_numwant: 80\ndefault_numwant: 25\nmax_scrape_infohashes: 9\n\
                   http:\n  addr: :6881\n  tls_cert_path: a.pem\n  tls_key_path: a.key\n\
                   udp:\n  addr: :6881\n  default_numwant: 5\n\
                   storage:\n  name: memorybysubnet\n  config:\n    gc_interval: 14m\n    preferred_ipv4_subnet_mask_bits_set: 8\n\
                   prehooks:\n- name: interval variation\n  config:\n    modify_response_probability: 1\n    max_increase_delta: 1\n");
    let config = config(&text);
    let (http, udp) = (config.http.unwrap(), config.udp.unwrap());
    assert_eq!((http.listen, http.tls.unwrap().listen), (None, ":6881".parse().unwrap()));
    let numbers = |rules: RequestRules| (rules.max_numwant, rules.default_numwant, rules.max_scrape);
    assert_eq!((numbers(http.requests), numbers(udp.requests)), ((Some(80), 25, Some(9)), (Some(80), 5, Some(9))));
    assert_eq!(config.metrics, ":6880".parse().ok());
    assert_eq!(config.interval_variation.map(|variation| variation.max_increase), Some(1));
}

#[test]
fn what_holds_where_v2_says_nothing() {
    let nothing = config("chihaya:\n");
    assert_eq!((nothing.interval, nothing.min_interval, nothing.peer_age), (1800, 1800, 1800 * SECOND));
    assert!(nothing.http.is_none() && nothing.udp.is_none() && nothing.metrics.is_none() && nothing.tokens.is_none());
    let config = config(&v2(
        "announce_interval: 0\nhttp:\n  addr: :80\n  max_numwant: 0\n  read_timeout: 0s\nudp:\n  addr: :80\n",
    ));
    assert_eq!(config.interval, 1800);
    let http = config.http.unwrap();
    let HttpTimeouts { read, write, idle, drain } = http.timeouts;
    assert_eq!((read, write, idle, drain), (Some(2 * SECOND), Some(2 * SECOND), Some(30 * SECOND), None));
    let rules = RequestRules { ip_spoofing: false, max_numwant: Some(100), default_numwant: 50, max_scrape: Some(50) };
    assert_eq!((http.requests, config.udp.unwrap().requests), (rules, rules));
    assert_eq!((http.announce_routes[0].as_str(), http.scrape_routes[0].as_str()), ("/announce", "/scrape"));
}

/// Texts below `chihaya`, and a part of the first error that each causes.
const WRONG_V2: &[(&str, &str)] = &[
    (
        "announce_interval: 15",
        "line 2: error: announce_interval is \"15\", expected a duration with a unit such as 15m, because Chihaya takes a bare number for nanoseconds",
    ),
    (
        "announce_interval: soon",
        "line 2: error: announce_interval is \"soon\", expected a duration such as 15m, 1h30m or 250ms",
    ),
    ("announce_interval: 25h", "line 2: error: announce_interval is \"25h\", expected a duration from 1s to 24h"),
    (
        "announce_interval: [15m]",
        "line 2: error: announce_interval is [15m], expected a duration such as 15m, 1h30m or 250ms",
    ),
    ("http: 80", "line 2: error: http is \"80\", expected a section with keys of its own"),
    ("http:\n  addr: {a: 1}", "line 3: error: http.addr is a section, expected a text"),
    (
        "http:\n  addr: 6881",
        "line 3: error: http.addr is \"6881\", expected an address such as 0.0.0.0:6881, localhost:6881, [::]:6881 or :6881",
    ),
    (
        "http:\n  addr: unix:/run/x.sock",
        "line 3: error: http.addr is \"unix:/run/x.sock\", expected an address such as",
    ),
    (
        "http:\n  allow_ip_spoofing: \"true\"",
        "line 3: error: http.allow_ip_spoofing is \"true\", expected true or false",
    ),
    ("http:\n  real_ip_header: a b", "line 3: error: http.real_ip_header is \"a b\", expected the name of a header"),
    ("http:\n  max_numwant: -1", "line 3: error: http.max_numwant is \"-1\", expected a whole number from 0"),
    ("http:\n  max_numwant: \"5\"", "line 3: error: http.max_numwant is \"5\", expected a whole number from 0"),
    (
        "http:\n  announce_routes: /announce",
        "line 3: error: http.announce_routes is \"/announce\", expected a list of texts",
    ),
    ("http:\n  announce_routes: []", "line 3: error: http.announce_routes is [], expected at least one path"),
    (
        "http:\n  announce_routes: [announce]",
        "line 3: error: http.announce_routes is [announce], expected a list of paths",
    ),
    ("http:\n  https_addr: :443", "line 2: error: http.https_addr is without certificate, expected"),
    ("udp:\n  addr: udp://:80", "line 3: error: udp.addr is \"udp://:80\", expected an address"),
    ("udp:\n  private_key: [secret]", "line 3: error: udp.private_key is (not shown), expected a text"),
    (
        "storage:\n  gc_interval: 0",
        "line 3: error: storage.gc_interval is \"0\", expected a duration above 0 such as 14m: Chihaya's \"invalid garbage collection interval\"",
    ),
    (
        "storage:\n  name: redis",
        "line 2: error: storage.name is redis and there is no server, expected storage.config.redis_broker",
    ),
    (
        "storage:\n  name: redis\n  config:\n    redis_broker: localhost:6379",
        "line 5: error: storage.config.redis_broker is (not shown), expected a URL such as redis://password@host:6379/0",
    ),
    (
        "storage:\n  name: postgres",
        "line 3: error: storage.name is \"postgres\", expected memory, memorybysubnet or redis",
    ),
    ("prehooks: jwt", "line 2: error: prehooks is \"jwt\", expected a list of hooks, each with a name"),
    ("prehooks: [jwt]", "line 2: error: prehooks[0] is \"jwt\", expected a hook with a name"),
    ("prehooks:\n- options: {}", "line 3: error: prehooks[0].name is missing, expected a value for it"),
    (
        "prehooks:\n- name: jvt\n  options: {}",
        "line 3: error: prehooks[0].name is \"jvt\", expected jwt, because an unknown hook may be",
    ),
    (
        "prehooks:\n- name: client-approval",
        "line 3: error: prehooks[0].name is \"client-approval\", expected client approval, because",
    ),
    (
        "prehooks:\n- name: magic",
        "line 3: error: prehooks[0].name is \"magic\", expected jwt, client approval, torrent approval or interval variation",
    ),
    ("prehooks:\n- name: jwt", "line 3: error: the hook jwt has no options, expected those of jwt"),
    (
        "prehooks:\n- name: jwt\n  options: {issuer: a, audience: b}",
        "line 3: error: prehooks[0].options.jwk_set_url is missing",
    ),
    (
        "prehooks:\n- name: jwt\n  options: {issuer: a, audience: b, jwk_set_url: ftp://a/}",
        "expected the URL of a JWK set",
    ),
    (
        "prehooks:\n- name: client approval\n  options: {whitelist: [OP101]}",
        "expected a list of clients of six bytes each such as OP1011",
    ),
    (
        "prehooks:\n- name: client approval\n  options: {whitelist: [OP1011], blacklist: [OP1012]}",
        "line 3: error: the hook has both whitelist and blacklist",
    ),
    (
        "prehooks:\n- name: torrent approval\n  options: {whitelist: [abc]}",
        "expected a list of info-hashes of 40 hexadecimal digits each",
    ),
    (
        "prehooks:\n- name: interval variation\n  options: {modify_response_probability: 2, max_increase_delta: 0}",
        "expected a number above 0 and up to 1",
    ),
    ("prehooks:\n- name: jwt\n  options: {}\n  config: {}", "prehooks[0].config is beside options"),
];

#[test]
fn wrong_values_of_v2_are_named() {
    let storage = "storage:\n  gc_interval: 14m\n";
    for (below, expected) in WRONG_V2 {
        let text = v2(below);
        let found = errors(&text);
        assert!(found[0].contains(expected), "{text}{found:#?}");
    }
    let twice =
        v2(&format!("{storage}prehooks:\n{}", "- name: client approval\n  config: {whitelist: [OP1011]}\n".repeat(2)));
    assert_eq!(errors(&twice), ["line 7: error: the hook client approval is there twice, expected one of them"]);
}

// --- v1 --------------------------------------------------------------------------------------------------------

const V1: &str = r#"{
  "createOnAnnounce": false,
  "purgeInactiveTorrents": true,
  "announce": "20m",
  "minAnnounce": "10m",
  "reapInterval": "60s",
  "reapRatio": 1.5,
  "defaultNumWant": 40,
  "torrentMapShards": 1,
  "jwkSetURI": "https://issuer.example/keys",
  "jwkSetUpdateInterval": "7m",
  "jwtAudience": "https://tracker.example",
  "allowIPSpoofing": false,
  "dualStackedPeers": true,
  "realIPHeader": "X-Real-IP",
  "respectAF": true,
  "preferredSubnet": true,
  "preferredIPv4Subnet": 8,
  "preferredIPv6Subnet": 16,
  "clientWhitelistEnabled": true,
  "clientWhitelist": ["OP1011"],
  "apiListenAddr": "localhost:6880",
  "apiRequestTimeout": "1s",
  "apiReadTimeout": "2s",
  "apiWriteTimeout": "3s",
  "apiListenLimit": 4,
  "udpListenAddr": "localhost:6881",
  "udpReadBufferSize": 0,
  "httpListenAddr": ":6881",
  "httpRequestTimeout": "5s",
  "httpReadTimeout": "6s",
  "httpWriteTimeout": "7s",
  "httpListenLimit": 8,
  "driver": "noop",
  "statsBufferSize": 0,
  "includeMemStats": true,
  "verboseMemStats": false,
  "memStatsInterval": "5s"
}
"#;

#[test]
fn every_key_of_v1() {
    let config = config(V1);
    assert_eq!(config.generation, ChihayaGeneration::V1);
    assert_eq!((config.interval, config.min_interval, config.peer_age), (1200, 600, 900 * SECOND));
    let requests = RequestRules { ip_spoofing: false, max_numwant: None, default_numwant: 40, max_scrape: None };
    let http = config.http.unwrap();
    assert_eq!((http.listen, http.tls, http.requests), (":6881".parse().ok(), None, requests));
    let timeouts = |read, write, drain| HttpTimeouts {
        read: Some(read * SECOND),
        write: Some(write * SECOND),
        idle: None,
        drain: Some(drain * SECOND),
    };
    assert_eq!((http.timeouts, http.max_connections), (timeouts(6, 7, 5), NonZeroUsize::new(8)));
    assert_eq!(http.real_ip_header, crate::frontend::client_address::RealIpHeader::new("X-Real-IP"));
    let udp = config.udp.unwrap();
    assert_eq!((udp.listen, udp.private_key, udp.requests), ("localhost:6881".parse().unwrap(), None, requests));
    let api = config.api.unwrap();
    assert_eq!((api.listen, api.timeouts), ("localhost:6880".parse().unwrap(), timeouts(2, 3, 1)));
    assert_eq!(api.max_connections, NonZeroUsize::new(4));
    let tokens = config.tokens.unwrap();
    assert_eq!(tokens.keys, KeySetUrl::Url("https://issuer.example/keys".parse().unwrap()));
    assert_eq!((tokens.issuer, tokens.audience.as_str()), (None, "https://tracker.example"));
    assert_eq!(tokens.refresh, 420 * SECOND);
    assert_eq!(config.clients, Some(Approval::Allow(BTreeSet::from([*b"OP1011"]))));
    assert!(!config.create_on_announce && config.respect_address_family);
}

#[test]
fn what_the_linter_says_of_every_key_of_v1() {
    insta::assert_snapshot!(lines(V1).join("\n"));
}

#[test]
fn what_holds_where_v1_says_nothing() {
    for text in ["{}", "{\"announce\": null, \"httpListenAddr\": null}"] {
        let config = config(text);
        assert_eq!((config.interval, config.min_interval, config.peer_age), (1800, 900, 1125 * SECOND));
        let http = config.http.unwrap();
        let ten = Some(10 * SECOND);
        assert_eq!(http.listen, "localhost:6881".parse().ok());
        assert_eq!(http.timeouts, HttpTimeouts { read: ten, write: ten, idle: None, drain: ten });
        assert!(http.requests.ip_spoofing && http.requests.default_numwant == 50 && http.max_connections.is_none());
        assert_eq!(config.udp.unwrap().listen, "localhost:6882".parse().unwrap());
        assert_eq!(config.api.unwrap().listen, "localhost:6880".parse().unwrap());
        assert!(config.create_on_announce && config.tokens.is_none() && config.clients.is_none());
    }
    let config = config(r#"{"httpListenAddr": "", "udpListenAddr": "", "apiListenAddr": "", "jwkSetURI": ""}"#);
    assert!(config.http.is_none() && config.udp.is_none() && config.api.is_none() && config.tokens.is_none());
}

#[test]
fn keys_of_v1_in_any_case_and_on_one_line() {
    let text = r#"{"ANNOUNCE":"20m","announce":"10m","jwksetURI":"http://a/","é":{"a":[1,"}"]},"reapratio":2}"#;
    let config = config(text);
    assert_eq!((config.interval, config.peer_age), (600, 1800 * SECOND));
    assert!(config.tokens.is_some());
    let lines = lines(text);
    assert!(lines.iter().all(|line| line.starts_with("line 1: ")), "{lines:?}");
    assert!(lines[0].contains("announce: 20m does not count: the key is on line 1 again"), "{lines:?}");
    assert!(lines[3].contains("warning: é: a section never meant anything"), "{lines:?}");
    assert_eq!(lines.len(), 5);
}

#[test]
fn what_follows_the_object_is_not_read() {
    assert_eq!(
        lines("{\"respectAF\": false}\n\n{ x"),
        [
            "line 1: respectAF: false -> a client gets peers of both address families",
            "line 3: warning: what follows the first object is not read",
        ]
    );
    assert_eq!(lines("chihaya:\n---\nx"), ["line 2: warning: a second document begins here, which is not read"]);
}

#[test]
fn wrong_values_of_v1_are_named() {
    for (key, value, expected) in [
        ("announce", "15", "announce is \"15\", expected a duration in quotes such as \"15m\""),
        ("announce", "\"0\"", "announce is \"0\", expected a duration from 1s to 24h in quotes"),
        ("minAnnounce", "\"x\"", "minAnnounce is \"x\", expected a duration such as 15m"),
        ("reapRatio", "\"1.25\"", "reapRatio is \"1.25\", expected a number above 0 such as 1.25, by which"),
        ("reapRatio", "-1", "reapRatio is \"-1\", expected a number above 0"),
        ("reapRatio", "1e300", "reapRatio is \"1e300\", expected a number above 0"),
        ("defaultNumWant", "-1", "defaultNumWant is \"-1\", expected a whole number from 0 on"),
        ("respectAF", "\"no\"", "respectAF is \"no\", expected true or false"),
        ("httpListenAddr", "6881", "httpListenAddr is \"6881\", expected a text in quotes"),
        ("httpListenLimit", "-1", "httpListenLimit is \"-1\", expected a number of connections, or 0 for no limit"),
        ("clientWhitelist", "\"OP1011\"", "clientWhitelist is \"OP1011\", expected a list of texts"),
        ("jwkSetURI", "\"nowhere\"", "jwkSetURI is \"nowhere\", expected the URL of a JWK set"),
        ("jwtAudience", "[]", "jwtAudience is [], expected a text in quotes"),
    ] {
        let found = errors(&format!("{{\n  \"{key}\": {value}\n}}"));
        let expected = format!("line 2: error: {expected}");
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{expected}\n{found:?}");
    }
}

// --- What the linter finds -------------------------------------------------------------------------------------

#[test]
fn keys_that_mean_nothing_and_what_was_meant() {
    for (text, expected) in [
        (
            v2("anounce_interval: 15m"),
            "line 2: warning: anounce_interval: 15m never meant anything: Chihaya does not know the key, probably announce_interval was meant",
        ),
        (v2("http:\n  addr: :80\n  https-addr: :443"), "probably https_addr was meant"),
        (v2("peer_lifetime: 15m"), "never meant anything: its place is storage.config.peer_lifetime"),
        (v2("storage:\n  name: memory\n  gc_interval: 3m"), "its place is storage.config.gc_interval"),
        (
            v2("storage:\n  name: memory\n  config:\n    shards: 3"),
            "Chihaya's example had it, but Chihaya reads shard_count",
        ),
        (
            v2("storage:\n  gc_interval: 1m\nmin_announce_interval: 1m"),
            "warning: min_announce_interval: 1m means nothing: v2.0.0-rc.1 does not know the key",
        ),
        (v2("http:\n  addr: :80\n  request_timeout: 5s"), "only v2.0.0-rc.1 reads it"),
        (
            v2("qwertz: [1, 2, 3, 4, 5]"),
            "line 2: warning: qwertz: [1, 2, 3, 4] never meant anything: Chihaya does not know the key",
        ),
        (
            "x-common: {}\nchihaya:\n".to_owned(),
            "line 1: warning: x-common: a section means nothing: only what is below chihaya is read",
        ),
        (v2("prehooks:\n"), "line 2: prehooks: (nothing) means nothing here: it is as if the key were not there"),
        (v2("http:\n  read_timeout: 5s"), "line 2: warning: http has no address, and nothing listens for HTTP"),
        (v2("http:\n  addr: :80\n  tls_key_path: a"), "warning: http has one of tls_cert_path and tls_key_path only"),
        ("{\"anounce\": \"1m\"}".to_owned(), "probably announce was meant"),
        ("{\"jwkTTL\": \"1m\"}".to_owned(), "warning: jwkTTL: 1m never meant anything"),
    ] {
        let lines = lines(&text);
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}\n{lines:#?}");
    }
}

/// If a key that restricts access is misspelt, the linter must say that the restriction is not in force.
#[test]
fn what_was_meant_to_restrict_access_and_does_not() {
    let hook = |options: &str| v2(&format!("prehooks:\n- name: client approval\n  options: {options}\n"));
    for text in [
        v2("prehook:\n- name: jwt"),
        v2("pre_hooks: []"),
        hook("{whitelist: [OP1011], blacklst: [OP1012]}"),
        hook("{whitelist: [OP1011], anything: 1}"),
        v2("posthooks:\n- name: jwt\n  options: {}"),
        "{\"clientWhitelistEnable\": true}".to_owned(),
        "{\"jwkSetURL\": \"https://a/\"}".to_owned(),
        "{\"createOnAnounce\": false}".to_owned(),
    ] {
        let read = read(&text);
        assert!(
            read.findings.iter().any(|finding| finding.severity == Severity::NotInForce),
            "{text}{:#?}",
            read.findings
        );
    }
    let empty = lines(&hook("{whitelist: []}"));
    assert!(
        empty.iter().any(|line| line.contains("both lists of the hook are empty or absent, so it refuses nobody")),
        "{empty:?}"
    );
}

#[test]
fn a_section_of_strange_keys_is_refused() {
    let keys: Vec<_> = (0..1000).map(|n| format!("strange{n}: 1\n")).collect();
    let errors = errors(&v2(&keys.concat()));
    assert!(
        errors.len() == 1 && errors[0].contains("more than 200 keys here that Chihaya does not know"),
        "{errors:?}"
    );
}

#[test]
fn peers_that_vanish_between_announces() {
    let text = |age| v2(&format!("announce_interval: 15m\nstorage:\n  gc_interval: 14m\n  peer_lifetime: {age}\n"));
    assert!(lines(&text("15m")).iter().any(|line| line.contains("peer_lifetime alone is no longer than the interval")));
    assert!(!lines(&text("16m")).iter().any(|line| line.contains("peer_lifetime alone")));
    assert_eq!([config(&text("15m")).peer_age, config(&text("16m")).peer_age], [29 * 60 * SECOND, 16 * 60 * SECOND]);
}

#[test]
fn a_store_in_redis_is_shared_by_the_instances() {
    let text = |store: &str| {
        let keys = "redis_broker: redis://hush@redis.lan:6380/3\n    redis_read_timeout: 15s";
        v2(&format!("http:\n  addr: :80\nstorage:\n  name: {store}\n  config:\n    {keys}\n"))
    };
    let shared = config(&text("redis")).share.unwrap();
    assert_eq!(shared, "redis://:hush@redis.lan:6380/3".parse().unwrap());
    let lines = lines(&text("redis")).join("\n");
    assert!(lines.contains("--share redis://redis.lan:6380/3") && !lines.contains("hush"), "{lines}");
    assert_eq!(config(&text("memory")).share, None);
}

#[test]
fn secrets_are_not_shown() {
    let text = v2(
        "udp:\n  addr: :80\n  private_key: hush\n  private_key: hush hush\nstorage:\n  name: redis\n  config:\n    redis_broker: redis://hush@host\n",
    );
    assert!(!lines(&text).join("\n").contains("hush"), "{:#?}", lines(&text));
    assert!(!format!("{:?}", read(&text)).contains("hush"));
}

#[test]
fn values_cannot_forge_lines() {
    let lines = lines("{\"driver\": \"a\\nline 9: \\u001b[31mb\", \"x\\ny\": \"\\u202e\"}");
    assert!(lines.len() == 2 && !lines.join("").contains(|c: char| c.is_control() || c == '\u{202e}'), "{lines:?}");
    let long = v2(&format!("announce_interval: {}", "9".repeat(10_000)));
    assert!(errors(&long)[0].len() < 300);
}

#[test]
fn the_last_of_repeated_keys_counts() {
    let text = v2("announce_interval: 10m\nhttp:\n  addr: :80\nannounce_interval: 20m\n");
    assert_eq!(config(&text).interval, 1200);
    assert_eq!(
        lines(&text)[0],
        "line 2: warning: announce_interval: 10m does not count: the key is on line 5 again, and the last one counts"
    );
}

#[test]
fn keys_in_every_notation_of_yaml_have_their_lines() {
    let text = "chihaya: {\"announce_interval\": 10m, 'prometheus_addr': \":1\",\n  http: {addr: \":2\",\n    ? read_timeout\n    : 5s}}\n";
    let lines = lines(text);
    let heads: Vec<_> = lines.iter().map(|line| line.split(": ").take(3).collect::<Vec<_>>().join(": ")).collect();
    assert_eq!(
        heads,
        [
            "line 1: announce_interval: 10m -> interval 600 s (--announce-interval)",
            "line 1: prometheus_addr: :1 -> /metrics at :1",
            "line 2: http.addr: :2 -> listens on :2 (--listen)",
            "line 3: http.read_timeout: 5s -> a request has to arrive within 5 s",
        ]
    );
    let text = "times: &times\n  read_timeout: 7s\n  write_timeout: 8s\nchihaya:\n  http:\n    <<: *times\n    addr: :80\n    write_timeout: 9s\n";
    let http = config(text).http.unwrap();
    assert_eq!((http.timeouts.read, http.timeouts.write), (Some(7 * SECOND), Some(9 * SECOND)));
}

// --- Any text --------------------------------------------------------------------------------------------------

/// Returns a text with one part replaced.
fn changed(text: &str, start: usize, length: usize, by: &str) -> String {
    let chars: Vec<_> = text.chars().collect();
    let start = start % chars.len();
    let end = (start + length).min(chars.len());
    chars[..start].iter().copied().chain(by.chars()).chain(chars[end..].iter().copied()).collect()
}

/// Returns values as people write them, right and wrong.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "\"[a-z0-9:./{} ]{0,12}\"",
        "[0-9]{1,3}[smh]?".prop_map(|text| format!("\"{text}\"")),
        "-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,3})?",
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("[\"OP1011\", 3]".to_owned()),
        Just("{\"a\": 1}".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_text_gives_a_value_or_an_error(text in "(chihaya:\n |\\{)?[-a-z{}\\[\\]\"':,&*!|>#?~ \n\t0-9]{0,60}") {
        let _ = ChihayaText::read(&text);
    }

    #[test]
    fn a_changed_file_gives_a_value_or_an_error(
        file in prop::sample::select(vec![v2(NEWEST), v2(RC1), V1.to_owned()]),
        start in 0_usize..2000,
        length in 0_usize..40,
        by in "[-a-z{}\\[\\]\"':,&*!|>#~ \n\t0-9é]{0,12}",
    ) {
        let text = changed(&file, start, length, &by);
        if let Ok(read) = ChihayaText::read(&text) {
            let places: Vec<_> = read.findings.iter().map(|finding| finding.place).collect();
            prop_assert!(places.is_sorted());
            prop_assert!(places.iter().all(|place| place.line <= text.lines().count() + 1));
        }
    }

    /// Each key gets one finding, at the line of the key or its value, in v1, in v2 as YAML and in v2 as JSON.
    #[test]
    fn every_key_has_its_line(
        keys in prop::collection::btree_map(
            prop_oneof![
                prop::sample::select(vec!["announce", "respectAF", "announce_interval", "udpListenAddr", "max_numwant"])
                    .prop_map(str::to_owned),
                "[a-z]{1,12}",
            ],
            value(),
            1..12,
        ),
    ) {
        let pairs: Vec<_> = keys.iter().map(|(key, value)| format!("\"{key}\":\n {value}")).collect();
        let v1 = format!("{{\n{}\n}}", pairs.join(",\n"));
        let as_json = format!("{{\"chihaya\": {{\n{}\n}}}}", pairs.join(",\n"));
        let below: Vec<_> = keys.iter().map(|(key, value)| format!("  {key}:\n    {value}\n")).collect();
        let v2 = format!("chihaya:\n{}", below.concat());
        for (text, nested) in [(&v1, false), (&as_json, true), (&v2, true)] {
            let read = ChihayaText::read(text).unwrap();
            for (n, key) in keys.keys().enumerate() {
                // Sections and hooks have lines of their own.
                if nested && ["http", "udp", "storage", "prehooks", "posthooks"].contains(&key.as_str()) {
                    continue;
                }
                let line = 2 + 2 * n;
                let about = |finding: &&Finding| {
                    let name = finding.text.split([':', ' ']).next().unwrap_or_default();
                    name.eq_ignore_ascii_case(key) && (line..=line + 1).contains(&finding.place.line)
                };
                prop_assert_eq!(read.findings.iter().filter(about).count(), 1, "{}: {:#?}\n{}", key, read.findings, text);
            }
        }
    }
}
