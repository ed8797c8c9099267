//! Chihaya's configuration files: what `retracker check --chihaya FILE` says about them, and servers that use them.
//! `quay-v1.json` and `quay-v2.yaml` are exact copies from the documentation of Quay, a container registry.
//!
//! `INSTA_UPDATE=always cargo test --test it chihaya` rewrites the expected output.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dsl::{
    AnnounceQuery, CertificateFiles, Exit, Reply, Server, TestConnection, announce, escape, eventually, id, observer,
    request, retracker,
};
use crate::fake_tracker::{FakeTracker, sends};
use crate::issuer::{AUDIENCE, ISSUER, KeyServer, SigningKey, claims, encoded, hex};
use crate::service::{ONE_PEER, forwarders};
use crate::udp_client::{UdpAnnounce, UdpClient, scrape_packet, udp_announce};

const V2: &str = include_str!("chihaya/quay-v2.yaml");
const V1: &str = include_str!("chihaya/quay-v1.json");

/// A folder with files of Chihaya.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs `retracker check --chihaya` on a file with this text. The output has the file's name in place of its path.
    fn lint(&self, name: &str, text: &str) -> Exit {
        let path = self.write(name, text);
        let mut exit = check(&path);
        let path = path.to_str().unwrap();
        exit.stdout = exit.stdout.replace(path, name);
        exit.stderr.iter_mut().for_each(|line| *line = line.replace(path, name));
        exit
    }
}

fn check(path: &Path) -> Exit {
    retracker(&["check", "--chihaya", path.to_str().unwrap()]).run()
}

/// Replaces the placeholders in a file of Quay, as Quay's documentation says.
fn replaced(text: &str) -> String {
    let text = text.replace("https://{QE LOCATION}", "{QE LOCATION}").replace("http://{TRACKER", "{TRACKER");
    text.replace("{QE LOCATION}", "https://quay.example").replace("{TRACKER LOCATION}", "https://tracker.example")
}

#[test]
fn the_file_of_v2_as_the_page_shows_it() {
    let exit = Files::new().lint("chihaya.yaml", V2);
    assert_eq!((exit.code, exit.stderr.len()), (Some(1), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn the_file_of_v2_with_its_placeholders_replaced() {
    let exit = Files::new().lint("chihaya.yaml", &replaced(V2));
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn the_file_of_v1_as_the_page_shows_it() {
    let exit = Files::new().lint("config.json", V1);
    assert_eq!((exit.code, exit.stderr.len()), (Some(1), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn the_file_of_v1_with_its_placeholders_replaced() {
    let exit = Files::new().lint("config.json", &replaced(V1));
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn exit_codes() {
    let files = Files::new();
    let open = "chihaya:\n  announce_interval: 10m\n  http:\n    addr: :80\n";
    let exit = files.lint("a.yaml", open);
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    assert!(exit.stdout.contains("All that restricts access is in force; warnings: 0.\n"), "{exit:?}");

    // If values are wrong, the whole report is printed. Then the program ends with the first error, as after any wrong
    // setting.
    let exit = files.lint("a.yaml", &open.replace("10m", "10").replace("http:", "http:\n    max_numwant: x"));
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert_eq!(exit.stdout.matches("error: ").count(), 2, "{exit:?}");
    assert!(exit.stdout.contains("Wrong values: 2"), "{exit:?}");
    let [line] = &exit.stderr[..] else { panic!("{exit:?}") };
    assert!(line.starts_with("retracker: a.yaml line 2: announce_interval is \"10\", expected a duration"), "{line}");

    // These texts are not Chihaya files.
    for text in ["", "a: 1\n", "{", "chihaya: [\n", "\u{0}"] {
        let exit = files.lint("a.yaml", text);
        assert_eq!((exit.code, exit.stdout.as_str(), exit.stderr.len()), (Some(2), "", 1), "{text:?}: {exit:?}");
        assert!(exit.stderr[0].contains("a.yaml"), "{exit:?}");
    }
    let missing = check(&files.0.path().join("missing"));
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.stderr[0].contains("--chihaya: ") && missing.stderr[0].contains("expected chihaya.yaml"),
        "{missing:?}"
    );
}

#[test]
fn the_path_may_have_variables_and_come_from_one() {
    let files = Files::new();
    let path = files.write("chihaya.yaml", "chihaya:\n  announce_interval: 10m\n");
    let folder = files.0.path();
    for setup in [
        retracker(&["check", "--chihaya", "$FOLDER/chihaya.yaml"]),
        retracker(&["check", "--chihaya=${FOLDER}/chihaya.yaml"]).env("CHIHAYA_CONFIG", "/no/such/file"),
        retracker(&["--chihaya", "$FOLDER/chihaya.yaml", "check"]),
        retracker(&["check"]).env("CHIHAYA_CONFIG", "$FOLDER/chihaya.yaml"),
    ] {
        let exit = setup.env("FOLDER", folder).run();
        assert!(exit.code == Some(0) && exit.stdout.starts_with(path.to_str().unwrap()), "{exit:?}");
    }
}

#[test]
fn both_files_are_checked_when_both_are_given() {
    let files = Files::new();
    let chihaya = files.write("chihaya.yaml", "chihaya:\n  announce_interval: 10m\n");
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let exit = retracker(&["check", "--chihaya", chihaya.to_str().unwrap(), "-f", file.path().to_str().unwrap()]).run();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("announce_interval: 10m -> ") && exit.stdout.contains("VERDICT"), "{exit:?}");
}

// --- Serving ---------------------------------------------------------------------------------------------------

/// Starts a server with a Chihaya file. The numbers are those of the file's addresses for HTTP, UDP and operators.
fn serve(file: &Path, args: &[&str], (http, udp, operators): (usize, usize, usize)) -> Server {
    let args = [&["--chihaya", file.to_str().unwrap()], args].concat();
    retracker(&args).listens(http, udp, operators).start()
}

/// Changes the addresses in a file so that the system chooses the ports.
fn at_any_port(text: &str) -> String {
    (6880..=6882).fold(text.to_owned(), |text, port| text.replace(&format!("0.0.0.0:{port}"), "127.0.0.1:0"))
}

fn reason(reply: &Reply) -> String {
    reply.string("failure reason").unwrap_or_default()
}

/// Sends an announce that may be refused. All announces come from the same host, whose address a header names.
fn ask(server: &Server, announce: &AnnounceQuery) -> Reply {
    server.connect().get_with(announce.target(), &[("X-Forwarded-For", "203.0.113.1")])
}

/// A token as a registry issues it, and tokens that each have one fault.
struct Tokens {
    right: String,
    of_another_torrent: String,
    for_another_audience: String,
    of_another_issuer: String,
    by_another_key: String,
    altered: String,
    without_torrent: String,
}

impl Tokens {
    fn new(key: &SigningKey) -> Self {
        let with = |name: &str, value: Value| {
            let mut claims = claims("t");
            claims[name] = value;
            key.sign(&key.header(), &claims)
        };
        let right = key.token("t");
        let parts: Vec<_> = right.split('.').collect();
        Self {
            of_another_torrent: key.token("u"),
            for_another_audience: with("aud", json!("http://elsewhere/announce")),
            of_another_issuer: with("iss", json!("elsewhere")),
            by_another_key: SigningKey::ed25519("k").token("t"),
            altered: format!("{}.{}.{}", parts[0], encoded(claims("u").to_string()), parts[2]),
            without_torrent: with("infohash", Value::Null),
            right,
        }
    }
}

#[test]
fn the_registrys_file_of_v2_lets_in_who_has_a_token_and_refuses_in_chihayas_words() {
    let key = SigningKey::rsa("k");
    let keys = KeyServer::start(Some(&[&key]));
    let text = at_any_port(V2).replace("'{TRACKER LOCATION}/announce'", AUDIENCE);
    let text = text.replace("'{QE LOCATION}/keys/services/quay/keys'", &keys.url()).replace("'{QE LOCATION}'", ISSUER);
    let files = Files::new();
    let server = serve(&files.write("chihaya.yaml", &text), &[], (1, 0, 1));
    server.logged("jwt keys of http://");
    let tokens = Tokens::new(&key);
    let seed = ask(&server, &announce("t", "seed").seed().port(7001).with("jwt", &tokens.right));
    assert_eq!((reason(&seed).as_str(), seed.int("interval"), seed.int("min interval")), ("", 900, 900));
    for (token, why) in [
        (None, "unapproved request: missing jwt"),
        (Some(&tokens.of_another_torrent), "unapproved request: invalid jwt"),
        (Some(&tokens.for_another_audience), "unapproved request: invalid jwt"),
        (Some(&tokens.of_another_issuer), "unapproved request: invalid jwt"),
        (Some(&tokens.by_another_key), "unapproved request: invalid jwt"),
        (Some(&tokens.altered), "unapproved request: invalid jwt"),
        (Some(&tokens.without_torrent), "unapproved request: invalid jwt"),
    ] {
        let bare = announce("t", "leecher");
        let announce = if let Some(token) = token { bare.with("jwt", token) } else { bare };
        let reply = ask(&server, &announce);
        assert_eq!(reason(&reply), why);
        assert!(!reply.text().contains("peers"), "{}", reply.text());
    }
    let reply = ask(&server, &announce("t", "leecher").with("jwt", &tokens.right));
    assert_eq!(reply.peers().len(), 1, "{}", reply.text());

    let mut operator = TestConnection::to(&server.admin_addresses()[0]);
    let metrics = String::from_utf8(operator.get("/metrics").body).unwrap();
    assert!(metrics.contains("retracker_access_refused_total{rule=\"jwt\"} 7"), "{metrics}");
    assert_eq!(operator.get("/").status, 200);
    assert_eq!(server.get("/metrics").status, 404, "the clients' listener has no metrics");
}

#[test]
fn the_registrys_file_of_v1_refuses_in_chihayas_words() {
    let key = SigningKey::rsa("k");
    for issuer in [None, Some(ISSUER)] {
        let keys = KeyServer::start(Some(&[&key]));
        if let Some(issuer) = issuer {
            keys.publish_as(&[&key], issuer);
        }
        let text = at_any_port(V1).replace("http://{TRACKER LOCATION}/announce", AUDIENCE);
        let text = text.replace("https://{QE LOCATION}/keys/services/quay/keys", &keys.url());
        let files = Files::new();
        let server = serve(&files.write("config.json", &text), &[], (1, 1, 1));
        server.logged("jwt keys of http://");
        let tokens = Tokens::new(&key);
        let unsigned = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(claims("t").to_string()));
        // If the key set names no issuer, a token that a key of the set signed is accepted from any issuer.
        let about_issuer = if issuer.is_some() { "Failed to validate JWT issuer claim" } else { "" };
        for (token, why) in [
            (&tokens.right, ""),
            (&tokens.of_another_torrent, "Failed to match infohash claim with requested infohash"),
            (&tokens.for_another_audience, "Failed to validate JWT audience claim"),
            (&tokens.of_another_issuer, about_issuer),
            (&tokens.by_another_key, "Failed to verify JWT signature with available verifiers"),
            (&tokens.altered, "Failed to verify JWT signature with available verifiers"),
            (&tokens.without_torrent, "Failed to validate JWT infohash claim"),
            (&unsigned, "Failed to verify JWT signature with available verifiers"),
            (&String::new(), "Failed to parse JWT"),
            (&"a.b.c".to_owned(), "Failed to parse JWT"),
            (&"a".repeat(9000), "Failed to parse JWT"),
        ] {
            assert_eq!(reason(&ask(&server, &announce("t", "a").with("jwt", token))), why, "{token}");
        }
        assert_eq!(reason(&ask(&server, &announce("t", "a"))), "malformed request", "there is no token");
        let udp = UdpClient::of(&server);
        let packet =
            udp_announce("t", "b").url_data(&format!("/announce?jwt={}", tokens.of_another_torrent)).packet(udp.id);
        assert_eq!(udp.refused(&packet), "Failed to match infohash claim with requested infohash");
    }
}

#[test]
fn the_two_files_letter_for_letter_start_and_let_nobody_in() {
    for (name, text, listeners) in [("chihaya.yaml", V2, (1, 0, 1)), ("config.json", V1, (1, 1, 1))] {
        let files = Files::new();
        let server = serve(&files.write(name, &at_any_port(text)), &[], listeners);
        server.logged("which is to be replaced by your own");
        assert!(!reason(&ask(&server, &announce("t", "a"))).is_empty(), "{name}");
        assert!(!reason(&ask(&server, &announce("t", "a").with("jwt", "a.b.c"))).is_empty(), "{name}");
    }
}

#[test]
fn approvals_are_in_force() {
    let http = "chihaya:\n  http:\n    addr: 127.0.0.1:0\n  prehooks:\n";
    let client = "  - name: client approval\n    options:\n";
    let torrent = "  - name: torrent approval\n    options:\n";
    for (rules, words) in [
        (format!("{client}      whitelist: [OP1011]\n"), "unapproved client"),
        (format!("{client}      whitelist: [TR4000]\n"), ""),
        (format!("{client}      blacklist: [TR4000]\n"), "unapproved client"),
        (format!("{torrent}      whitelist: [{}]\n", hex("u")), "unapproved torrent"),
        (format!("{torrent}      whitelist: [{}]\n", hex("t")), ""),
        (format!("{torrent}      blacklist: [{}]\n", hex("t")), "unapproved torrent"),
    ] {
        let files = Files::new();
        let server = serve(&files.write("chihaya.yaml", &format!("{http}{rules}")), &[], (1, 0, 0));
        assert_eq!(reason(&server.get(announce("t", "-TR4000-").target())), words, "{rules}");
    }
    let files = Files::new();
    let text = r#"{"httpListenAddr": "127.0.0.1:0", "udpListenAddr": "", "apiListenAddr": "", "createOnAnnounce": true,
        "clientWhitelistEnabled": true, "clientWhitelist": ["OP1011"]}"#;
    let server = serve(&files.write("config.json", text), &[], (1, 0, 0));
    assert_eq!(reason(&server.get(announce("t", "-TR4000-").target())), "client is not approved");
    assert_eq!(reason(&server.get(announce("t", "OP1011").target())), "");
}

#[test]
fn other_addresses_count_as_the_file_says() {
    for (may, expected) in [("true", 1), ("false", 0)] {
        let text = format!("chihaya:\n  http:\n    addr: 127.0.0.1:0\n    allow_ip_spoofing: {may}\n");
        let files = Files::new();
        let server = serve(&files.write("chihaya.yaml", &text), &[], (1, 0, 0));
        server.get(announce("t", "a").seed().with("ip", "203.0.113.9").target());
        let reply = server.get(announce("t", "b").target());
        let found = reply.peers().iter().filter(|peer| peer.starts_with("203.0.113.9:")).count();
        assert_eq!(found, expected, "{}", reply.text());
    }
}

#[test]
fn https_of_the_file_is_served() {
    let certificate = CertificateFiles::new();
    let text = format!(
        "chihaya:\n  http:\n    https_addr: 127.0.0.1:0\n    tls_cert_path: {}\n    tls_key_path: {}\n",
        certificate.chain().display(),
        certificate.key().display()
    );
    let files = Files::new();
    let server = serve(&files.write("chihaya.yaml", &text), &[], (1, 0, 0));
    let mut connection = TestConnection::over_tls(&server.addresses()[0], certificate.authority.client()).unwrap();
    assert_eq!(connection.announce(&announce("t", "a")).status, 200);
    let missing = text.replace("_key_path: ", "_key_path: /no/such/file");
    let exit = retracker(&["--chihaya", files.write("b.yaml", &missing).to_str().unwrap()]).run();
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert!(exit.stderr[0].contains("/no/such/file"), "{exit:?}");
}

#[test]
fn a_setting_that_the_file_stands_for_is_an_error_beside_it() {
    let files = Files::new();
    let path = files.write("chihaya.yaml", "chihaya:\n  http:\n    addr: 127.0.0.1:0\n");
    let path = path.to_str().unwrap();
    for args in [
        ["-l", "127.0.0.1:0"],
        ["-u", "127.0.0.1:0"],
        ["--admin-listen", "127.0.0.1:0"],
        ["-i", "30"],
        ["-a", "180"],
        ["--ip-param", "never"],
        ["--x-real-ip", "-d"],
    ] {
        let exit = retracker(&[&["--chihaya", path][..], &args[..]].concat()).run();
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(exit.stderr[0].contains("expected none beside --chihaya"), "{exit:?}");
    }
    let exit = retracker(&["--chihaya", path]).env("PEER_AGE", "5").run();
    assert!(exit.stderr[0].contains("PEER_AGE") && exit.code == Some(2), "{exit:?}");

    // docker-compose.yml sets every variable, so a variable with the default value is accepted beside Chihaya's file.
    // Settings that Chihaya does not have are accepted beside the file, too.
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let forwarders = forwarders(&upstream);
    let setup = retracker(&["--chihaya", path, "-f", forwarders.path().to_str().unwrap(), "-p"]);
    let server =
        setup.env("PEER_AGE", "180").env("LISTEN_ADDR", ":80").env("REAL_IP_HEADER", "").listens(1, 0, 0).start();
    let reply = server.get(announce("t", "a").target());
    assert_eq!(reply.peers().len(), 1, "{}", reply.text());
}

#[test]
fn a_file_that_cannot_be_served_with_ends_the_start() {
    let files = Files::new();
    for (name, text, expected) in [
        ("chihaya.yaml", "chihaya:\n  announce_interval: 10m\n", "no address to listen on"),
        ("chihaya.yaml", "chihaya:\n  announce_interval: 10\n", "line 2: announce_interval"),
        ("chihaya.yaml", "chihaya:\n  prehooks:\n  - name: jwd\n", "line 3: prehooks[0].name"),
        ("config.json", "{\"createOnAnnounce\": false, \"apiListenAddr\": \"\"}", "createOnAnnounce"),
    ] {
        let exit = retracker(&["--chihaya", files.write(name, text).to_str().unwrap()]).run();
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(exit.stderr[0].contains(expected) && exit.stderr.len() == 1, "{exit:?}");
    }
}

#[test]
fn intervals_and_numbers_are_as_the_file_says() {
    let text = "chihaya:\n  announce_interval: 20m\n  min_announce_interval: 10m\n  http:\n    addr: 127.0.0.1:0\n    \
                max_numwant: 4\n    default_numwant: 2\n    max_scrape_infohashes: 1\n  udp:\n    addr: 127.0.0.1:0\n    \
                max_numwant: 3\n    default_numwant: 1\n    max_scrape_infohashes: 2\n  prehooks:\n  - name: interval variation\n    options:\n      modify_response_probability: 1\n      \
                max_increase_delta: 30\n      modify_min_interval: true\n";
    let files = Files::new();
    let server = serve(&files.write("chihaya.yaml", text), &[], (1, 1, 0));
    for n in 1..=6 {
        server.get(announce("t", &format!("seed {n}")).seed().port(7000 + n).target());
    }
    for (numwant, expected) in [(None, 2), (Some(3), 3), (Some(200), 4)] {
        let announce = announce("t", "leecher").event("started");
        let reply = server.get(numwant.map_or(announce.clone(), |n| announce.numwant(n)).target());
        assert_eq!(reply.peers().len(), expected, "{numwant:?}: {}", reply.text());
        let added = reply.int("interval") - 1200;
        assert!((1..=30).contains(&added) && reply.int("min interval") == 600 + added, "{}", reply.text());
    }
    let [t, u] = ["t", "u"].map(|torrent| escape(&id(torrent)));
    let scraped = server.get(format!("/scrape?info_hash={t}&info_hash={u}")).text();
    assert!(scraped.contains("8:completei6e") && scraped.matches("8:complete").count() == 1, "{scraped}");
    let udp = UdpClient::of(&server);
    assert_eq!(udp.ask(&scrape_packet(udp.id, &["t", "u", "v"].map(id))).len(), 8 + 2 * 12);
    for (numwant, expected) in [(-1, 1), (2, 2), (200, 3)] {
        let response = udp.ask(&UdpAnnounce { numwant, ..udp_announce("t", "leecher") }.packet(udp.id));
        assert_eq!(response.len(), 20 + expected * 6, "{numwant}");
    }
}

#[test]
fn another_address_may_count_over_one_protocol_only() {
    let text = "chihaya:\n  http:\n    addr: 127.0.0.1:0\n    allow_ip_spoofing: true\n  udp:\n    addr: 127.0.0.1:0\n";
    let files = Files::new();
    let server = serve(&files.write("chihaya.yaml", text), &[], (1, 1, 0));
    server.get(announce("t", "a").port(7001).with("ip", "10.0.0.1").target());
    let udp = UdpClient::of(&server);
    udp.ask(&UdpAnnounce { port: 7002, ..udp_announce("t", "b") }.at([10, 0, 0, 2]).packet(udp.id));
    let peers = server.get(announce("t", "c").port(7003).target()).peers();
    assert_eq!(peers, ["10.0.0.1:7001", "127.0.0.1:7002"]);
}

#[test]
fn over_udp_announces_may_be_at_any_path() {
    let text =
        "chihaya:\n  http:\n    addr: 127.0.0.1:0\n    announce_routes: [/secret]\n  udp:\n    addr: 127.0.0.1:0\n";
    let files = Files::new();
    let server = serve(&files.write("chihaya.yaml", text), &[], (1, 1, 0));
    let udp = UdpClient::of(&server);
    for path in ["", "/secret", "/x/announce?y=1"] {
        let response = udp.ask(&udp_announce("t", "b").url_data(path).packet(udp.id));
        assert_eq!(response[..4], [0, 0, 0, 1], "{path}");
    }
}

#[test]
fn instances_with_one_key_accept_each_others_connection_ids() {
    let files = Files::new();
    let start = |name: &str, keys: &str| {
        let text = format!("chihaya:\n  http:\n    addr: 127.0.0.1:0\n  udp:\n    addr: 127.0.0.1:0\n    {keys}\n");
        serve(&files.write(name, &text), &[], (1, 1, 0))
    };
    let one = start("one.yaml", "private_key: one secret\n    max_clock_skew: 10s");
    let id = UdpClient::of(&one).id;
    let accepts = |server: &Server| {
        let response = UdpClient::of(server).ask(&scrape_packet(id, &[[0; 20]]));
        response[..4] == [0, 0, 0, 2]
    };
    assert!(accepts(&one) && accepts(&start("same.yaml", "private_key: one secret\n    max_clock_skew: 10s")));
    assert!(!accepts(&start("other.yaml", "private_key: another")) && !accepts(&start("none.yaml", "")));
}

#[test]
fn a_connection_carries_several_requests_only_if_the_file_says_so() {
    let files = Files::new();
    for (key, keeps) in [("", false), ("enable_keepalive: false", false), ("enable_keepalive: true", true)] {
        let text = format!("chihaya:\n  metrics_addr: 127.0.0.1:0\n  http:\n    addr: 127.0.0.1:0\n    {key}\n");
        let server = serve(&files.write("chihaya.yaml", &text), &[], (1, 0, 1));
        for target in [announce("t", "a").target(), "/health".to_owned()] {
            let reply = server.get(&target);
            assert_eq!(reply.header("connection"), (!keeps).then_some("close"), "{key}: {target}");
        }
        let mut operator = TestConnection::to(&server.admin_addresses()[0]);
        assert_eq!(operator.get("/metrics").header("connection"), None, "Chihaya keeps operators' connections open");
    }
}

#[test]
fn a_client_may_get_peers_of_its_own_family_only() {
    let files = Files::new();
    for (respects, expected) in [("false", vec!["10.0.0.1:1", "[fd00::1]:1"]), ("true", vec!["10.0.0.1:1"])] {
        let keys = format!("\"createOnAnnounce\": true, \"respectAF\": {respects}");
        let server = serve(&files.write("config.json", &v1(&keys)), &[], (1, 0, 1));
        for (peer, ip) in [("a", "10.0.0.1"), ("b", "fd00::1")] {
            server.get(announce("t", peer).port(1).seed().with("ip", ip).target());
        }
        assert_eq!(server.get(observer("t").target()).peers(), expected, "{respects}");
    }
}

#[test]
fn hup_reads_the_rules_of_the_file_again() {
    let files = Files::new();
    let with = |hooks: &str| format!("chihaya:\n  http:\n    addr: 127.0.0.1:0\n{hooks}");
    let hook = |client: &str| {
        with(&format!("  prehooks:\n  - name: client approval\n    options:\n      whitelist:\n      - \"{client}\"\n"))
    };
    let path = files.write("chihaya.yaml", &with(""));
    let server = serve(&path, &[], (1, 0, 0));
    let admits =
        || ["-AA0000-", "-BB0000-"].map(|client| reason(&server.get(announce("t", client).target())).is_empty());
    assert_eq!(admits(), [true, true]);
    for (text, expected, says) in [
        (hook("AA0000"), [true, false], "reloaded the access rules of "),
        (hook("no client"), [true, false], "the access rules do not change"),
        (hook("BB0000"), [false, true], "reloaded the access rules of "),
        (with(""), [true, true], "reloaded the access rules of "),
    ] {
        let before = server.log().len();
        files.write("chihaya.yaml", &text);
        server.signal("HUP");
        eventually("a line of the log", || {
            server.log().iter().skip(before).any(|line| line.contains(says)).then_some(())
        });
        assert_eq!(admits(), expected, "{text}");
    }
}

#[test]
fn announces_and_scrapes_are_where_the_file_says_and_nowhere_else() {
    let text =
        "chihaya:\n  http:\n    addr: 127.0.0.1:0\n    announce_routes: [\"/:passkey/announce\", /hidden/*]\n    \
                scrape_routes: [\"/:passkey/scrape\"]\n"
            .replace("/hidden/*", "\"/hidden/*rest\"");
    let files = Files::new();
    let server = serve(&files.write("chihaya.yaml", &text), &[], (1, 0, 0));
    let query = announce("t", "a").target().split_once('?').unwrap().1.to_owned();
    for (path, counts) in [
        ("/key/announce", true),
        ("/hidden/a/b", true),
        ("/announce", false),
        ("/", false),
        ("/announce.php", false),
        ("/a/b/announce", false),
    ] {
        let reply = server.get(format!("{path}?{query}"));
        assert_eq!(reply.text().contains("8:interval"), counts, "{path}: {}", reply.text());
    }
    assert_eq!(server.get("/elsewhere").body, b"There is nothing here.\n");
    let scraped = |path: &str| server.get(format!("{path}?info_hash={}", escape(&id("t")))).text().contains("5:files");
    assert_eq!([scraped("/key/scrape"), scraped("/scrape")], [true, false]);
}

// --- What Chihaya has for operators ---------------------------------------------------------------------------------

/// Returns a file of Chihaya v1.0 with addresses and these keys.
fn v1(keys: &str) -> String {
    format!(
        "{{\"httpListenAddr\": \"127.0.0.1:0\", \"udpListenAddr\": \"\", \"apiListenAddr\": \"127.0.0.1:0\", {keys}}}"
    )
}

/// Sends a request to the operators' listener.
fn api(server: &Server, method: &str, path: &str) -> (u16, String) {
    let mut operator = TestConnection::to(&server.admin_addresses()[0]);
    operator.send(request(method, path, &[]));
    let reply = operator.reply();
    (reply.status, String::from_utf8(reply.body).unwrap())
}

#[test]
fn only_torrents_that_the_api_has_put_may_be_announced() {
    let files = Files::new();
    let server = serve(&files.write("config.json", &v1("\"createOnAnnounce\": false")), &[], (1, 0, 1));
    let target = announce("t", "a").seed().target();
    let torrent = format!("/torrents/{}", escape(&id("t")));
    let refused = "torrent does not exist";
    assert_eq!(reason(&server.get(&target)), refused);
    assert_eq!(api(&server, "GET", &torrent).0, 404);
    assert_eq!(api(&server, "DELETE", &torrent).0, 404);
    assert_eq!(api(&server, "PUT", &torrent), (200, String::new()));
    assert_eq!(reason(&server.get(&target)), "");
    assert_eq!(reason(&server.get(announce("u", "a").target())), refused);
    let (status, text) = api(&server, "GET", &torrent);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(shown, json!({ "infohash": hex("t"), "snatches": 0, "seeders": 1, "leechers": 0 }));
    assert_eq!(api(&server, "DELETE", &torrent), (200, String::new()));
    assert_eq!(reason(&server.get(&target)), refused);
    // DELETE has removed the torrent's peers too.
    assert_eq!(api(&server, "GET", &torrent).0, 404);
    assert_eq!(api(&server, "PUT", &torrent).0, 200);
    assert_eq!(server.get(announce("t", "b").port(7001).target()).counts()[0], 0);
    for path in ["/torrents/short", "/torrents/", "/clients/short"] {
        for method in ["GET", "PUT", "DELETE"] {
            assert!(matches!(api(&server, method, path).0, 400 | 404), "{method} {path}");
        }
    }
    assert_eq!(api(&server, "PUT", "/torrents/short").0, 400);
}

#[test]
fn a_torrent_that_was_announced_may_be_deleted() {
    let files = Files::new();
    let server = serve(&files.write("config.json", &v1("\"createOnAnnounce\": true")), &[], (1, 0, 1));
    let torrent = format!("/torrents/{}", escape(&id("t")));
    server.get(announce("t", "a").seed().target());
    assert_eq!((api(&server, "GET", &torrent).0, api(&server, "DELETE", &torrent).0), (200, 200));
    assert_eq!((api(&server, "GET", &torrent).0, api(&server, "DELETE", &torrent).0), (404, 404));
    assert_eq!(server.get(announce("t", "b").port(7001).target()).counts()[0], 0);
}

#[test]
fn an_info_hash_in_the_path_may_be_any_bytes() {
    let files = Files::new();
    let server = serve(&files.write("config.json", &v1("\"createOnAnnounce\": false")), &[], (1, 0, 1));
    let bytes = b"/a+b ?#%\xff\x00\x80\x81\"<>[]&=\n";
    let escaped = escape(bytes);
    assert_eq!(api(&server, "PUT", &format!("/torrents/{escaped}")).0, 200);
    let target = format!("/announce?info_hash={escaped}&peer_id=-TR2820-aaaaaaaaaaaa&port=1");
    assert_eq!(reason(&server.get(target)), "");
}

#[test]
fn the_api_approves_clients() {
    let files = Files::new();
    let keys = "\"createOnAnnounce\": true, \"clientWhitelistEnabled\": true, \"clientWhitelist\": [\"OP1011\"]";
    let server = serve(&files.write("config.json", &v1(keys)), &[], (1, 0, 1));
    let ask = |client: &str| reason(&server.get(announce("t", client).target()));
    assert_eq!([ask("-TR2820-"), ask("OP1011"), ask("-OP1011-")], ["client is not approved", "", ""]);
    assert_eq!(api(&server, "GET", "/clients/TR2820").0, 404);
    assert_eq!(api(&server, "PUT", "/clients/TR2820"), (200, String::new()));
    assert_eq!((api(&server, "GET", "/clients/TR2820").0, ask("-TR2820-")), (200, String::new()));
    assert_eq!(api(&server, "DELETE", "/clients/OP1011"), (200, String::new()));
    assert_eq!(ask("OP1011"), "client is not approved");
}

#[test]
fn the_instance_says_that_it_is_alive_and_what_it_has_counted() {
    let files = Files::new();
    let server = serve(&files.write("config.json", &v1("\"createOnAnnounce\": true")), &[], (1, 0, 1));
    server.get(announce("t", "a").seed().target());
    server.get(announce("t", "b").port(7001).target());
    assert_eq!(api(&server, "GET", "/check"), (200, "STILL-ALIVE".to_owned()));
    let stats: Value = serde_json::from_str(&api(&server, "GET", "/stats").1).unwrap();
    assert_eq!((&stats["trackerAnnounces"], &stats["torrentsSize"]), (&json!(2), &json!(1)));
    assert_eq!(stats["peersIPv4"], json!({ "Peers": { "Current": 2 }, "Seeds": { "Current": 1 } }));
    let flat: Value = serde_json::from_str(&api(&server, "GET", "/stats?flatten").1).unwrap();
    assert_eq!(flat["peersIPv4.Seeds.Current"], json!(1));
    assert!(api(&server, "GET", "/stats?pretty").1.contains("\n  \"trackerAnnounces\": 2"));
    assert_eq!(server.get("/check").status, 404, "the clients' listener does not serve it");

    let v2 = "chihaya:\n  prometheus_addr: 127.0.0.1:0\n  http:\n    addr: 127.0.0.1:0\n";
    let server = serve(&files.write("chihaya.yaml", v2), &[], (1, 0, 1));
    assert_eq!(api(&server, "GET", "/check").0, 200);
    assert_eq!([api(&server, "GET", "/").0, api(&server, "GET", "/stats").0], [200, 404]);
    server.get(announce("t", "a").seed().target());
    let metrics = api(&server, "GET", "/metrics").1;
    for (name, count) in [("infohashes", 1), ("seeders", 1), ("leechers", 0)] {
        assert!(metrics.contains(&format!("\nchihaya_storage_{name}_count {count}\n")), "{metrics}");
    }
}

#[test]
fn requests_are_counted_under_chihayas_names() {
    let files = Files::new();
    let text = "chihaya:\n  prometheus_addr: 127.0.0.1:0\n  http:\n    addr: 127.0.0.1:0\n  udp:\n    addr: 127.0.0.1:0\n  \
                prehooks:\n  - name: client approval\n    options:\n      whitelist: [AA0000]\n";
    let server = serve(&files.write("chihaya.yaml", text), &[], (1, 1, 1));
    server.get(announce("t", "-AA0000-").target());
    server.get(announce("t", "-BB0000-").target());
    server.get("/announce?info_hash=short");
    server.get(format!("/scrape?info_hash={}", escape(&id("t"))));
    let udp = UdpClient::of(&server);
    udp.ask(&udp_announce("t", "-BB0000-").packet(udp.id));
    udp.ask(&scrape_packet(udp.id, &[id("t")]));
    let metrics = api(&server, "GET", "/metrics").1;
    for (protocol, action, error) in [
        ("http", "announce", ""),
        ("http", "announce", "unapproved client"),
        ("http", "announce", "bad request"),
        ("http", "scrape", ""),
        ("udp", "connect", ""),
        ("udp", "announce", "unapproved client"),
        ("udp", "scrape", ""),
    ] {
        let name = format!("chihaya_{protocol}_response_duration_milliseconds");
        let labels = format!("action=\"{action}\",address_family=\"IPv4\",error=\"{error}\"");
        assert!(metrics.contains(&format!("\n{name}_count{{{labels}}} 1\n")), "{name} {labels}: {metrics}");
        // The buckets are the same as Chihaya's, because dashboards for Chihaya show them.
        for bucket in ["9.375", "18.75", "4800.0", "+Inf"] {
            assert!(
                metrics.contains(&format!("\n{name}_bucket{{le=\"{bucket}\",{labels}}} 1\n")),
                "{bucket}: {metrics}"
            );
        }
    }
    assert!(metrics.contains("\nchihaya_storage_gc_duration_milliseconds_count "), "{metrics}");
}

#[test]
fn pages_answer_any_host_name_only_where_the_file_has_an_address_for_operators() {
    let files = Files::new();
    let foreign = [("Host", "evil.example")];
    let open = files.write("a.yaml", "chihaya:\n  prometheus_addr: 127.0.0.1:0\n  http:\n    addr: 127.0.0.1:0\n");
    let server = serve(&open, &[], (1, 0, 1));
    let mut operator = TestConnection::to(&server.admin_addresses()[0]);
    assert_eq!(operator.get_with("/metrics", &foreign).status, 200);

    let file = files.write("b.yaml", "chihaya:\n  http:\n    addr: 127.0.0.1:0\n");
    let server = serve(&file, &["-p"], (1, 0, 0));
    assert_eq!(server.connect().get_with("/metrics", &foreign).status, 403);
}
