//! `/explain` and `retracker explain` tell which peers of a torrent a client gets, and why.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dsl::{Exit, Server, announce, eventually, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::issuer::{KeyServer, SigningKey, hex};

/// Two sites: `office`, which other sites reach at an external address, and `home`, which has none.
const ZONES: &str = "
- {name: office, networks: [10.1.0.0/16], external-address: [203.0.113.1]}
- {name: home, networks: [192.168.0.0/16]}
";

/// An upstream's answer with four peers: 45.45.45.45:4545, 10.1.0.1:6881, 10.1.0.2:6881 and 172.16.0.1:1.
const FOUR_PEERS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 52\r\n\r\nd8:intervali1800e5:peers24:\x2d\x2d\x2d\x2d\x11\xc1\
                            \x0a\x01\x00\x01\x1a\xe1\x0a\x01\x00\x02\x1a\xe1\xac\x10\x00\x01\x00\x01e";

fn network(forwarders: &str, args: &[&str]) -> (Server, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (zones, forwarders) = (file("zones.yml", ZONES), file("forwarders.yml", forwarders));
    let files = ["--zones", zones.to_str().unwrap(), "-f", forwarders.to_str().unwrap(), "-t", "20", "-p"];
    (retracker(&[&files[..], args].concat()).start(), folder)
}

/// Returns the text of `/explain` about a client at this address.
fn text(server: &Server, client: &str) -> String {
    let reply = server.get(format!("/explain?torrent={}&as={client}", hex("t")));
    assert_eq!(reply.status, 200, "{}", reply.text());
    String::from_utf8(reply.body).unwrap()
}

/// Returns whether a line of the text begins with `begin` and ends with `end`.
fn has(text: &str, begin: &str, end: &str) -> bool {
    text.lines().map(str::trim).any(|line| line.starts_with(begin) && line.ends_with(end))
}

#[test]
fn each_peer_is_given_or_not_for_a_reason() {
    let (server, _folder) = network("[]", &[]);
    for (peer, ip, is_seed) in [
        ("office seed", "10.1.0.1", true),
        ("office leecher", "10.1.0.2", false),
        ("home leecher", "192.168.0.1", false),
        ("public", "9.9.9.9", false),
    ] {
        let announce = announce("t", peer).at(ip);
        server.get(if is_seed { announce.seed() } else { announce }.target());
    }
    let office = text(&server, "10.1.0.7");
    assert!(has(&office, "The tracker has no peer at this address, so it counts as a leecher, in zone office.", ""));
    assert!(has(&office, "There are no access rules", "every client may announce."), "{office}");
    assert!(has(&office, "Local peers that it gets: 3 of 4.", ""), "{office}");
    assert!(
        has(&office, "gets      seed 10.1.0.1:6881, zone office, an address that it claims, announced ", " ago"),
        "{office}"
    );
    assert!(has(&office, "gets      leecher 9.9.9.9:6881, an address that it claims, announced ", " ago"), "{office}");
    let unreachable = "the client cannot reach this address, and no external address is known for the peer's network";
    assert!(has(&office, "not given leecher 192.168.0.1:6881, zone home, ", unreachable), "{office}");
    // A client of the other site gets the office's external address.
    let home = text(&server, "192.168.0.9");
    // Both peers of the office have the same port, and the NAT forwards the port to only one of them.
    assert_eq!(home.matches("as 203.0.113.1:6881, the external address of its network").count(), 1, "{home}");
    let same = "the client gets another peer at the same external address and port";
    assert_eq!(home.matches(same).count(), 1, "{home}");
    // A client on the internet gets only peers with public addresses.
    let outside = text(&server, "8.8.8.8");
    assert!(has(&outside, "gets      leecher 9.9.9.9:6881", ""), "{outside}");
    assert!(has(&outside, "not given leecher 192.168.0.1:6881", unreachable), "{outside}");
    // A client does not get itself as a peer.
    let seed = text(&server, "10.1.0.1");
    assert!(has(&seed, "It is the seed at port 6881, in zone office.", ""), "{seed}");
    assert!(has(&seed, "not given seed 10.1.0.1:6881", "it is the client itself"), "{seed}");
    let another = text(&server, "10.1.0.1:7000");
    assert!(has(&another, "gets      seed 10.1.0.1:6881", ""), "another client at this address: {another}");
    server.get(announce("t", "second seed").at("10.1.0.3").seed().target());
    let seed = text(&server, "10.1.0.1");
    assert!(has(&seed, "not given seed 10.1.0.3:6881", "neither of the two downloads"), "{seed}");
    let unknown = server.get(format!("/explain?torrent={}&as=10.1.0.1", hex("u")));
    assert!(unknown.text().contains("No client has announced this torrent here lately."), "{}", unknown.text());
}

#[test]
fn nothing_changes() {
    let upstream = FakeTracker::start(sends(FOUR_PEERS));
    let (server, _folder) = network(&format!("- uri: http://{}/announce\n", upstream.address()), &[]);
    server.get(announce("t", "a").at("10.1.0.1").target());
    let before = (upstream.visits(), server.get("/metrics").text().len());
    for client in ["10.1.0.1", "10.1.0.9", "192.168.0.1"] {
        text(&server, client);
    }
    assert_eq!(upstream.visits(), before.0);
    let reply = server.get(announce("t", "b").at("10.1.0.2").port(1).target());
    assert_eq!(reply.counts()[1], 2, "/explain recorded a client: {}", reply.text());
}

#[test]
fn forwarders_say_what_they_gave_and_when_they_are_asked_next() {
    let upstream = FakeTracker::start(sends(FOUR_PEERS));
    let dead = FakeTracker::start(sends("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"));
    let hidden = FakeTracker::start(sends(FOUR_PEERS));
    let entries = format!(
        "- {{name: good, uri: 'http://{}/a'}}\n- {{name: dead, uri: 'http://{}/a'}}\n\
         - {{name: hidden, uri: 'http://{}/a', only: [{}]}}\n",
        upstream.address(),
        dead.address(),
        hidden.address(),
        hex("u")
    );
    let (server, _folder) = network(&entries, &[]);
    assert!(text(&server, "10.1.0.9").contains("No client has been announced there for this torrent."));
    server.get(announce("t", "a").at("10.1.0.1").target());
    let office = eventually("both upstreams have answered", || {
        Some(text(&server, "10.1.0.2")).filter(|text| text.contains("last error"))
    });
    assert!(has(&office, "good: circuit closed.", ""), "{office}");
    assert!(has(&office, "Our clients that are announced there: 1; the next one is due in ", "min."), "{office}");
    // Of the four peers, 10.1.0.1 is our own client, and 172.16.0.1 is in no network of the office.
    let gave = "Peers in it: 4. Of these, the client may get 2, 1 at addresses that the client cannot reach, 1 our own \
                clients.";
    assert!(office.contains(gave), "{office}");
    assert!(has(&office, "dead: circuit closed, last error ", " ago: it answers with HTTP status 500."), "{office}");
    assert!(
        has(&office, "The torrent is not announced there, because of only or except in its entry.", ""),
        "{office}"
    );
    let outside = text(&server, "8.8.8.8");
    assert!(outside.contains("the client may get 1, 2 at addresses that the client cannot reach, "), "{outside}");
}

#[test]
fn access_rules_have_their_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yml");
    let rules = format!("networks: {{deny: 192.168.0.0/16}}\ntorrents: {{deny: {}}}\n", hex("u"));
    fs::write(&path, rules).unwrap();
    let server = retracker(&["-p", "--access", path.to_str().unwrap()]).start();
    assert!(text(&server, "192.168.0.1").contains("The access rules refuse announces from this network."));
    assert!(text(&server, "10.0.0.1").contains("The access rules admit it."));
    let other = server.get(format!("/explain?torrent={}&as=10.0.0.1", hex("u"))).text();
    assert!(other.contains("The access rules refuse this torrent."), "{other}");
}

/// Returns an upstream's reply with these entries: four bytes of address and two of port.
fn upstream_reply(entries: &[[u8; 6]]) -> Vec<u8> {
    let list = entries.concat();
    let body = [format!("d8:intervali1800e5:peers{}:", list.len()).as_bytes(), &list, b"e"].concat();
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

#[test]
fn peers_of_a_forwarder_that_are_not_kept_are_counted_by_reason() {
    let public = |n: u16| {
        let [high, low] = n.to_be_bytes();
        [45, 45, 1, 1, high, low]
    };
    let mut entries: Vec<[u8; 6]> = (1..=203).map(public).collect();
    // The list has more entries than the tracker keeps, our own client, two repeats, and three addresses or ports that no
    // peer can have.
    entries.push([10, 1, 0, 1, 0x1a, 0xe1]);
    entries.extend([public(1), public(2)]);
    entries.extend([[45, 45, 1, 1, 0, 0], [127, 0, 0, 1, 0, 9], [0, 0, 0, 0, 0, 9]]);
    let upstream = FakeTracker::start(sends(upstream_reply(&entries)));
    let (server, _folder) = network(&format!("- uri: http://{}/a\n", upstream.address()), &[]);
    server.get(announce("t", "a").at("10.1.0.1").target());
    let text = text(&server, "10.1.0.2");
    let expected = "Peers in it: 209. Of these, the client may get 200, 1 our own clients, 2 repeats of another, 3 at \
                    addresses or ports that no peer can have, 3 more than a list keeps.";
    assert!(text.contains(expected), "{text}");
    let mut connection = server.connect();
    let target = format!("/explain?torrent={}&as=10.1.0.2", hex("t"));
    let json: Value =
        serde_json::from_slice(&connection.get_with(target, &[("Accept", "application/json")]).body).unwrap();
    let list = &json["forwarders"][0]["torrent"]["list"];
    let left_out = json!({ "own_clients": 1, "repeats": 2, "unusable": 3, "too_many": 3 });
    assert_eq!((&list["left_out"], &list["left_out_at_arrival"], &list["useful"]), (&left_out, &json!(9), &json!(200)));
}

#[test]
fn a_program_and_a_token_make_the_verdict_definite() {
    let key = SigningKey::p256("key");
    let keys = KeyServer::start(Some(&[&key]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yml");
    fs::write(&path, format!("{}clients: {{deny: -XX20}}\n", keys.rules())).unwrap();
    let server = retracker(&["-p", "--access", path.to_str().unwrap()]).start();
    server.logged("jwt keys of http://");
    let fetched = keys.requests().len();
    let refusals = || -> Value {
        let status: Value = serde_json::from_slice(&server.get("/api/v1/status").body).unwrap();
        status["announces_refused_by_rule"].clone()
    };
    let before = refusals();
    let (right, other) = (key.token("t"), key.token("u"));
    let unknown = SigningKey::p256("unknown").token("t");
    for (client, token, expected) in [
        ("", "", "The access rules admit it if it has a token for this torrent."),
        ("-XX2000-", "", "The access rules refuse its program."),
        ("-XX", &right, "The access rules admit it if its program may announce: "),
        ("", &right, "The access rules admit it if its program may announce: "),
        ("-XX30", &right, "The access rules admit it."),
        ("-XX2", &right, "The access rules admit it if its program may announce: "),
        ("-XX20", &right, "The access rules refuse its program."),
        ("-TR", &other, "The access rules refuse its token: jwt is for another torrent."),
        (
            "-TR",
            &unknown,
            "The access rules refuse its token: jwt is signed with a key that the tracker does not know.",
        ),
        ("-TR", "x", "The access rules refuse its token: jwt is not a token."),
    ] {
        let target = format!("/explain?torrent={}&as=10.0.0.1&client={client}&token={token}", hex("t"));
        let reply = String::from_utf8(server.get(target).body).unwrap();
        assert!(has(&reply, expected, ""), "{client} {token}: {reply}");
    }
    // `retracker explain` gives the same verdicts.
    let file = folder.path().join("token");
    fs::write(&file, format!("{right}\n")).unwrap();
    let of_file = ["--token-file", file.to_str().unwrap()];
    let exit = explain(&server, &[&[&*hex("t"), "--client", "-TR4050-"][..], &of_file].concat());
    assert!(has(&exit.stdout, "The access rules admit it.", ""), "{exit:?}");
    let exit = explain(&server, &[&hex("t"), "--client", "-XX2000-"]);
    assert!(has(&exit.stdout, "The access rules refuse its program.", ""), "{exit:?}");
    fs::write(&file, "\n").unwrap();
    let exit = explain(&server, &[&[&*hex("t")][..], &of_file].concat());
    assert!(exit.code == Some(2) && exit.stderr[0].contains("expected a JWT in one line"), "{exit:?}");
    let exit = explain(&server, &[&hex("t"), "--client", ""]);
    assert!(exit.code == Some(2) && exit.stderr[0].contains("expected the beginning of a peer id"), "{exit:?}");
    // If an announce has a token with an unknown key, the tracker fetches the keys again. `/explain` must not cause that.
    assert_eq!((keys.requests().len(), refusals()), (fetched, before), "/explain changes nothing");
    assert!(!server.log().iter().any(|line| line.contains(&right)), "no token is logged");
}

#[test]
fn programs_get_json() {
    let (server, _folder) = network("[]", &[]);
    server.get(announce("t", "a").at("10.1.0.1").seed().target());
    let mut connection = server.connect();
    let target = format!("/explain?torrent={}&as=10.1.0.2", hex("t"));
    let reply = connection.get_with(target, &[("Accept", "application/json")]);
    let json: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(json["client"], json!({ "ip": "10.1.0.2", "zone": "office", "role": "leecher" }));
    let peer = &json["swarm"]["peers"][0];
    assert_eq!((&peer["given_as"], &peer["hidden_because"]), (&json!("10.1.0.1:6881"), &Value::Null));
    assert_eq!((&json["access"], &json["forwarders"]), (&Value::Null, &json!([])));
}

#[test]
fn wrong_questions_say_what_is_expected() {
    let (server, _folder) = network("[]", &[]);
    for query in [
        "",
        "torrent=abc&as=10.0.0.1",
        &format!("torrent={}", hex("t")),
        &format!("torrent={}&as=x", hex("t")),
        &format!("torrent={}&as=10.0.0.1&client=-", hex("t")),
    ] {
        let reply = server.get(format!("/explain?{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.text().contains("expected /explain?torrent=HASH&as=ADDRESS"), "{query}");
    }
    for client in ["[2001:db8::1]:6881", "%5B2001:db8::1%5D", "2001:db8::1", "10.0.0.1%3A80", "::ffff:10.0.0.1"] {
        assert_eq!(server.get(format!("/explain?torrent={}&as={client}", hex("t"))).status, 200, "{client}");
    }
    let mut connection = server.connect();
    let target = format!("/explain?torrent={}&as=10.1.0.2", hex("t"));
    assert_eq!(connection.get_with(&target, &[("Host", "evil.example")]).status, 403);
    assert_eq!(Server::start(&[]).get(target).status, 404, "the operator's pages are switched off");
}

/// Runs `retracker explain` with these arguments. The command asks this server.
fn explain(server: &Server, args: &[&str]) -> Exit {
    retracker(&[&["explain"], args].concat()).env("LISTEN_ADDR", &server.addresses()[0]).run()
}

#[test]
fn the_command_prints_the_same() {
    let (server, folder) = network("[]", &[]);
    server.get(announce("t", "a").at("10.1.0.1").target());
    let exit = explain(&server, &[&hex("t"), "--as", "192.168.0.1"]);
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    let first = |text: &str| text.lines().take(6).collect::<Vec<_>>().join("\n");
    assert_eq!(first(&exit.stdout), first(&text(&server, "192.168.0.1")));
    assert!(explain(&server, &[&hex("t")]).stdout.starts_with("What a client at 127.0.0.1 gets"));
    // The SHA-1 of this `info` was computed with another program.
    let torrent = folder.path().join("a.torrent");
    fs::write(
        &torrent,
        "d8:announce3:url4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
    )
    .unwrap();
    let exit = explain(&server, &["--torrent", torrent.to_str().unwrap()]);
    assert!(exit.stdout.contains("gets of torrent 4de9b0e9855b349178fb7a42f37dc0f2fac3018d now."), "{exit:?}");
}

#[test]
fn the_command_says_what_is_wrong() {
    let (server, folder) = network("[]", &[]);
    let empty = folder.path().join("empty.torrent");
    fs::write(&empty, "de").unwrap();
    for (args, code, expected) in [
        (vec!["abc"], 2, "expected the 40 hexadecimal digits of an info-hash"),
        (vec![&*hex("t"), "--as", "here"], 2, "--as is \"here\", expected an address such as 192.168.1.7"),
        (vec!["--torrent", empty.to_str().unwrap()], 2, "it has no info, expected a torrent file"),
        (vec![], 2, "HASH"),
    ] {
        let exit = explain(&server, &args);
        assert_eq!((exit.code, exit.stderr.len()), (Some(code), 1), "{exit:?}");
        assert!(exit.stderr[0].contains(expected), "{exit:?}");
    }
    let without_pages = Server::start(&[]);
    let exit = explain(&without_pages, &[&hex("t")]);
    assert!(
        exit.code == Some(1) && exit.stderr[0].contains("serves no operator's pages: start it with -p"),
        "{exit:?}"
    );
    let address = without_pages.addresses()[0].clone();
    without_pages.stop();
    let exit = retracker(&["explain", &hex("t")]).env("LISTEN_ADDR", &address).run();
    assert!(exit.code == Some(1) && exit.stderr[0].contains("nothing answers on "), "{exit:?}");
}
