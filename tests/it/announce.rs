//! 1. The announce request. The tracker understands what clients send, or names the parameter that it refuses.

use insta::assert_snapshot;

use crate::dsl::{Server, announce, escape, id, observer};

#[test]
fn s1_1_both_routes_lead_to_the_same_tracker() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let announce = announce("t", "b").at("10.0.0.2").query();
    for route in ["/announce", "/announce.php"] {
        assert_eq!(server.get(format!("{route}?{announce}")).peers(), ["10.0.0.1:6881"], "{route}");
    }
}

#[test]
fn s1_1_head_answers_like_get_without_a_body() {
    let server = Server::start(&[]);
    let target = observer("t").target();
    let mut connection = server.connect();
    let get = connection.get(&target);
    let head = connection.head(&target);
    let headers = |reply: &crate::dsl::Reply| {
        ["content-type", "content-length"].map(|name| reply.header(name).map(str::to_owned))
    };
    assert_eq!((head.status, headers(&head)), (200, headers(&get)));
    // If the HEAD reply had a body, the client would read that body as the beginning of this reply.
    assert_eq!(connection.get(&target).body, get.body);
}

#[test]
fn s1_2_pairs_may_be_separated_in_every_way_that_clients_use() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let mut connection = server.connect();
    let [hash, peer, rest] = ["info_hash=t-------------------", "peer_id=b-------------------", "ip=10.0.0.2&port=1"];
    for query in [
        format!("{hash}&{peer}&{rest}"),
        format!("{hash};{peer};{}", rest.replace('&', ";")),
        format!("passkey=secret?{hash}&{peer}&{rest}"),
        format!("{hash}?{peer}?{rest}"),
        format!("&&{hash}&;{peer}&;;&{rest}"),
        format!("{hash}&{peer}&{rest}&"),
        format!("{hash}&{peer}&{rest}&supportcrypto&="),
        format!("?{hash}&{peer}&{rest}?"),
    ] {
        assert_eq!(connection.get(format!("/announce?{query}")).peers(), ["10.0.0.1:6881"], "{query}");
    }
}

#[test]
fn s1_2_bytes_may_be_escaped_in_either_case_or_raw() {
    let server = Server::start(&[]);
    let hash = *b"\x00\xab\xcd\xef\xff <>\"'azAZ09-._~";
    let first = announce("t", "a").at("10.0.0.1").with("info_hash", escape(&hash));
    server.announce(&first);
    let rest = "&peer_id=b-------------------&ip=10.0.0.2&port=1";
    let spellings: [&[u8]; 5] = [
        b"%00%AB%CD%EF%FF%20%3C%3E%22%27azAZ09-._~",
        b"%00%ab%cd%ef%ff%20%3c%3e%22%27%61%7a%41%5a%30%39%2d%2e%5f%7e",
        b"%00%aB%Cd%EF%fF+<>\"'azAZ09-._~",
        b"%00\xab\xcd\xef\xff+%3c%3e%22'azAZ09-._~",
        b"%00\xab\xcd\xef\xff%20<>\"'azAZ09-._~",
    ];
    let mut connection = server.connect();
    for spelling in spellings {
        let target = [b"/announce?info_hash=", spelling, rest.as_bytes()].concat();
        assert_eq!(connection.get(&target).peers(), ["10.0.0.1:6881"], "{}", target.escape_ascii());
    }
}

#[test]
fn s1_2_a_malformed_escape_matters_only_in_required_parameters() {
    let server = Server::start(&[]);
    for broken in ["%zz", "%a", "%", "%0g", "a%"] {
        let reply = server.get(announce("t", "a").with("info_hash", broken).target());
        let reason = reply.string("failure reason");
        assert_eq!(reason.as_deref(), Some("info_hash has a malformed percent escape"), "{broken}");
        for name in [
            "key",
            "uploaded",
            "downloaded",
            "left",
            "event",
            "numwant",
            "compact",
            "no_peer_id",
            "ip",
            "ipv4",
            "ipv6",
            "trackerid",
            "%zz",
        ] {
            let reply = server.announce(&announce("t", "a").with(name, broken));
            assert_eq!(reply.counts(), [0, 1, 0], "{name}={broken}");
        }
    }
}

#[test]
fn s1_2_parameters_without_effect_are_never_refused() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let mut connection = server.connect();
    for extra in [
        "uploaded=NaN",
        "uploaded=-1&downloaded=-1&left=-1",
        "uploaded=1e9&downloaded=1.5&left=0x10",
        "uploaded=18446744073709551616&downloaded=99999999999999999999999",
        "uploaded=&downloaded=&left=&event=&numwant=&compact=&no_peer_id=&key=&ip=&ipv4=&ipv6=&trackerid=",
        "uploaded&downloaded&left&event&numwant&compact&no_peer_id&key&ip",
        "event=restarted",
        "event=%00",
        "numwant=abc",
        "numwant=-1",
        "compact=x",
        "compact=2",
        "key=%zz",
        "ip=nowhere",
        "ip=fe80::1%eth0",
        "ip=%zz",
        "trackerid=%&supportcrypto=%",
        "info_hash=t-------------------",
        "info_hash=%74-------------------",
        "peer_id=b-------------------",
        "x=a b",
        "x=\u{1}\u{7f}",
        "x=\u{fc}<>\"#",
        "port=x",
    ] {
        let target = format!("{}&{extra}", announce("t", "b").at("10.0.0.2").target());
        assert_eq!(connection.get(&target).peers(), ["10.0.0.1:6881"], "{extra}");
    }
}

#[test]
fn s1_2_a_raw_space_is_a_byte_of_the_target() {
    let server = Server::start(&[]);
    server.announce(&announce("a torrent", "a").at("10.0.0.1"));
    let rest = announce("", "b").without("info_hash").at("10.0.0.2").query();
    let target = format!("/announce?info_hash=a torrent-----------&{rest}");
    assert_eq!(server.get(target).peers(), ["10.0.0.1:6881"]);
}

#[test]
fn s1_1_urls_that_users_type_and_clients_build_reach_the_tracker() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let query = announce("t", "b").at("10.0.0.2").query();
    let mut connection = server.connect();
    for path in [
        "/",
        "//",
        "//announce",
        "/announce/",
        "/announce//",
        "///announce///",
        "/announce.php/",
        "/Announce",
        "/%61nnounce",
        "/./announce",
        "/announce%20",
        "http://retracker.local/announce",
        "http://retracker.local//announce/",
        "http://retracker.local/",
        "HTTP://retracker.local:80/ANNOUNCE.php",
        "announce",
        "/announce#lan",
        "http://retracker.local/announce#",
    ] {
        assert_eq!(connection.get(format!("{path}?{query}")).peers(), ["10.0.0.1:6881"], "{path}");
    }
    // Here the fragment of the announce URL follows the query.
    for fragment in ["#", "#lan"] {
        let target = format!("/announce?{query}&port=6882{fragment}");
        assert_eq!(connection.get(target).peers(), ["10.0.0.1:6881"], "{fragment}");
    }
    assert_eq!(connection.get(format!("http://retracker.local?{query}")).peers(), ["10.0.0.1:6881"]);
    for path in ["/scrape/", "//scrape", "/Scrape", "/scrape.php/", "/%73crape"] {
        let reply = connection.get(format!("{path}?info_hash=t-------------------"));
        assert!(reply.text().starts_with("d5:filesd20:t"), "{path}: {}", reply.text());
    }
    // Without an info-hash, `/` is the front page.
    assert!(connection.get("/").header("content-type").unwrap().starts_with("text/html"));
    // An announce to a wrong path gets a bencoded failure, whatever the path.
    for path in ["/x/announce", "/announcement", "/announce/x", "/nowhere"] {
        let reply = connection.get(format!("{path}?{query}"));
        let reason = reply.string("failure reason").unwrap();
        assert_eq!(reason, "no tracker here: the path of the announce URL must be /announce", "{path}");
    }
}

#[test]
fn s1_1_head_changes_nothing() {
    let server = Server::start(&["-p"]);
    let mut connection = server.connect();
    for event in ["started", "completed", ""] {
        let head = connection.head(announce("t", "a").at("10.0.0.1").seed().event(event).target());
        assert_eq!(head.status, 200);
    }
    let text = String::from_utf8(connection.get("/metrics").body).unwrap();
    for line in
        ["requests 0", "retracker_announces_total{protocol=\"http\",outcome=\"answered\"} 0", "retracker_swarms 0"]
    {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert_eq!(connection.announce(&observer("t")).counts(), [0, 0, 0]);
}

#[test]
fn s1_2_stopped_is_understood_in_every_spelling() {
    let server = Server::start(&[]);
    for stopped in ["stopped", "Stopped", "STOPPED", "st%6fpped", "stopped%20", "stopped&port=x"] {
        server.announce(&announce("t", "a").at("10.0.0.1"));
        let target = announce("t", "a").at("10.0.0.1").without("port").event(stopped).target();
        assert_eq!(server.get(&target).counts(), [0, 0, 0], "{stopped}");
    }
}

#[test]
fn s1_2_plus_means_space() {
    let server = Server::start(&[]);
    server.announce(&announce("a torrent", "a").at("10.0.0.1"));
    let plus = announce("a torrent", "b").at("10.0.0.2").with("info_hash", "a+torrent-----------");
    assert_eq!(server.announce(&plus).peers(), ["10.0.0.1:6881"]);
}

#[test]
fn s1_2_uris_of_eight_kibibytes_are_served() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let jwt = "x".repeat(8 * 1024);
    let reply = server.announce(&announce("t", "b").at("10.0.0.2").with("jwt", jwt));
    assert_eq!(reply.peers(), ["10.0.0.1:6881"]);
}

#[test]
fn s1_2_unknown_keys_are_ignored() {
    let server = Server::start(&[]);
    let reply = server.announce(
        &announce("t", "a").with("supportcrypto", "1").with("redundant", "0").with("INFO_HASH", "x").with("", "x"),
    );
    assert_eq!(reply.counts(), [0, 1, 0]);
}

#[test]
fn s1_3_info_hash_is_required_once_and_has_twenty_bytes() {
    let server = Server::start(&[]);
    let refused = |query: &str| server.get(format!("/announce?{query}")).string("failure reason").unwrap();
    let rest = "peer_id=b-------------------&port=1";
    assert_eq!(refused(rest), "info_hash is missing");
    assert_eq!(refused(&format!("{rest}&info_hash=")), "info_hash is 0 bytes long, expected 20");
    let hex = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(refused(&format!("{rest}&info_hash={hex}")), "info_hash is 40 bytes long, expected 20");
    let hash = "info_hash=t-------------------";
    let other = "info_hash=u-------------------";
    assert_eq!(refused(&format!("{rest}&{hash}&{other}")), "info_hash is given more than once");
}

#[test]
fn s1_4_peer_id_is_any_twenty_bytes() {
    let server = Server::start(&[]);
    let refused = |query: &str| server.get(format!("/announce?{query}")).string("failure reason").unwrap();
    let rest = "info_hash=t-------------------&port=1";
    assert_eq!(refused(rest), "peer_id is missing");
    assert_eq!(refused(&format!("{rest}&peer_id=-TR4050-")), "peer_id is 8 bytes long, expected 20");

    // An id may contain zero bytes, bytes that are not UTF-8, and line ends.
    let odd = *b"-XX\x00\x00\xff\xfe\r\n\t \"<&=;?%+\x80";
    server.announce(&announce("t", "a").at("10.0.0.1").with("peer_id", escape(&odd)));
    let reply = server.announce(&observer("t").with("compact", "0"));
    let tree = reply.tree();
    let Some(crate::dsl::Bencode::List(peers)) = tree.get("peers") else { panic!("{}", reply.text()) };
    assert_eq!(peers[0].get("peer id").unwrap().bytes(), odd);
}

#[test]
fn s1_5_a_client_without_a_port_gets_peers_but_is_not_listed() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let unreachable = announce("t", "b").at("10.0.0.2");
    for unreachable in [unreachable.clone().without("port"), unreachable.clone().port(0), unreachable.with("port", "")]
    {
        let reply = server.announce(&unreachable);
        assert_eq!((reply.peers(), reply.counts()), (vec!["10.0.0.1:6881".to_owned()], [0, 1, 0]));
    }
    assert_eq!(server.announce(&observer("t")).peers(), ["10.0.0.1:6881"]);
}

#[test]
fn s1_5_every_port_is_listed_unchanged() {
    let server = Server::start(&[]);
    for port in [1, 80, 255, 256, 65535] {
        server.announce(&announce("t", &format!("{port}")).at("10.0.0.1").port(port));
    }
    let ports = ["10.0.0.1:1", "10.0.0.1:80", "10.0.0.1:255", "10.0.0.1:256", "10.0.0.1:65535"];
    assert_eq!(server.announce(&observer("t")).peers(), ports);
    let reply = server.get(announce("t", "a").with("port", "65536").target());
    assert_eq!(reply.string("failure reason").unwrap(), "port is not a number from 0 to 65535");
}

#[test]
fn s1_5_stopped_needs_no_port() {
    let server = Server::start(&[]);
    for (peer, port) in [("a", Some("6881")), ("b", Some("0")), ("c", None)] {
        let there = announce("t", peer).at("10.0.0.1");
        assert_eq!(server.announce(&there).int("incomplete"), 1);
        let stopped = there.event("stopped");
        let stopped = port.map_or(stopped.clone().without("port"), |port| stopped.with("port", port));
        assert_eq!(server.announce(&stopped).int("incomplete"), 0, "{port:?}");
    }
}

#[test]
fn s1_6_counters_are_u64_and_may_be_missing() {
    let server = Server::start(&[]);
    let counted = announce("t", "a").with("uploaded", u64::MAX.to_string()).with("downloaded", "0");
    assert_eq!(server.announce(&counted).counts(), [0, 1, 0]);
    assert_eq!(server.announce(&announce("t", "a").with("uploaded", "").with("downloaded", "")).counts(), [0, 1, 0]);
}

#[test]
fn s1_6_only_left_0_makes_a_seed() {
    let server = Server::start(&[]);
    let magnet = i64::MAX.to_string();
    let beyond = format!("{}0", u64::MAX);
    for left in ["1", "16384", &magnet, &beyond, "-1", "", "unknown"] {
        assert_eq!(server.announce(&announce("t", "a").with("left", left)).counts(), [0, 1, 0], "left={left}");
    }
    assert_eq!(server.announce(&announce("t", "a").without("left")).counts(), [0, 1, 0]);
    assert_eq!(server.announce(&announce("t", "a").seed()).counts(), [1, 0, 0]);
}

#[test]
fn s1_7_events() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let client = announce("t", "a").at("10.0.0.1");
    let seed = client.clone().seed();
    for (announce, counts) in [
        (client.clone().event("started"), [0, 1, 0]),
        (client.clone().event(""), [0, 1, 0]),
        (client.clone().event("empty"), [0, 1, 0]),
        (client.clone().event("STARTED"), [0, 1, 0]),
        (client.clone().event("paused"), [0, 1, 0]),
        (seed.clone().event("completed"), [1, 0, 1]),
        (seed.clone(), [1, 0, 1]),
        (seed.clone().event("stopped"), [0, 0, 1]),
        (seed.event("stopped"), [0, 0, 1]),
        (client, [0, 1, 1]),
    ] {
        assert_eq!(connection.announce(&announce).counts(), counts, "{announce:?}");
    }
}

#[test]
fn s1_7_a_stopped_client_gets_no_peers_and_is_not_listed() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    server.announce(&announce("t", "b").at("10.0.0.2"));
    let reply = server.announce(&announce("t", "b").at("10.0.0.2").event("stopped"));
    assert_snapshot!(reply.text(), @r"d8:completei0e10:downloadedi0e11:external ip4:\n\x00\x00\x0210:incompletei1e8:intervali30e12:min intervali30e5:peers0:e");
    assert_eq!(server.announce(&observer("t")).peers(), ["10.0.0.1:6881"]);
}

#[test]
fn s1_8_numwant() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for n in 1..=250_u8 {
        connection.announce(&announce("t", &n.to_string()).at(&format!("10.0.0.{n}")).numwant(0));
    }
    let mut count = |numwant: Option<&str>| {
        let asks = observer("t").without("numwant");
        connection.announce(&numwant.map_or(asks.clone(), |numwant| asks.with("numwant", numwant))).peers().len()
    };
    assert_eq!(count(None), 50);
    for (numwant, peers) in [
        ("0", 0),
        ("1", 1),
        ("80", 80),
        ("200", 200),
        ("201", 200),
        ("4294967296", 200),
        ("99999999999999999999", 200),
        ("-1", 50),
        ("many", 50),
        ("", 50),
    ] {
        assert_eq!(count(Some(numwant)), peers, "numwant={numwant}");
    }
}

#[test]
fn s1_9_compact_unless_0() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a peer").at("10.0.0.1"));
    let compact = server.announce(&observer("t")).text();
    assert_snapshot!(compact, @r"d8:completei0e10:downloadedi0e11:external ip4:\nccc10:incompletei1e8:intervali30e12:min intervali30e5:peers6:\n\x00\x00\x01\x1a\xe1e");
    for flag in ["1", "", "2", "yes"] {
        assert_eq!(server.announce(&observer("t").with("compact", flag)).text(), compact, "compact={flag}");
    }
    assert_eq!(server.announce(&observer("t").with("no_peer_id", "1")).text(), compact);

    let dictionaries = observer("t").with("compact", "0");
    let with_ids = server.announce(&dictionaries).text();
    assert_snapshot!(with_ids, @r"d8:completei0e10:downloadedi0e11:external ip4:\nccc10:incompletei1e8:intervali30e12:min intervali30e5:peersld2:ip8:10.0.0.17:peer id20:a peer--------------4:porti6881eeee");
    assert_eq!(server.announce(&dictionaries.clone().with("no_peer_id", "0")).text(), with_ids);
    let without_ids = server.announce(&dictionaries.with("no_peer_id", "1")).text();
    assert_snapshot!(without_ids, @r"d8:completei0e10:downloadedi0e11:external ip4:\nccc10:incompletei1e8:intervali30e12:min intervali30e5:peersld2:ip8:10.0.0.14:porti6881eeee");
}

#[test]
fn s1_10_addresses_may_repeat_and_need_not_be_addresses() {
    let server = Server::start(&[]);
    let query = announce("t", "a").query();
    let mut connection = server.connect();
    for (claims, external_ip) in [
        ("", "127.0.0.1"),
        ("&ip=&ipv4=&ipv6=", "127.0.0.1"),
        ("&ip=retracker.local", "127.0.0.1"),
        ("&ip=ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p", "127.0.0.1"),
        ("&ip=10.0.0.256", "127.0.0.1"),
        ("&ip=%ff%00", "127.0.0.1"),
        ("&ipv4=fd00::1&ipv6=10.0.0.1", "127.0.0.1"),
        ("&ip=10.0.0.1&ip=10.0.0.2", "10.0.0.1"),
        ("&ip=retracker.local&ip=10.0.0.2", "10.0.0.2"),
        ("&ipv4=10.0.0.3&ipv4=10.0.0.4&ipv6=fd00::1&ipv6=fd00::2", "10.0.0.3"),
        ("&ipv4=10.0.0.3&ip=10.0.0.1", "10.0.0.1"),
        ("&ip=fd00::1", "fd00::1"),
    ] {
        let reply = connection.get(format!("/announce?{query}{claims}"));
        assert_eq!(reply.external_ip(), external_ip, "{claims}");
    }
}

#[test]
fn s1_11_key_is_opaque() {
    let server = Server::start(&[]);
    for key in ["", "0", "a1b2c3d4", "%00%ff%0d%0a%25%26%3d%3b", "-1", &"x".repeat(500)] {
        assert_eq!(server.announce(&announce("t", "a").with("key", key)).counts(), [0, 1, 0], "key={key}");
    }
}

#[test]
fn s1_12_one_client_may_announce_for_each_family_socket_and_info_hash() {
    let server = Server::start(&[]);
    let client = announce("v1", "a");
    for place in [client.clone().at("10.0.0.1"), client.clone().at("fd00::1"), client.clone().at("10.0.0.1").port(7000)]
    {
        // The client never gets one of its own addresses as a peer.
        assert_eq!(server.announce(&place).peers(), [""; 0]);
    }
    server.announce(&client.at("10.0.0.1").with("info_hash", escape(&id("v2"))));
    let all = ["10.0.0.1:6881", "10.0.0.1:7000", "[fd00::1]:6881"];
    assert_eq!(server.announce(&observer("v1")).peers(), all);
    assert_eq!(server.announce(&observer("v2")).peers(), ["10.0.0.1:6881"]);
}
