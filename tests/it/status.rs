//! `/api/v1/…`: how the tracker does, as JSON.

use serde_json::{Value, json};

use crate::dsl::{AnnounceQuery, Server, announce, eventually, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::issuer::hex;
use crate::service::{ONE_PEER, forwarders};

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
    // A test of all settings proves that there are no others.
    assert!(retracker::config::settings::all().all(|about| setting(about.variable)["variable"] == about.variable));
}

#[test]
fn refusals_are_counted_by_rule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yml");
    std::fs::write(&path, "clients: {deny: -AA}\n").unwrap();
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
    // `a` has 3 seeds and 1 other, `b` 1 and 5, `c` 2 and 0.
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
        std::fs::write(&path, text).unwrap();
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
    assert_eq!(Server::start(&[]).get("/api/v1/status").status, 404, "they are switched off");
}
