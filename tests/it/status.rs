//! `/api/v1/…`: the tracker's state as JSON.

use std::fs;

use ::settings::{About, Takes};
use retracker::config::settings;
use serde_json::{Value, json};

use crate::dsl::{AnnounceQuery, CertificateFiles, Server, announce, eventually, id, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::issuer::{KeyServer, SigningKey, hex};
use crate::service::{ONE_PEER, forwarders};
use crate::udp_client::{UdpClient, scrape_packet, udp_announce};

fn status(server: &Server) -> Value {
    let reply = server.get("/api/v1/status");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn the_status_has_the_figures_of_the_announces_made() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let server = retracker(&["-p", "-f", file.path().to_str().unwrap(), "-t", "20"]).start();
    server.get(announce("t", "a").at("10.0.0.1").seed().target());
    server.get(announce("t", "b").at("10.0.0.2").target());
    server.get(announce("t", "c").at("fd00::1").target());
    server.get("/announce?info_hash=short");
    server.get("/scrape");
    let status = status(&server);
    assert_eq!(status["announces"], json!({ "answered": 3, "refused": 1 }));
    assert_eq!(status["scrapes"], json!({ "answered": 0, "refused": 1 }));
    assert_eq!((&status["torrents"], &status["torrents_evicted"]), (&json!(1), &json!(0)));
    let families = json!({ "ipv4": { "seeds": 1, "others": 1 }, "ipv6": { "seeds": 0, "others": 1 } });
    assert_eq!(status["peers"], families);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["listeners"], json!([{ "address": server.addresses()[0], "for": "clients" }]));
    assert_eq!(status["forwarders"][0]["state"], "closed");
    assert_eq!((&status["is_stopping"], &status["notices"]), (&json!(false), &json!([])));
    assert_eq!(status["announces_refused_by_rule"], Value::Null, "there are no rules");
    assert!(status["connections"]["limit"].as_u64().unwrap() > 100, "{status}");
}

#[test]
fn every_setting_is_there_with_its_origin() {
    let server = retracker(&["-p", "-i", "77"]).env("MAX_PEERS", "1234").start();
    let status = status(&server);
    let settings = status["settings"].as_array().unwrap();
    let setting = |variable: &str| {
        let found = settings.iter().find(|setting| setting["variable"] == variable);
        found.unwrap_or_else(|| panic!("{variable} in {settings:?}"))
    };
    let expected = |value: Value, from: &str| json!({ "value": value, "from": from });
    for (variable, value) in [
        ("ANNOUNCE_INTERVAL", expected(json!("77"), "-i/--announce-interval")),
        ("MAX_PEERS", expected(json!("1234"), "MAX_PEERS")),
        ("PEER_AGE", expected(setting("PEER_AGE")["value"].clone(), "default")),
        ("FORWARDS_FILE", expected(Value::Null, "default")),
    ] {
        let found = setting(variable);
        assert_eq!(json!({ "value": found["value"], "from": found["from"] }), value, "{variable}");
    }
    // The reply has every setting.
    assert!(settings::all().all(|about| setting(about.variable)["variable"] == about.variable));
}

#[test]
fn announces_and_scrapes_are_counted_by_protocol() {
    let server = Server::start(&["-p", "-u", "127.0.0.1:0"]);
    server.get(announce("t", "a").target());
    server.get("/announce?info_hash=short");
    server.get("/no-such-path?info_hash=aaaaaaaaaaaaaaaaaaaa");
    let client = UdpClient::of(&server);
    client.announce(&udp_announce("t", "b"));
    client.ask(&scrape_packet(client.id, &[id("t")]));
    server.get("/scrape");
    let status = status(&server);
    let counts = |answered: u64, refused: u64| json!({ "answered": answered, "refused": refused });
    assert_eq!(status["announces_by_protocol"], json!({ "http": counts(1, 2), "udp": counts(1, 0) }));
    assert_eq!(status["scrapes_by_protocol"], json!({ "http": counts(0, 1), "udp": counts(1, 0) }));
    assert_eq!((&status["announces"], &status["scrapes"]), (&counts(2, 2), &counts(1, 1)));
}

#[test]
fn rates_and_quantiles_are_those_of_the_latest_seconds() {
    let server = Server::start(&["-p"]);
    let status = eventually("a step with announces", || {
        server.get(announce("t", "a").target());
        let status = status(&server);
        let rate = &status["announces_per_second"]["http"]["answered"];
        (rate.as_f64() > Some(0.0) && status["announce_seconds"]["announces"] != 0).then_some(status)
    });
    let zeros = json!({ "answered": 0.0, "refused": 0.0 });
    assert_eq!((&status["announces_per_second"]["udp"], &status["scrapes_per_second"]["http"]), (&zeros, &zeros));
    let [p50, p90, p99] = ["p50", "p90", "p99"].map(|name| status["announce_seconds"][name].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= 10.0, "{status}");
    let history: Value = serde_json::from_slice(&server.get("/api/v1/history").body).unwrap();
    let place = |name: &str| history["figures"].as_array().unwrap().iter().position(|figure| figure == name).unwrap();
    for figure in ["announces_answered", "announces_answered_http", "announce_seconds_p99"] {
        let is_positive = |point: &Value| point[place(figure)].as_f64() > Some(0.0);
        assert!(history["points"].as_array().unwrap().iter().any(is_positive), "{figure}: {history}");
    }
}

#[test]
fn without_announces_there_are_no_quantiles() {
    let expected = json!({ "announces": 0, "p50": null, "p90": null, "p99": null });
    assert_eq!(status(&Server::start(&["-p"]))["announce_seconds"], expected);
}

#[test]
fn peers_are_counted_by_zone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zones.yml");
    let zones =
        "- {name: office, networks: [10.1.0.0/16]}\n- {name: the lab, networks: [10.2.0.0/16, 'fd00:2::/32']}\n";
    fs::write(&path, zones).unwrap();
    let server = retracker(&["-p", "--zones", path.to_str().unwrap()]).start();
    for (peer, ip) in [("a", "10.1.0.1"), ("b", "10.2.0.1"), ("c", "fd00:2::1"), ("d", "192.168.0.1")] {
        server.get(announce("t", peer).at(ip).target());
    }
    server.get(announce("t", "e").at("10.2.0.2").seed().target());
    let found = status(&server);
    let counts = |seeds: u64, others: u64| json!({ "seeds": seeds, "others": others });
    assert_eq!(found["peers_by_zone"], json!({ "office": counts(0, 1), "the lab": counts(1, 2) }));
    assert_eq!(found["peers_in_no_zone"], counts(0, 1));
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = "retracker_peers_by_zone{zone=\"the lab\",role=\"leecher\"} 2";
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    server.get(announce("t", "a").at("10.1.0.1").event("stopped").target());
    assert_eq!(status(&server)["peers_by_zone"]["office"], counts(0, 0));

    let without = Server::start(&["-p"]);
    without.get(announce("t", "a").target());
    let found = status(&without);
    assert_eq!((&found["peers_by_zone"], &found["peers_in_no_zone"]), (&json!({}), &counts(0, 1)));
}

/// Returns the name of each limit that had an effect, and how often.
fn bites(status: &Value) -> Vec<(&str, u64)> {
    let limits = status["limits"].as_array().unwrap().iter();
    let bites = limits.map(|limit| {
        let count = limit["bites"].as_u64().unwrap();
        let remedy = &limit["remedy"];
        // A limit has a remedy if and only if it had an effect. A remedy is a sentence.
        assert_eq!(count > 0, remedy.as_str().is_some_and(|text| text.ends_with('.')), "{limit}");
        (limit["limit"].as_str().unwrap(), count)
    });
    bites.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn every_limit_is_there_with_its_value_and_use() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let args = ["-p", "-f", file.path().to_str().unwrap(), "-t", "20", "--max-exchanges", "7", "--max-peers", "5"];
    let server = retracker(&args).env("MAX_CONNECTIONS", "20").start();
    server.get(announce("t", "a").target());
    let mut status = status(&server);
    assert!(bites(&status).is_empty(), "{status}");
    for limit in status["limits"].as_array_mut().unwrap() {
        let (value, in_use) = (limit["value"].as_u64(), limit["in_use"].as_u64());
        assert!(in_use.is_none_or(|in_use| Some(in_use) <= value), "{limit}");
        // The snapshot must not depend on the moment (`in_use`) or on the host (the limit on descriptors).
        limit["in_use"] = json!(in_use.is_some());
        if limit["limit"] == "descriptors" {
            limit["value"] = json!(value.is_some());
        }
    }
    let lines: Vec<_> = status["limits"].as_array().unwrap().iter().map(Value::to_string).collect();
    let lines = lines.join("\n");
    insta::assert_snapshot!(lines);
}

#[test]
fn a_limit_that_had_an_effect_has_a_remedy() {
    let server = Server::start(&["-p", "--max-peers", "2"]);
    for n in 1..=5 {
        server.get(announce("t", &n.to_string()).at(&format!("10.0.0.{n}")).target());
    }
    let status = status(&server);
    assert_eq!((bites(&status), &status["peers_evicted"]), (vec![("peers", 3)], &json!(3)));
    let limit = status["limits"].as_array().unwrap().iter().find(|limit| limit["limit"] == "peers").unwrap();
    assert_eq!((&limit["variable"], &limit["value"], &limit["in_use"]), (&json!("MAX_PEERS"), &json!(2), &json!(2)));
}

#[test]
fn a_scrape_of_too_many_torrents_is_a_limit_of_a_chihaya_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chihaya.yaml");
    let text = "chihaya:\n  announce_interval: 20m\n  prometheus_addr: 127.0.0.1:0\n  http:\n    addr: 127.0.0.1:0\n    \
                max_scrape_infohashes: 1\n";
    fs::write(&path, text).unwrap();
    let server = retracker(&[]).env("CHIHAYA_CONFIG", &path).listens(1, 0, 1).start();
    let scrape = |torrents: &[&str]| {
        let query: Vec<_> =
            torrents.iter().map(|name| format!("info_hash={}", crate::dsl::escape(&id(name)))).collect();
        server.get(format!("/scrape?{}", query.join("&")));
        let reply = crate::dsl::TestConnection::to(&server.admin_addresses()[0]).get("/api/v1/status");
        serde_json::from_slice::<Value>(&reply.body).unwrap()
    };
    assert!(bites(&scrape(&["t"])).is_empty());
    let status = scrape(&["t", "u"]);
    assert_eq!(bites(&status), [("torrents_per_scrape", 1)]);
    // Settings that Chihaya's file replaces have no value of their own.
    let settings = status["settings"].as_array().unwrap();
    let setting = |variable: &str| settings.iter().find(|setting| setting["variable"] == variable).unwrap();
    let from_file = |variable: &str| json!({ "variable": variable, "value": null, "from": "CHIHAYA_CONFIG" });
    for variable in ["ANNOUNCE_INTERVAL", "LISTEN_ADDR"] {
        assert_eq!(*setting(variable), from_file(variable));
    }
    assert_eq!(setting("MAX_PEERS")["from"], "default");
}

#[test]
fn refusals_of_tokens_are_counted_by_reason_and_wrong_ones_are_limited() {
    let key = SigningKey::p256("k");
    let keys = KeyServer::start(Some(&[&key]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yml");
    fs::write(&path, keys.rules()).unwrap();
    let server = retracker(&["-p", "--access", path.to_str().unwrap()]).start();
    server.logged("jwt keys of http://");
    let mut connection = server.connect();
    connection.get(announce("t", "a").target());
    connection.get(announce("t", "a").with("jwt", key.token("u")).target());
    let found = status(&server);
    assert_eq!(found["announces_refused_by_rule"]["jwt"], 2);
    let reasons = found["tokens_refused_by_reason"].as_object().unwrap();
    let counted: Vec<_> = reasons.iter().filter(|(_, count)| **count != 0).collect();
    assert_eq!(counted, [(&"missing".to_owned(), &json!(1)), (&"other_torrent".to_owned(), &json!(1))]);
    let wrong = announce("t", "a").with("jwt", SigningKey::p256("k").token("t")).target();
    let found = eventually("more than fifty wrong tokens in a second", || {
        (0..200).for_each(|_| _ = connection.get(&wrong));
        Some(status(&server)).filter(|status| !bites(status).is_empty())
    });
    let unchecked = found["tokens_refused_by_reason"]["too_many"].as_u64().unwrap();
    assert_eq!(bites(&found), [("wrong_tokens_per_address_and_second", unchecked)]);
}

/// A word that is in every secret of the test below.
const SECRET: &str = "hunter2";

#[test]
fn no_setting_shows_a_secret() {
    // A setting is shown as it is written, unless it is declared as a secret. So a secret must be declared as one, or
    // be in a file that the setting names.
    for About { variable, takes, .. } in settings::all() {
        let names_secret =
            ["KEY", "TOKEN", "PASSWORD", "SECRET", "CREDENTIAL"].iter().any(|part| variable.contains(part));
        let is_hidden = matches!(takes, Takes::File | Takes::Secret(_));
        assert!(!names_secret || is_hidden, "{variable} is shown, but may be a secret");
    }
    let (folder, certificate) = (tempfile::tempdir().unwrap(), CertificateFiles::new());
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let forwarders = format!("- uri: http://{SECRET}:{SECRET}@127.0.0.1:1/{SECRET}/announce?passkey={SECRET}\n");
    let access = crate::issuer::rules(&format!("http://{SECRET}:{SECRET}@127.0.0.1:1/{SECRET}"));
    let files = [
        ("FORWARDS_FILE", file("forwarders.yml", forwarders)),
        ("ACCESS_FILE", file("access.yml", access)),
        ("ZONES_FILE", file("zones.yml", "- {name: office, networks: [10.1.0.0/16]}\n".to_owned())),
        ("TLS_CERT_FILE", certificate.chain()),
        ("TLS_KEY_FILE", certificate.key()),
        ("SHARE_PASSWORD_FILE", file("share.txt", SECRET.to_owned())),
        ("SHARE_SENTINEL_PASSWORD_FILE", file("sentinel.txt", SECRET.to_owned())),
    ];
    // The test sets every setting that names a file, except Chihaya's file, which replaces some of the others.
    let is_given = |variable: &str| variable == "CHIHAYA_CONFIG" || files.iter().any(|(name, _)| *name == variable);
    assert!(settings::all().filter(|setting| setting.takes == Takes::File).all(|file| is_given(file.variable)));
    let key = fs::read_to_string(certificate.key()).unwrap();
    let proxy = format!("http://{SECRET}:{SECRET}@127.0.0.1:1");
    let proxies = ["http_proxy", "https_proxy", "all_proxy"].map(|variable| (variable, proxy.as_str()));
    // The first server's exchange with the forwarder fails. The second server has access rules whose keys cannot be
    // fetched, so no announce reaches its forwarder.
    for has_rules in [false, true] {
        let mut setup = retracker(&["-p", "-l", "127.0.0.1:0", "-l", "tls://127.0.0.1:0"]).listeners(2);
        for (variable, path) in files.iter().filter(|(variable, _)| has_rules || *variable != "ACCESS_FILE") {
            setup = setup.env(variable, path);
        }
        let server = proxies.iter().fold(setup, |setup, (variable, value)| setup.env(variable, value)).start();
        server.get(announce("t", "a").target());
        eventually("the exchange or the fetch has failed", || {
            let reply = String::from_utf8(server.get("/api/v1/status").body).unwrap();
            let shown = |secret: &str| reply.contains(secret);
            assert!(!shown(SECRET) && !key.lines().filter(|line| line.len() > 20).any(shown), "{reply}");
            let status: Value = serde_json::from_str(&reply).unwrap();
            let has_failed = status["forwarders"][0]["last_error"]["text"].is_string();
            (has_failed || !status["notices"].as_array().unwrap().is_empty()).then_some(())
        });
        let explain = format!("/explain?as=10.0.0.1&torrent={}", hex("t"));
        for page in ["/forwarders", "/metrics", "/", "/health", "/dashboard", "/api/v1/history", &explain] {
            let reply = server.get(page);
            assert!(reply.status == 200 && !reply.text().contains(SECRET), "{page}: {}", reply.text());
        }
    }
}

#[test]
fn refusals_are_counted_by_rule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yml");
    fs::write(&path, "clients: {deny: -AA}\n").unwrap();
    let server = retracker(&["-p", "--access", path.to_str().unwrap()]).start();
    server.get(announce("t", "-AA").target());
    server.get(announce("t", "-BB").target());
    let expected = json!({ "networks": 0, "clients": 1, "torrents": 0, "jwt": 0 });
    assert_eq!(status(&server)["announces_refused_by_rule"], expected);
}

#[test]
fn the_history_begins_with_the_process() {
    let server = Server::start(&["-p"]);
    server.get(announce("t", "a").target());
    let history =
        |query: &str| -> Value { serde_json::from_slice(&server.get(format!("/api/v1/history{query}")).body).unwrap() };
    let first = eventually("the first point", || {
        let history = history("");
        (!history["points"].as_array().unwrap().is_empty()).then_some(history)
    });
    let figures = first["figures"].as_array().unwrap();
    let place = figures.iter().position(|figure| figure == "peers_ipv4").unwrap();
    assert_eq!((&first["step_seconds"], &first["points"][0][place]), (&json!(5), &json!(1.0)));
    assert_eq!(first["points"][0].as_array().unwrap().len(), figures.len());
    assert_eq!((&history("?step=60")["step_seconds"], &history("?step=60")["points"]), (&json!(60), &json!([])));
}

#[test]
fn the_largest_torrents_come_first() {
    let server = Server::start(&["-p"]);
    // `a` has 3 seeds and 1 leecher, `b` has 1 seed and 5 leechers, and `c` has 2 seeds.
    for (torrent, seeds, others) in [("a", 3, 1), ("b", 1, 5), ("c", 2, 0)] {
        for n in 0..seeds + others {
            let announce = announce(torrent, &format!("{torrent}{n}")).at(&format!("10.0.{n}.1"));
            server.get(if n < seeds { announce.seed() } else { announce }.target());
        }
    }
    let torrents = |query: &str| {
        let reply = server.get(format!("/api/v1/torrents{query}"));
        let json: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(json["total"], 3);
        let name = |torrent: &Value| {
            let hash = torrent["torrent"].as_str().unwrap().to_owned();
            ["a", "b", "c"].into_iter().find(|name| hex(name) == hash).unwrap()
        };
        json["torrents"].as_array().unwrap().iter().map(name).collect::<String>()
    };
    let orders = ["", "?sort=peers", "?sort=seeds", "?sort=active", "?sort=seeds&limit=1", "?limit=0"];
    assert_eq!(orders.map(torrents), ["bac", "bac", "acb", "bac", "a", ""]);
    for query in ["?sort=size", "?limit=x", "?limit=-1"] {
        assert_eq!(server.get(format!("/api/v1/torrents{query}")).status, 400, "{query}");
    }
}

fn torrent(server: &Server, torrent: &str) -> Value {
    let reply = server.get(format!("/api/v1/torrents/{}", hex(torrent)));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn one_torrent_has_its_peers_and_its_state_at_the_forwarders() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let zones = file("zones.yml", "- {name: <b>office</b>, networks: [10.1.0.0/16]}\n".to_owned());
    let (at, hidden) = (upstream.address(), hex("u"));
    let forwarders =
        format!("- {{name: up, uri: 'http://{at}/a'}}\n- {{name: hidden, uri: 'http://{at}/b', only: [{hidden}]}}\n");
    let server =
        retracker(&["-p", "-x", "-t", "20", "--zones", &zones, "-f", &file("forwarders.yml", forwarders)]).start();
    let mut connection = server.connect();
    let mut from = |ip: &str, announce: &AnnounceQuery| {
        assert_eq!(connection.announce_with(announce, &[("X-Real-IP", ip)]).status, 200);
    };
    from("10.1.0.1", &announce("t", "-TR4050-seed").seed());
    from("10.1.0.2", &announce("t", "<script>x").port(2).at("9.9.9.9"));
    from("fd00::1", &announce("t", "\u{1}").port(3));
    let shown = torrent(&server, "t");
    assert_eq!(shown["torrent"], hex("t"));
    let swarm = &shown["swarm"];
    assert_eq!((&swarm["complete"], &swarm["incomplete"], &swarm["not_shown"]), (&json!(1), &json!(2), &json!(0)));
    let peers = swarm["peers"].as_array().unwrap();
    let peer = |address: &str| {
        let mut found =
            peers.iter().find(|peer| peer["address"] == address).unwrap_or_else(|| panic!("{peers:?}")).clone();
        let silence = found["silent_for_seconds"].take();
        assert!(silence.as_u64().is_some_and(|silence| silence < 600), "{silence}");
        found.as_object_mut().unwrap().remove("silent_for_seconds");
        found
    };
    let expected = |address: &str, zone: Option<&str>, role: &str, client: &str, is_second: bool| {
        json!({
            "address": address, "zone": zone, "role": role, "client": client, "is_expired": false,
            "is_second_address": is_second, "is_claimed": is_second,
        })
    };
    let zone = Some("<b>office</b>");
    for (address, zone, role, client, is_second) in [
        ("10.1.0.1:6881", zone, "seed", "-TR4050-", false),
        ("10.1.0.2:2", zone, "leecher", "<script>", false),
        ("9.9.9.9:2", zone, "leecher", "<script>", true),
        ("[fd00::1]:3", None, "leecher", "\\x01-------", false),
    ] {
        assert_eq!(peer(address), expected(address, zone, role, client, is_second));
    }
    assert_eq!(peers.len(), 4);
    let [up, hidden] = shown["forwarders"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!((&up["name"], &up["state"], &up["is_hidden"]), (&json!("up"), &json!("closed"), &json!(false)));
    assert_eq!((&up["torrent"]["clients"], &up["torrent"]["list"]["peers"]), (&json!(3), &json!(1)));
    assert_eq!((&hidden["is_hidden"], &hidden["torrent"]["list"]), (&json!(true), &Value::Null));
}

#[test]
fn at_most_500_peers_of_a_family_are_listed() {
    let server = Server::start(&["-p"]);
    let mut connection = server.connect();
    for n in 0..510_u16 {
        connection.announce(&announce("t", &n.to_string()).at("10.0.0.1").port(1000 + n));
    }
    connection.announce(&announce("t", "six").at("fd00::1"));
    let swarm = &torrent(&server, "t")["swarm"];
    assert_eq!((swarm["peers"].as_array().unwrap().len(), &swarm["not_shown"]), (501, &json!(10)));
}

#[test]
fn a_torrent_that_is_not_known_is_not_found() {
    let server = Server::start(&["-p"]);
    server.get(announce("t", "a").target());
    let unknown = server.get(format!("/api/v1/torrents/{}", hex("u")));
    let sentence = format!("No client has announced the torrent {} here lately.\n", hex("u"));
    assert_eq!((unknown.status, String::from_utf8(unknown.body).unwrap()), (404, sentence));
    for (hash, status) in [
        (hex("t"), 200),
        (hex("t").to_uppercase(), 200),
        (format!("{:0<64}", hex("t")), 200),
        (hex("t")[1..].to_owned(), 400),
        (format!("{}0", hex("t")), 400),
        ("x".repeat(40), 400),
        ("%00".to_owned(), 400),
    ] {
        let reply = server.get(format!("/api/v1/torrents/{hash}"));
        assert_eq!(reply.status, status, "{hash}");
        assert!(status != 400 || reply.text().contains("expected /api/v1/torrents/HASH"), "{}", reply.text());
    }
}

#[test]
fn the_pages_are_the_operators() {
    let server = retracker(&["--admin-listen", "127.0.0.1:0"]).start();
    server.get(announce("t", "a").target());
    let torrent = format!("/api/v1/torrents/{}", hex("t"));
    for page in ["/api/v1/status", "/api/v1/history", "/api/v1/torrents", &torrent] {
        assert_eq!(server.get(page).status, 404, "{page}");
        let mut operator = crate::dsl::TestConnection::to(&server.admin_addresses()[0]);
        assert_eq!(operator.get(page).status, 200, "{page}");
        assert_eq!(operator.get_with(page, &[("Host", "evil.example")]).status, 403, "{page}");
    }
    assert_eq!(Server::start(&[]).get("/api/v1/status").status, 404, "the operator's pages are switched off");
}
