//! `/api/v1/…`: how the tracker does, as JSON.

use serde_json::{Value, json};

use crate::dsl::{Server, announce, eventually, retracker};
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

#[test]
fn the_pages_are_the_operators() {
    let server = retracker(&["--admin-listen", "127.0.0.1:0"]).start();
    for page in ["/api/v1/status", "/api/v1/history", "/api/v1/torrents"] {
        assert_eq!(server.get(page).status, 404, "{page}");
        let mut operator = crate::dsl::TestConnection::to(&server.admin_addresses()[0]);
        assert_eq!(operator.get(page).status, 200, "{page}");
        assert_eq!(operator.get_with(page, &[("Host", "evil.example")]).status, 403, "{page}");
    }
    assert_eq!(Server::start(&[]).get("/api/v1/status").status, 404, "they are switched off");
}
