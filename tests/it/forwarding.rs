//! What upstream trackers learn about our peers, and which upstream peers our clients get. Tests that depend on time
//! are in `src/tracker/simulation.rs`. Tests of upstream replies are in `upstream.rs`.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddrV4;

use tempfile::NamedTempFile;

use crate::dsl::{AnnounceQuery, Exit, Server, announce, escape, eventually, id, retracker};
use crate::fake_tracker::{FakeTracker, Refusing, script, sends};
use crate::fake_udp_tracker::{FakeUdpTracker, UdpAnswer};
use crate::service::ONE_PEER;

const PEER: &str = "10.0.0.7:6881";

/// Writes a text to a file.
pub(crate) fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Starts a server with this file of forwarders and a long timeout.
fn server(text: &str) -> Server {
    retracker(&["-t", "30", "-p", "-d", "-f", file(text).path().to_str().unwrap()]).start()
}

fn client(torrent: &str, name: &str) -> AnnounceQuery {
    announce(torrent, name).at("10.0.0.9")
}

fn good() -> FakeTracker {
    FakeTracker::start(sends(ONE_PEER))
}

/// Returns the info-hash of a torrent in hexadecimal digits.
fn hex(torrent: &str) -> String {
    id(torrent).iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// Returns the value of a parameter in each request that a tracker got. A missing value is empty.
pub(crate) fn values(tracker: &FakeTracker, name: &str) -> Vec<String> {
    let value = |request: &String| {
        let query = request.split(' ').nth(1).unwrap().split_once('?').unwrap().1.to_owned();
        let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(str::to_owned));
        found.unwrap_or_default()
    };
    tracker.requests().iter().map(value).collect()
}

fn sees(tracker: &FakeTracker, events: &[&str]) {
    eventually(&format!("the tracker gets {events:?}"), || (values(tracker, "event") == events).then_some(()));
}

/// Waits until the metrics have this line.
fn counts(server: &Server, line: &str) {
    eventually(line, || {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        metrics.lines().any(|other| other == line).then_some(())
    });
}

// --- Over UDP -------------------------------------------------------------------------------------------------

#[test]
fn an_upstream_over_udp() {
    let tracker = FakeUdpTracker::start(|announce| match &announce.info_hash[..1] {
        b"t" => {
            let peers = vec![PEER.parse::<SocketAddrV4>().unwrap()];
            UdpAnswer::Peers { interval: 1800, seeders: 4, leechers: 2, peers }
        }
        _ => UdpAnswer::Refused("no such torrent"),
    });
    let server = server(&format!(
        "- {{name: udp, uri: 'udp://{}/announce?passkey=sEcReT', ip: 192.168.1.15, numwant: 30}}\n",
        tracker.address()
    ));
    let peer = client("t", "a").port(51413).with("key", "00C0FFEE");
    let reply = server.announce(&peer.clone().event("started"));
    assert_eq!((reply.peers(), reply.counts()), (vec![PEER.to_owned()], [4, 3, 0]));
    server.announce(&peer.clone().seed().event("completed"));
    server.announce(&peer.seed().event("stopped"));
    tracker.announce(3);
    let announces = tracker.announces();
    assert_eq!(announces.iter().map(|announce| announce.event).collect::<Vec<_>>(), [2, 1, 3]);
    assert_eq!(announces.iter().map(|announce| announce.numwant).collect::<Vec<_>>(), [30, 30, 0]);
    assert_eq!(announces.iter().map(|announce| announce.left).collect::<Vec<_>>(), [1, 0, 0]);
    for announce in announces {
        assert_eq!((announce.info_hash, announce.peer_id, announce.port), (id("t"), id("a"), 51413));
        assert_eq!((announce.ip.to_string().as_str(), announce.key), ("192.168.1.15", 0x00C0_FFEE));
        // The first option has type 2 and a length (BEP 41). The second one is retracker's own option, which other
        // retrackers recognise.
        let (url_data, via) = announce.options.split_at(26);
        assert_eq!(url_data, b"\x02\x18/announce?passkey=sEcReT");
        assert!(via.len() == 32 && via.starts_with(b"v\x1e1.1 retracker-"), "{}", via.escape_ascii());
    }
    assert_eq!(server.announce(&client("u", "a")).peers(), [""; 0]);
    server.logged("it refuses: no such torrent");
    counts(&server, "retracker_forward_exchanges_total{forwarder=\"udp\",outcome=\"refused\"} 1");
    assert!(!server.log().iter().any(|line| line.contains("sEcReT")));
}

// --- Entries --------------------------------------------------------------------------------------------------

#[test]
fn torrents_that_an_entry_leaves_out_are_not_announced() {
    let (all, only, except) = (good(), good(), good());
    let hash = hex("private");
    let [all_at, only_at, except_at] = [&all, &only, &except].map(FakeTracker::address);
    let server = server(&format!(
        "- uri: http://{all_at}/announce\n\
        - uri: http://{only_at}/announce\n  only: [{hash}]\n\
        - uri: http://{except_at}/announce\n  except: [{hash}]\n"
    ));
    for (n, torrent) in ["private", "public"].into_iter().enumerate() {
        for event in ["started", "stopped"] {
            server.announce(&client(torrent, "a").event(event));
        }
        // The client may get its reply before `stopped` is sent upstream. So the test waits for `stopped`.
        sees(&all, &["started", "stopped"].repeat(n + 1));
    }
    let torrents = |tracker: &FakeTracker, names: &[&str]| {
        sees(tracker, &["started", "stopped"].repeat(names.len() / 2));
        let expected: Vec<_> = names.iter().map(|torrent| escape(&id(torrent))).collect();
        assert_eq!(values(tracker, "info_hash"), expected);
    };
    torrents(&all, &["private", "private", "public", "public"]);
    torrents(&only, &["private", "private"]);
    torrents(&except, &["public", "public"]);
}

#[test]
fn a_client_s_own_address_is_passed_on_unless_it_is_private() {
    let tracker = good();
    let server = server(&format!("- uri: http://{}/announce\n  ip: client\n", tracker.address()));
    for (n, ip) in ["203.0.113.5", "10.0.0.9", "127.0.0.1", "2001:db8::5", "fd00::5", "100.64.0.1"].iter().enumerate() {
        server.announce(&announce("t", &n.to_string()).at(ip));
        tracker.request(n + 1);
    }
    assert_eq!(values(&tracker, "ip"), ["203.0.113.5", "", "", "2001%3Adb8%3A%3A5", "", ""]);
    assert_eq!(values(&tracker, "ipv4"), ["203.0.113.5", "", "", "", "", ""]);
    assert_eq!(values(&tracker, "ipv6"), ["", "", "", "2001%3Adb8%3A%3A5", "", ""]);
}

#[test]
fn settings_for_all_entries() {
    let (a, b) = (good(), good());
    let [a_at, b_at] = [&a, &b].map(FakeTracker::address);
    let server = server(&format!(
        "numwant: 30\nforwarders:\n  - uri: http://{a_at}/announce\n  - {{uri: 'http://{b_at}/announce', numwant: 7}}\n"
    ));
    server.announce(&client("t", "a"));
    assert_eq!((values(&a, "numwant"), values(&b, "numwant")), (vec!["30".to_owned()], vec!["7".to_owned()]));
}

// --- Sessions -------------------------------------------------------------------------------------------------

#[test]
fn a_tracker_id_is_sent_back_to_its_upstream() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        visit.write(b"HTTP/1.1 200 OK\r\n\r\nd8:intervali1800e5:peers0:10:tracker id4:\x00a&be");
    }));
    let server = server(&format!("- uri: http://{}/announce\n", tracker.address()));
    let peer = client("t", "a").with("key", "%00%ffkey");
    server.announce(&peer.clone().event("started"));
    server.announce(&peer.clone().event("completed"));
    server.announce(&peer.event("stopped"));
    sees(&tracker, &["started", "completed", "stopped"]);
    assert_eq!(values(&tracker, "trackerid"), ["", "%00a%26b", "%00a%26b"]);
    assert_eq!(values(&tracker, "key"), ["%00%FFkey"; 3]);
    assert_eq!(values(&tracker, "numwant"), ["200", "200", "0"]);
}

#[test]
fn stopped_without_a_port_is_sent_upstream_with_the_known_port() {
    let tracker = good();
    let server = server(&format!("- uri: http://{}/announce\n", tracker.address()));
    server.announce(&client("t", "a").port(51413).with("key", "k"));
    server.announce(&client("t", "a").event("stopped").without("port"));
    sees(&tracker, &["started", "stopped"]);
    assert_eq!(
        (values(&tracker, "port"), values(&tracker, "key")),
        (vec!["51413".to_owned(); 2], vec!["k".to_owned(); 2])
    );
}

#[test]
fn stopped_is_sent_upstream_for_an_expired_peer() {
    let tracker = good();
    let text = format!("- uri: http://{}/announce\n", tracker.address());
    // A peer age of 0.6 seconds.
    let server = retracker(&["-a", "0.01", "-t", "30", "-p", "-f", file(&text).path().to_str().unwrap()]).start();
    server.announce(&client("t", "a").with("uploaded", "7"));
    sees(&tracker, &["started", "stopped"]);
    assert_eq!(values(&tracker, "uploaded"), ["7", "7"]);
    assert_eq!(values(&tracker, "peer_id")[1], escape(&id("a")));
    let name = tracker.address();
    counts(&server, &format!("retracker_forward_sessions{{forwarder=\"{name}\"}} 0"));
}

#[test]
fn every_client_gets_the_upstream_list_at_once() {
    let tracker = good();
    let server = server(&format!("- {{name: good, uri: 'http://{}/announce'}}\n", tracker.address()));
    for n in 1..=5 {
        assert!(server.announce(&client("t", &n.to_string()).port(7000 + n)).peers().contains(&PEER.to_owned()));
    }
    sees(&tracker, &["started"; 5]);
    counts(&server, "retracker_forward_sessions{forwarder=\"good\"} 5");
    counts(&server, "retracker_forward_lists{forwarder=\"good\"} 1");
    counts(&server, "retracker_forward_waits_total{outcome=\"done\"} 1");
    counts(&server, "retracker_forward_waits_total{outcome=\"saved\"} 4");
    counts(&server, "retracker_forward_circuit{forwarder=\"good\",state=\"closed\"} 1");
    counts(&server, "retracker_forward_circuit{forwarder=\"good\",state=\"open\"} 0");
    let line = server.logged("1 peers");
    assert!(line.contains("DEBUG") && line.contains("forwarder good: 742d2d2d"), "{line}");
    assert!(line.contains(" started for peer 1-------------------, in "), "{line}");
    assert!(line.contains("again in 60s") && line.contains(&tracker.address().to_string()), "{line}");
}

#[test]
fn another_retracker_gets_our_own_counts_only() {
    let tracker = FakeTracker::start(sends("HTTP/1.1 200 OK\r\n\r\nd8:completei5e10:incompletei7e5:peers0:e"));
    let server = server(&format!("- uri: http://{}/announce\n", tracker.address()));
    assert_eq!(server.announce(&client("t", "a")).counts(), [5, 8, 0]);
    // Another retracker gets local counts only. Otherwise two retrackers that forward to each other would add each
    // other's counts again and again.
    let passed_on = server.connect().announce_with(&client("t", "b").at("10.0.0.8"), &[("Via", "1.1 another")]);
    assert_eq!(passed_on.counts(), [0, 2, 0]);
}

// --- What the operator sees and does ---------------------------------------------------------------------------

#[test]
fn forwarders_as_json() {
    let (tracker, gone) = (good(), Refusing::new());
    let text = format!(
        "- {{name: good, uri: 'http://{}/announce'}}\n- {{name: gone, uri: 'http://{}/announce?passkey=sEcReT'}}\n",
        tracker.address(),
        gone.address()
    );
    let server = server(&text);
    for n in 1..=4 {
        server.announce(&client("t", &n.to_string()).port(7000 + n));
    }
    sees(&tracker, &["started"; 4]);
    let json = eventually("the last exchange has ended", || {
        let reply = server.get("/forwarders");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let json = String::from_utf8(reply.body).unwrap();
        json.contains("\"ok\": 4").then_some(json)
    });
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let [good, gone] = [0, 1].map(|n| value["forwarders"][n].clone());
    assert_eq!((&good["name"], &good["protocol"], &good["state"]), (&"good".into(), &"http".into(), &"closed".into()));
    assert_eq!((&good["sessions"], &good["lists"]), (&4.into(), &1.into()));
    assert_eq!(good["exchanges"], serde_json::json!({ "ok": 4 }));
    assert!(good["mean_latency_seconds"].as_f64().unwrap() > 0.0, "{good}");
    assert!(good["last_error"].is_null() && good["next_probe_in_seconds"].is_null(), "{good}");
    assert_eq!((&gone["state"], &gone["exchanges"]), (&"open".into(), &serde_json::json!({ "connect": 3 })));
    let probe = gone["next_probe_in_seconds"].as_f64().unwrap();
    // The probe is due within six seconds. On a busy machine it may already be due.
    assert!((0.0..=6.0).contains(&probe), "{gone}");
    let error = gone["last_error"]["text"].as_str().unwrap();
    assert!(error.starts_with("it cannot be reached: "), "{error}");
    assert!(!json.contains("sEcReT"), "{json}");
    assert_eq!(value["waits"], serde_json::json!({ "saved": 1, "done": 3, "enough": 0, "deadline": 0 }));
    counts(&server, "retracker_forward_skipped_total{forwarder=\"gone\",reason=\"open\"} 1");
    counts(&server, "retracker_forward_circuit{forwarder=\"gone\",state=\"open\"} 1");

    let none = String::from_utf8(Server::start(&["-p"]).get("/forwarders").body).unwrap();
    assert!(none.contains("\"forwarders\": []"), "{none}");
    assert_eq!(Server::start(&[]).get("/forwarders").status, 404);
}

#[test]
fn hup_reads_the_file_again() {
    let (kept, removed, added) = (good(), good(), good());
    let entry = |name: &str, tracker: &FakeTracker| {
        format!("- {{name: {name}, uri: 'http://{}/announce'}}\n", tracker.address())
    };
    let file = file(&[entry("kept", &kept), entry("removed", &removed)].concat());
    let server = retracker(&["-t", "30", "-p", "-f", file.path().to_str().unwrap()]).start();
    server.announce(&client("t", "a"));

    fs::write(file.path(), "- uri: http://127.0.0.1/announce\n- url: oops\n").unwrap();
    server.signal("HUP");
    let line = server.logged("the forwarders do not change");
    assert!(line.contains("ERROR") && line.contains(" line 2: unknown field `url`"), "{line}");
    server.announce(&client("t", "b").port(6882));
    sees(&removed, &["started"; 2]);

    fs::write(file.path(), [entry("added", &added), entry("kept", &kept)].concat()).unwrap();
    server.signal("HUP");
    assert!(server.logged("reloaded").contains("forwarders now: 2"));
    server.announce(&client("t", "a"));
    sees(&added, &["started"]);
    // The sessions of the forwarder `kept` stay. So the client is not announced to `kept` again.
    server.announce(&client("t", "a").event("stopped"));
    sees(&kept, &["started", "started", "stopped"]);
    counts(&server, "retracker_forward_sessions{forwarder=\"kept\"} 1");
    sees(&added, &["started", "stopped"]);
    // The upstream that is no longer configured gets a `stopped` for each of the two clients, and nothing else.
    eventually("stopped is sent", || {
        let events = values(&removed, "event");
        (events.iter().filter(|event| *event == "stopped").count() == 2).then_some(())
    });
    assert_eq!(removed.visits(), 4);
}

#[test]
fn hup_with_an_empty_file_logs_a_warning() {
    let tracker = good();
    let file = file(&format!("- uri: http://{}/announce\n", tracker.address()));
    let server = retracker(&["-t", "30", "-f", file.path().to_str().unwrap()]).start();
    server.announce(&client("t", "a"));
    fs::write(file.path(), "").unwrap();
    server.signal("HUP");
    assert!(server.logged("no forwarders left").contains("WARN"));
    sees(&tracker, &["started", "stopped"]);
}

#[test]
fn a_changed_setting_that_an_upstream_does_not_see_keeps_its_sessions() {
    let (tracker, other) = (good(), good());
    let entry = |more: &str| format!("- {{uri: 'http://{}/announce'{more}}}\n", tracker.address());
    let file = file(&entry(""));
    let server = retracker(&["-t", "30", "-p", "-f", file.path().to_str().unwrap()]).start();
    for torrent in ["t", "u"] {
        server.announce(&client(torrent, "a").event("started"));
    }
    fs::write(file.path(), entry(&format!(", name: another, timeout: 5, numwant: 7, except: [{}]", hex("u")))).unwrap();
    server.signal("HUP");
    server.logged("reloaded");
    // The upstream gets `stopped` for the torrent `u`, which the entry now excludes. It gets nothing for the torrent `t`
    // until a client announces.
    sees(&tracker, &["started", "started", "stopped"]);
    server.announce(&client("t", "a"));
    server.announce(&client("u", "a"));
    server.announce(&client("t", "a").seed().event("completed"));
    sees(&tracker, &["started", "started", "stopped", "completed"]);
    assert_eq!(values(&tracker, "numwant"), ["200", "200", "0", "7"]);
    counts(&server, "retracker_forward_sessions{forwarder=\"another\"} 1");
    counts(&server, "retracker_forward_exchanges_total{forwarder=\"another\",outcome=\"ok\"} 2");
    // The metrics show only the current forwarders.
    fs::write(file.path(), format!("- {{name: other, uri: 'http://{}/announce'}}\n", other.address())).unwrap();
    server.signal("HUP");
    counts(&server, "retracker_forward_sessions{forwarder=\"other\"} 0");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(!metrics.contains("another") && !metrics.contains(&tracker.address().to_string()), "{metrics}");
}

#[test]
fn after_hup_the_metrics_have_no_old_names() {
    let tracker = good();
    let entry = |n: usize| format!("- {{name: n{n}, uri: 'http://{}/announce/{}'}}\n", tracker.address(), n / 2);
    let file = file(&entry(0));
    let server = retracker(&["-t", "30", "-p", "-f", file.path().to_str().unwrap()]).start();
    for n in 1..20 {
        server.announce(&client(&format!("t{n}"), "a"));
        fs::write(file.path(), entry(n)).unwrap();
        server.signal("HUP");
        let new = format!("retracker_forward_sessions{{forwarder=\"n{n}\"}} ");
        eventually(&new, || String::from_utf8(server.get("/metrics").body).unwrap().contains(&new).then_some(()));
    }
    eventually("the old names are removed", || {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        metrics.lines().all(|line| !line.contains("=\"n") || line.contains("=\"n19\"")).then_some(())
    });
}

#[test]
fn hup_without_a_file_of_forwarders_changes_nothing() {
    let server = Server::start(&[]);
    server.signal("HUP");
    server.logged("nothing to reload");
    assert_eq!(server.get("/health").status, 200);
}

// --- The check ------------------------------------------------------------------------------------------------

fn check(text: &str, args: &[&str]) -> Exit {
    retracker(&[&["check", "-f", file(text).path().to_str().unwrap()], args].concat()).run()
}

/// Returns the words of a row of the table that `retracker check` prints.
fn row<'a>(exit: &'a Exit, name: &str) -> Vec<&'a str> {
    let row = exit.stdout.lines().find(|line| line.starts_with(name));
    row.unwrap_or_else(|| panic!("{name} is not in {exit:?}")).split_whitespace().collect()
}

#[test]
fn check_asks_each_upstream_once() {
    let http = good();
    let udp = FakeUdpTracker::start(|_| UdpAnswer::Peers { interval: 900, seeders: 0, leechers: 0, peers: Vec::new() });
    let refusing = FakeTracker::start(sends("HTTP/1.1 200 OK\r\n\r\nd14:failure reason12:unregisterede"));
    let text = format!(
        "- {{name: web, uri: 'http://{}/announce'}}\n- {{name: udp, uri: 'udp://{}/'}}\n- {{name: strict, uri: 'http://{}/'}}\n",
        http.address(),
        udp.address(),
        refusing.address()
    );
    let exit = check(&text, &[]);
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    assert_eq!(exit.stdout.lines().count(), 4, "{}", exit.stdout);
    assert_eq!(row(&exit, "NAME"), ["NAME", "PROTOCOL", "ADDRESS", "LATENCY", "INTERVAL", "VERDICT"]);
    let address = http.address().to_string();
    let web = row(&exit, "web");
    assert_eq!(
        [web[0], web[1], web[2], web[4], web[5], web[6], web[7]],
        ["web", "http", &address, "ms", "60", "s", "ok"]
    );
    assert_eq!(row(&exit, "udp")[5..], ["900", "s", "ok"]);
    assert_eq!(row(&exit, "strict")[4..], ["ms", "-", "answers,", "but", "it", "refuses:", "unregistered"]);
    let sent = http.request(1);
    assert!(sent.contains("\r\nUser-Agent: retracker/") && sent.contains("Via: 1.1 retracker-"), "{sent}");
    assert_eq!(
        (values(&http, "event"), values(&http, "numwant")),
        (vec!["started".to_owned(), "stopped".to_owned()], vec!["200".to_owned(), "0".to_owned()])
    );
    assert_eq!(udp.announces().iter().map(|announce| announce.event).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(refusing.visits(), 1);
}

#[test]
fn check_fails_when_one_fails() {
    let (tracker, gone) = (good(), Refusing::new());
    let text = format!(
        "- {{name: web, uri: 'http://{}/announce'}}\n- {{name: gone, uri: 'http://{}/?passkey=sEcReT'}}\n",
        tracker.address(),
        gone.address()
    );
    let exit = check(&text, &[]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert_eq!(row(&exit, "web").last(), Some(&"ok"));
    assert_eq!(row(&exit, "gone")[4..9], ["ms", "-", "fails:", "it", "cannot"]);
    assert!(!exit.stdout.contains("sEcReT"), "{}", exit.stdout);
    // The file itself is valid.
    let exit = check(&text, &["--offline"]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "The file is valid. Forwarders: 2.\n"));
    assert_eq!(tracker.visits(), 2);
}

#[test]
fn the_example_file_is_valid() {
    let exit = retracker(&["check", "--offline", "-f", "forwarders.example.yml"]).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "The file is valid. Forwarders: 5.\n"));
}

#[test]
fn check_names_the_error_in_the_file() {
    for args in [&[][..], &["--offline"]] {
        let exit = check("- uri: http://127.0.0.1/announce\n  timeout: soon\n", args);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""), "{exit:?}");
        assert!(exit.stderr[0].contains(" line 2: timeout is \"soon\", expected "), "{exit:?}");
    }
    let exit = retracker(&["check"]).run();
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr[0].contains("-f") && exit.stderr[0].contains("FORWARDS_FILE"), "{exit:?}");
    let empty = file("");
    let exit = retracker(&["check"]).env("FORWARDS_FILE", empty.path()).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(0), "The file is valid. Forwarders: 0.\n"));
}
