//! 7. Who may announce: access rules and tokens.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::dsl::{AnnounceQuery, Reply, Server, announce, eventually, observer, retracker};
use crate::fake_tracker::{FakeTracker, floods, sends};
use crate::issuer::{AUDIENCE, KeyServer, SigningKey, claims, encoded, hex, rules, set};
use crate::service::ONE_PEER;
use crate::udp_client::{UdpClient, udp_announce};
use crate::upstream::certificates::Site;
use crate::upstream::proxies::{Tunnels, by_connect};

/// Writes access rules to a file.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Starts a server with access rules. The server also listens for UDP.
fn server(text: &str) -> Server {
    start(&file(text), &[])
}

fn start(file: &NamedTempFile, args: &[&str]) -> Server {
    let args = [&["-p", "--access", file.path().to_str().unwrap()], args].concat();
    retracker(&args).env("UDP_LISTEN_ADDR", "127.0.0.1:0").start()
}

/// Sends an announce that may be refused.
fn ask(server: &Server, announce: &AnnounceQuery) -> Reply {
    server.get(announce.target())
}

fn reason(reply: &Reply) -> String {
    reply.string("failure reason").unwrap_or_default()
}

/// Starts a server that checks tokens, and waits until it has fetched the keys.
fn with_keys(keys: &KeyServer) -> Server {
    let server = server(&keys.rules());
    server.logged("jwt keys of http://");
    server
}

fn under(announce: AnnounceQuery, token: &str) -> AnnounceQuery {
    announce.with("jwt", token)
}

#[test]
fn s7_1_each_list_refuses_what_it_denies_or_does_not_allow() {
    let denied = format!("torrents: {{deny: {}}}", hex("t"));
    let allowed = format!("torrents: {{allow: [{}, '{:0<64}']}}", hex("u"), hex("v"));
    for (rules, is_refused, why) in [
        ("networks: {deny: 127.0.0.0/8}", true, "the tracker's access rules refuse announces from your network"),
        (
            "networks: {allow: [10.0.0.0/8, '::1']}",
            true,
            "the tracker's access rules refuse announces from your network",
        ),
        ("networks: {allow: [127.0.0.1]}", false, ""),
        ("clients: {deny: -TR40}", true, "the tracker's access rules refuse this client: use another program"),
        ("clients: {deny: [TR4000]}", true, "the tracker's access rules refuse this client: use another program"),
        ("clients: {allow: [-qB, OP1011]}", true, "the tracker's access rules refuse this client: use another program"),
        ("clients: {allow: -TR}", false, ""),
        (denied.as_str(), true, "the tracker's access rules refuse this torrent"),
        (allowed.as_str(), true, "the tracker's access rules refuse this torrent"),
        ("torrents: {deny: []}", false, ""),
        ("", false, ""),
    ] {
        let server = server(rules);
        let reply = ask(&server, &announce("t", "-TR4000-"));
        assert_eq!(reason(&reply), why, "{rules}");
        assert!(server.get("/announce?info_hash=short").string("failure reason").is_some(), "{rules}");
        let head = server.connect().head(announce("t", "-TR4000-").target());
        let udp = UdpClient::of(&server);
        let packet = udp_announce("t", "-TR4000-").packet(udp.id);
        if is_refused {
            assert_eq!(reply.string("retry in").as_deref(), Some("never"), "{rules}");
            assert_eq!(udp.refused(&packet), why, "{rules}");
            assert_eq!(head.header("content-length"), Some(reply.body.len().to_string().as_str()), "{rules}");
            let rule = rules.split(':').next().unwrap();
            let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
            assert!(metrics.contains(&format!("retracker_access_refused_total{{rule=\"{rule}\"}} 3")), "{metrics}");
            assert!(metrics.contains("retracker_swarms 0"), "{metrics}");
        } else {
            assert_eq!(udp.answers(&packet).len(), 1, "{rules}");
        }
    }
}

#[test]
fn s7_1_a_list_of_torrents_may_be_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("torrents.txt"),
        format!("# ours\n{}\n\n{} # upper case\n", hex("t"), hex("u").to_uppercase()),
    )
    .unwrap();
    let rules = folder.path().join("access.yml");
    fs::write(&rules, "torrents:\n  allow: file:torrents.txt\n").unwrap();
    let server = retracker(&["--access", rules.to_str().unwrap()]).start();
    for (torrent, is_allowed) in [("t", true), ("u", true), ("v", false)] {
        assert_eq!(reason(&ask(&server, &announce(torrent, "a"))).is_empty(), is_allowed, "{torrent}");
    }
    fs::write(folder.path().join("torrents.txt"), format!("{}\nnonsense\n", hex("t"))).unwrap();
    let exit = retracker(&["--access", rules.to_str().unwrap()]).run();
    assert_eq!(exit.code, Some(2));
    assert!(
        exit.stderr[0].ends_with(
            "torrents.txt line 2: found \"nonsense\", expected the 40 or 64 hexadecimal digits of an info-hash"
        ),
        "{:?}",
        exit.stderr
    );
}

#[test]
fn s7_2_only_the_right_token_lets_a_client_announce() {
    for key in [SigningKey::rsa("k"), SigningKey::p256("k"), SigningKey::ed25519("k")] {
        let others = [SigningKey::ed25519("other"), SigningKey::p256("k")];
        let keys = KeyServer::start(Some(&[&others[0], &key]));
        let server = with_keys(&keys);
        let token = key.token("t");
        let with = |name: &str, value: Value| {
            let mut claims = claims("t");
            claims[name] = value;
            key.sign(&key.header(), &claims)
        };
        let altered = |part: usize| {
            let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
            parts[part] = match part {
                1 => encoded(claims("u").to_string()),
                _ => encoded([7; 64]),
            };
            parts.join(".")
        };
        let seed = announce("t", "seed").seed().at("10.0.0.1");
        assert_eq!(reason(&ask(&server, &under(seed, &token))), "");
        for (token, why) in [
            (String::new(), "jwt is missing: this tracker needs a token in the announce URL"),
            ("x".repeat(9000), "jwt is too long: 8192 bytes at most"),
            ("nonsense".to_owned(), "jwt is not a token"),
            ("a.b.c".to_owned(), "jwt is not a token"),
            (key.token("u"), "jwt is for another torrent"),
            (with("aud", json!("http://elsewhere/announce")), "jwt is not for this tracker"),
            (with("aud", Value::Null), "jwt is not for this tracker"),
            (with("iss", json!("elsewhere")), "jwt has no issuer that the tracker accepts"),
            (with("iss", Value::Null), "jwt has no issuer that the tracker accepts"),
            (with("infohash", Value::Null), "jwt names no torrent"),
            (with("infohash", json!(7)), "jwt names no torrent"),
            (with("infohash", json!("")), "jwt is for another torrent"),
            (with("exp", json!(1_000_000)), "jwt has expired: get the torrent again"),
            (with("exp", json!("soon")), "jwt is not a token"),
            (with("nbf", json!(9_999_999_999_u64)), "jwt is not valid yet"),
            (altered(1), "jwt has a wrong signature"),
            (altered(2), "jwt has a wrong signature"),
            (others[1].token("t"), "jwt has a wrong signature"),
            (SigningKey::ed25519("unknown").token("t"), "jwt is signed with a key that the tracker does not know"),
        ] {
            let reply = ask(&server, &under(announce("t", "thief"), &token));
            assert_eq!(reason(&reply), why, "{token}");
            assert!(!reply.text().contains("peers"), "{token}");
        }
        for token in [
            with("aud", json!(["http://elsewhere/announce", AUDIENCE])),
            with("exp", json!(9_999_999_999_u64)),
            with("nbf", json!(1.5)),
            with("infohash", json!(format!("{}{}", hex("t"), "0".repeat(24)))),
            key.sign(&json!({ "alg": key.header()["alg"] }), &claims("t")),
        ] {
            let reply = ask(&server, &under(observer("t"), &token));
            assert_eq!(reply.peers().len(), 1, "{token} {}", reason(&reply));
        }
        assert!(server.get("/metrics").text().contains("retracker_jwt_keys 2"));
    }
}

#[test]
fn s7_2_no_algorithm_but_those_of_the_key() {
    let key = SigningKey::rsa("k");
    let keys = KeyServer::start(Some(&[&key]));
    let server = with_keys(&keys);
    let public = key.public();
    let hmac = |secret: &[u8], algorithm: &str, kid: &str| {
        let header = json!({ "alg": algorithm, "kid": kid }).to_string();
        let message = format!("{}.{}", encoded(header), encoded(claims("t").to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{message}.{}", encoded(ring::hmac::sign(&key, message.as_bytes())))
    };
    let unsigned = |algorithm: &str| {
        format!(
            "{}.{}.",
            encoded(json!({ "alg": algorithm, "kid": "k" }).to_string()),
            encoded(claims("t").to_string())
        )
    };
    for token in [
        unsigned("none"),
        unsigned("None"),
        unsigned("RS256"),
        unsigned("HS256"),
        hmac(public["n"].as_str().unwrap().as_bytes(), "HS256", "k"),
        hmac(public.to_string().as_bytes(), "HS256", "k"),
        hmac(include_bytes!("issuer/rsa.pem"), "HS256", "k"),
        hmac(b"", "HS256", ""),
        hmac(b"", "RS256", "../../../../dev/null"),
        hmac(b"", "HS256", "k' OR '1'='1"),
        key.sign(&json!({ "alg": "PS256", "kid": "k" }), &claims("t")),
        key.sign(&json!({ "alg": "RS512", "kid": "k" }), &claims("t")),
        key.sign(&json!({ "alg": "ES256", "kid": "k" }), &claims("t")),
    ] {
        let reply = ask(&server, &under(announce("t", "thief"), &token));
        assert!(reason(&reply).starts_with("jwt "), "{token}: {}", reply.text());
    }
    assert_eq!(reason(&ask(&server, &under(announce("t", "a"), &key.token("t")))), "");
}

#[test]
fn s7_2_a_token_over_udp_is_in_the_path_and_query_of_the_announce_url() {
    let key = SigningKey::rsa("k");
    let keys = KeyServer::start(Some(&[&key]));
    let server = with_keys(&keys);
    let udp = UdpClient::of(&server);
    let id = udp.id;
    let packet = |url: &str| udp_announce("t", "a").url_data(url).packet(id);
    assert_eq!(udp.refused(&packet("/announce")), "jwt is missing: this tracker needs a token in the announce URL");
    assert_eq!(udp.refused(&packet(&format!("/announce?jwt={}", key.token("u")))), "jwt is for another torrent");
    assert_eq!(udp.answers(&packet(&format!("/announce?a=b&jwt={}", key.token("t")))).len(), 1);
    // An additional claim makes the token about 8 KiB long.
    let mut claims = claims("t");
    claims["access"] = "x".repeat(5600).into();
    let long = key.sign(&key.header(), &claims);
    assert!((7800..8192).contains(&long.len()), "{}", long.len());
    let answered = udp.answers(&packet(&format!("/announce?jwt={long}")));
    assert_eq!(answered.iter().map(|answer| answer[3]).collect::<Vec<_>>(), [1], "an announce, no error");
    assert_eq!(reason(&ask(&server, &under(announce("t", "b"), &long))), "");
}

#[test]
fn s7_2_scrapes_need_a_token_if_they_are_protected() {
    let key = SigningKey::ed25519("k");
    let keys = KeyServer::start(Some(&[&key]));
    let scrape = |server: &Server, torrents: &[&str], token: &str| {
        let hashes: Vec<_> = torrents
            .iter()
            .map(|torrent| format!("info_hash={}", crate::dsl::escape(&crate::dsl::id(torrent))))
            .collect();
        reason(&server.get(format!("/scrape?{}&jwt={token}", hashes.join("&"))))
    };
    let open = with_keys(&keys);
    assert_eq!(scrape(&open, &["t"], ""), "");
    let protected = server(&format!("{}  protect-scrape: true\n", keys.rules()));
    protected.logged("jwt keys of http://");
    assert_eq!(scrape(&protected, &["t"], ""), "jwt is missing: this tracker needs a token in the announce URL");
    assert_eq!(scrape(&protected, &["t"], &key.token("t")), "");
    assert_eq!(scrape(&protected, &["t", "u"], &key.token("t")), "jwt is for another torrent");
    let udp = UdpClient::of(&protected);
    let refused = udp.refused(&crate::udp_client::scrape_packet(udp.id, &[crate::dsl::id("t")]));
    assert_eq!(refused, "jwt is missing: this tracker needs a token in the announce URL");
}

#[test]
fn s7_3_without_keys_announces_are_refused_for_now_and_the_operator_is_told() {
    let key = SigningKey::rsa("k");
    let keys = KeyServer::start(None);
    let server = server(&keys.rules());
    let line = server.logged("jwt keys of http://127.0.0.1:");
    assert!(line.contains("WARN") && line.contains("HTTP status 500"), "{line}");
    let announce = under(announce("t", "a"), &key.token("t"));
    let reply = ask(&server, &announce);
    assert_eq!(reason(&reply), "jwt cannot be checked now: the tracker has no keys yet");
    assert_eq!(reply.int("retry in"), 1);
    let health = server.get("/health");
    assert_eq!(
        (health.status, health.text().contains("no keys to check tokens with")),
        (200, true),
        "{}",
        health.text()
    );
    assert!(server.get("/").text().contains("no keys to check tokens with"));
    keys.publish(&[&key]);
    eventually("the keys are fetched", || reason(&ask(&server, &announce)).is_empty().then_some(()));
    assert!(!server.get("/health").text().contains("keys"));
    assert!(keys.requests()[0].starts_with("GET /keys/services/quay/keys HTTP/1.1\r\n"), "{:?}", keys.requests());
}

#[test]
fn s7_3_a_token_is_refused_once_its_key_is_gone_and_a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (SigningKey::rsa("old"), SigningKey::rsa("new"));
    let keys = KeyServer::start(Some(&[&old]));
    let rules = file(&keys.rules());
    let server = start(&rules, &[]);
    server.logged("jwt keys of http://");
    let announce = |key: &SigningKey| reason(&ask(&server, &under(announce("t", "a"), &key.token("t"))));
    assert_eq!(announce(&old), "");
    keys.publish(&[&new]);
    assert_eq!(announce(&old), "");
    eventually("the new key is fetched", || announce(&new).is_empty().then_some(()));
    assert_eq!(announce(&old), "jwt is signed with a key that the tracker does not know");
}

#[test]
fn s7_3_keys_over_https_with_a_private_authority_and_through_a_proxy() {
    let key = SigningKey::ed25519("k");
    let set = set(&[&key]).to_string();
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len());
    let site = Site::serving(reply.into_bytes());
    let proxy = Tunnels::start(site.tracker, by_connect);
    let url = format!("https://localhost:{}/keys", site.tracker.port());
    let admits = |server: &Server| reason(&ask(server, &under(announce("t", "a"), &key.token("t")))).is_empty();
    let stranger = server(&rules(&url));
    stranger.logged("TLS with it fails");
    assert!(!admits(&stranger));
    let trusted = format!("{}  ca: {}\n", rules(&url), site.file().display());
    let direct = server(&trusted);
    direct.logged("jwt keys of https://localhost:");
    assert!(admits(&direct));
    let file = file(&trusted);
    let setup = retracker(&["--access", file.path().to_str().unwrap()]);
    let proxied = setup.env("HTTPS_PROXY", proxy.address.to_string()).start();
    proxied.logged("jwt keys of https://localhost:");
    assert!(admits(&proxied));
    assert!(proxy.asked().starts_with(format!("CONNECT localhost:{} ", site.tracker.port()).as_bytes()));
}

#[test]
fn s7_3_keys_in_a_file() {
    let key = SigningKey::p256("k");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keys.json"), set(&[&key]).to_string()).unwrap();
    let access = folder.path().join("access.yml");
    fs::write(&access, rules("keys.json")).unwrap();
    let server = retracker(&["--access", access.to_str().unwrap()]).start();
    server.logged("keys.json: 1 P-256; skipped: 1 of an unknown kind");
    assert_eq!(reason(&ask(&server, &under(announce("t", "a"), &key.token("t")))), "");
}

#[test]
fn s7_4_a_torrent_under_a_token_is_told_to_no_forwarder_that_does_not_name_it() {
    let key = SigningKey::ed25519("k");
    let keys = KeyServer::start(Some(&[&key]));
    let upstreams =
        [FakeTracker::start(sends(ONE_PEER)), FakeTracker::start(sends(ONE_PEER)), FakeTracker::start(sends(ONE_PEER))];
    let [any, except, only] = &upstreams;
    let uri = |tracker: &FakeTracker| format!("uri: 'http://{}/announce'", tracker.address());
    let forwarders = file(&format!(
        "- {{{}}}\n- {{{}, except: [{}]}}\n- {{{}, only: [{}]}}\n",
        uri(any),
        uri(except),
        hex("u"),
        uri(only),
        hex("t")
    ));
    let rules = file(&keys.rules());
    let server = start(&rules, &["-t", "30", "-d", "-f", forwarders.path().to_str().unwrap()]);
    server.logged("jwt keys of http://");
    let token = key.token("t");
    assert_eq!(ask(&server, &under(announce("t", "a"), &token)).peers().len(), 1);
    assert_eq!(ask(&server, &under(announce("v", "a"), &key.token("v"))).peers().len(), 0);
    ask(&server, &under(announce("t", "a").event("stopped"), &token));
    eventually("stopped is sent", || (only.requests().len() == 2).then_some(()));
    assert_eq!((any.visits(), except.visits()), (0, 0));
    let log = server.log().join("\n");
    let seen = [only.requests().concat(), log, server.get("/metrics").text(), server.get("/forwarders").text()];
    for part in token.split('.').chain(["jwt="]) {
        assert!(seen.iter().all(|text| !text.contains(part)), "{part} in {seen:?}");
    }
    // If the access rules do not require tokens, a torrent is announced to all forwarders whose `only` and `except` allow
    // it.
    fs::write(rules.path(), "").unwrap();
    server.signal("HUP");
    server.logged(&format!("reloaded {}", rules.path().display()));
    assert_eq!(ask(&server, &announce("w", "a")).peers().len(), 1);
    assert_eq!((any.visits(), except.visits(), only.visits()), (1, 1, 2));
}

#[test]
fn s7_5_hup_reads_the_rules_again_and_a_wrong_file_changes_nothing() {
    let rules = file("clients: {deny: -AA}");
    let server = start(&rules, &[]);
    let is_refused = |client: &str| !reason(&ask(&server, &announce("t", client))).is_empty();
    assert!(is_refused("-AA") && !is_refused("-BB"));
    fs::write(rules.path(), "clients:\n  deny: -BB\n  allow: -AA\n").unwrap();
    server.signal("HUP");
    let line = server.logged("the access rules do not change");
    assert!(line.contains("ERROR") && line.contains(" line 2: it has both `allow` and `deny`"), "{line}");
    assert!(is_refused("-AA") && !is_refused("-BB"));
    fs::write(rules.path(), "clients:\n  deny: -BB\n").unwrap();
    server.signal("HUP");
    server.logged("reloaded");
    assert!(!is_refused("-AA") && is_refused("-BB"));
}

#[test]
fn s7_6_check_fetches_the_keys_once() {
    let check = |rules: &str| {
        let file = file(rules);
        let exit = retracker(&["check", "--access", file.path().to_str().unwrap()]).run();
        (exit.code, exit.stdout)
    };
    let keys = KeyServer::start(Some(&[&SigningKey::rsa("a"), &SigningKey::ed25519("b"), &SigningKey::rsa("c")]));
    let (code, text) = check(&keys.rules());
    assert_eq!(code, Some(0));
    let found = text.strip_prefix("The access rules are valid. The keys of http://127.0.0.1:").unwrap();
    assert_eq!(found.split_once(": ").unwrap().1, "1 Ed25519, 2 RSA; skipped: 1 of an unknown kind.\n");
    assert_eq!(check("networks: {allow: 10.0.0.0/8}"), (Some(0), "The access rules are valid.\n".to_owned()));
    let failing = [
        (
            FakeTracker::start(sends("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")),
            "it answers with HTTP status 404",
        ),
        (FakeTracker::start(sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")), "it has no list `keys`"),
        (FakeTracker::start(sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html")), "it is not JSON"),
        (FakeTracker::start(sends("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")), "it closed the connection"),
        (
            FakeTracker::start(floods("HTTP/1.1 200 OK\r\n\r\n{\"keys\":[", "{\"kty\":\"oct\"},".repeat(1000))),
            "its answer is too large",
        ),
        (FakeTracker::start(floods("HTTP/1.1 200 OK\r\nX: ", "x".repeat(1000))), "its answer is too large"),
        (
            FakeTracker::start(sends(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{{}}", 10 << 20))),
            "its answer is too large",
        ),
    ];
    for (server, why) in &failing {
        let (code, text) = check(&rules(&format!("http://{}/keys", server.address())));
        assert_eq!(code, Some(1));
        assert!(text.contains("cannot be fetched: ") && text.contains(why), "{why}: {text}");
    }
    let no_key = FakeTracker::start(sends("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}"));
    let (code, text) = check(&rules(&format!("http://{}/keys", no_key.address())));
    assert_eq!((code, text.ends_with(": no usable key.\n")), (Some(1), true), "{text}");
}
