//! 2. The announce reply, in the strict form that every client reads.

use std::collections::HashSet;

use insta::assert_snapshot;

use crate::dsl::{Bencode, Server, announce, escape, observer};

#[test]
fn s2_1_status_200_and_plain_text_for_every_reply() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for target in [
        announce("t", "a").target(),
        announce("t", "a").seed().event("completed").target(),
        announce("t", "a").event("stopped").target(),
        "/announce".to_owned(),
        "/announce?info_hash=x".to_owned(),
        "/scrape?info_hash=t-------------------".to_owned(),
        "/scrape".to_owned(),
    ] {
        let reply = connection.get(&target);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")), "{target}");
        assert!(matches!(Bencode::read(&reply.body), Ok(Bencode::Dict(_))), "{target}: {}", reply.text());
    }
}

#[test]
fn s2_2_a_whole_reply_with_peers_of_both_families() {
    let server = Server::start(&[]);
    assert_snapshot!(server.announce(&announce("t", "first")).text(), @r"d8:completei0e10:downloadedi0e11:external ip4:\x7f\x00\x00\x0110:incompletei1e8:intervali30e12:min intervali30e5:peers0:e");
    server.announce(&announce("t", "first").event("stopped"));
    server.announce(&announce("t", "four").at("192.168.1.15").port(51413).seed().event("completed"));
    server.announce(&announce("t", "six").at("2001:db8::5").port(6889));
    assert_snapshot!(server.announce(&announce("t", "third").at("10.0.0.3")).text(), @r"d8:completei1e10:downloadedi1e11:external ip4:\n\x00\x00\x0310:incompletei2e8:intervali30e12:min intervali30e5:peers6:\xc0\xa8\x01\x0f\xc8\xd56:peers618: \x01\r\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x1a\xe9e");
    assert_snapshot!(server.announce(&announce("t", "third").at("fd00::3")).text(), @r"d8:completei1e10:downloadedi1e11:external ip16:\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0310:incompletei2e8:intervali30e12:min intervali30e5:peers6:\xc0\xa8\x01\x0f\xc8\xd56:peers618: \x01\r\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x1a\xe9e");
}

#[test]
fn s2_2_min_interval_equals_interval() {
    let server = Server::start(&["-i", "1800"]);
    let reply = server.announce(&announce("t", "a"));
    assert_eq!((reply.int("interval"), reply.int("min interval")), (1800, 1800));
}

#[test]
fn s2_3_peers_is_always_present_and_peers6_only_when_not_empty() {
    let server = Server::start(&[]);
    let has = |reply: &crate::dsl::Reply| ["peers", "peers6"].map(|key| reply.tree().get(key).is_some());
    assert_eq!(has(&server.announce(&announce("t", "a").at("fd00::1"))), [true, false]);
    assert_eq!(has(&server.announce(&announce("t", "b").at("10.0.0.1"))), [true, true]);
    assert_eq!(has(&server.announce(&observer("t").numwant(0))), [true, false]);
    assert_eq!(has(&server.announce(&announce("t", "b").at("10.0.0.1").event("stopped"))), [true, false]);
    let dictionaries = server.announce(&observer("t").with("compact", "0"));
    assert_eq!(has(&dictionaries), [true, false]);
    assert_eq!(dictionaries.peers(), ["[fd00::1]:6881"]);
    assert_eq!(server.announce(&observer("u").with("compact", "0")).tree().get("peers"), Some(&Bencode::List(vec![])));
}

#[test]
fn s2_3_lengths_are_exact_multiples() {
    let server = Server::start(&[]);
    for n in 1..=7 {
        server.announce(&announce("t", &format!("v4 {n}")).at(&format!("10.0.0.{n}")));
        server.announce(&announce("t", &format!("v6 {n}")).at(&format!("fd00::{n}")));
        let tree = server.announce(&observer("t")).tree();
        let length = |key| tree.get(key).unwrap().bytes().len();
        assert_eq!((length("peers"), length("peers6")), (6 * n, 18 * n));
    }
}

#[test]
fn s2_4_dictionary_peers_of_both_families() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "six").at("2001:db8::5").port(6889));
    let asks = observer("t").with("compact", "0");
    assert_snapshot!(server.announce(&asks).text(), @r"d8:completei0e10:downloadedi0e11:external ip4:\nccc10:incompletei1e8:intervali30e12:min intervali30e5:peersld2:ip11:2001:db8::57:peer id20:six-----------------4:porti6889eeee");
    server.announce(&announce("t", "four").at("10.0.0.4").port(65535));
    assert_snapshot!(server.announce(&asks).text(), @r"d8:completei0e10:downloadedi0e11:external ip4:\nccc10:incompletei2e8:intervali30e12:min intervali30e5:peersld2:ip8:10.0.0.47:peer id20:four----------------4:porti65535eed2:ip11:2001:db8::57:peer id20:six-----------------4:porti6889eeee");
}

#[test]
fn s2_5_counts_are_in_every_reply_and_are_those_after_the_announce() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for (announce, counts) in [
        (observer("t"), [0, 0, 0]),
        (announce("t", "a").at("10.0.0.1"), [0, 1, 0]),
        (announce("t", "b").at("10.0.0.2").seed(), [1, 1, 0]),
        (announce("t", "c").at("fd00::3").event("paused"), [1, 2, 0]),
        (announce("t", "a").at("10.0.0.1").seed().event("completed"), [2, 1, 1]),
        (announce("t", "a").at("10.0.0.1").seed().event("completed"), [2, 1, 1]),
        (announce("t", "b").at("10.0.0.2").seed().event("stopped"), [1, 1, 1]),
        (announce("t", "d").event("stopped"), [1, 1, 1]),
        (announce("t", "e").at("10.0.0.5").numwant(0), [1, 2, 1]),
    ] {
        assert_eq!(connection.announce(&announce).counts(), counts, "{announce:?}");
    }
}

#[test]
fn s2_6_a_client_does_not_get_itself() {
    let server = Server::start(&[]);
    let client = announce("t", "a").at("10.0.0.1");
    server.announce(&client);
    assert_eq!(server.announce(&client).peers(), [""; 0], "announced again");
    assert_eq!(server.announce(&client.clone().at("fd00::1")).peers(), [""; 0], "by its other family");
    assert_eq!(server.announce(&client.clone().at("10.0.0.9")).peers(), [""; 0], "moved");
    let restarted = announce("t", "b").at("10.0.0.1");
    assert_eq!(server.announce(&restarted).peers(), ["10.0.0.9:6881", "[fd00::1]:6881"], "restarted");
}

#[test]
fn s2_6_unusable_addresses_are_not_listed() {
    let server = Server::start(&["-x"]);
    let addresses =
        ["0.0.0.0", "0.1.2.3", "169.254.1.1", "224.0.0.1", "239.1.2.3", "255.255.255.255", "::", "fe80::1", "ff02::1"];
    let mut connection = server.connect();
    for (n, ip) in addresses.into_iter().enumerate() {
        let reply = connection.announce(&announce("claimed", &n.to_string()).at(ip).port(1));
        assert_eq!(reply.external_ip(), "127.0.0.1", "a claim of {ip}");
        connection.announce(&announce("claimed", &n.to_string()).with("ipv4", ip).with("ipv6", ip).port(2));
        connection.announce_with(&announce("real", &n.to_string()), &[("X-Real-IP", ip)]);
    }
    connection.announce(&announce("real", "a").at("10.0.0.1"));
    assert_eq!(connection.announce(&observer("claimed")).peers(), [""; 0]);
    assert_eq!(connection.announce(&observer("real")).peers(), ["10.0.0.1:6881"]);
    let on_this_host = announce("real", "on this host").without("port");
    assert_eq!(connection.announce(&on_this_host).peers(), ["10.0.0.1:6881"]);
    // A client at a multicast address gets none of these peers. A link-local client gets the private peer and the other
    // link-local peers.
    let nowhere = connection.announce_with(&announce("real", "b"), &[("X-Real-IP", "224.0.0.1")]);
    assert_eq!(nowhere.peers(), [""; 0]);
    for link_local in ["169.254.1.9", "fe80::9"] {
        let asks = announce("real", "b").without("port");
        let peers = connection.announce_with(&asks, &[("X-Real-IP", link_local)]).peers();
        assert_eq!(peers, ["10.0.0.1:6881", "169.254.1.1:6881", "[fe80::1]:6881"], "{link_local}");
    }
}

#[test]
fn s2_6_loopback_peers_are_for_loopback_clients() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "v4"));
    server.announce(&announce("t", "v6").at("::1"));
    server.announce(&announce("t", "lan").at("10.0.0.1"));
    assert_eq!(server.announce(&observer("t")).peers(), ["10.0.0.1:6881"]);
    let here = observer("t").without("ip");
    assert_eq!(server.announce(&here).peers(), ["10.0.0.1:6881", "127.0.0.1:6881", "[::1]:6881"]);
    let here = here.at("::1");
    assert_eq!(server.announce(&here).peers(), ["10.0.0.1:6881", "127.0.0.1:6881", "[::1]:6881"]);
}

#[test]
fn s2_6_mapped_addresses_are_ipv4_and_zones_are_dropped() {
    let server = Server::start(&[]);
    for (n, (ip, external_ip)) in [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0002", "10.0.0.2"),
        ("[::ffff:10.0.0.3]:9", "10.0.0.3"),
        ("10.0.0.4:9", "10.0.0.4"),
        ("fd00::1%25eth0", "fd00::1"),
        ("[fd00::2%25eth0]:9", "fd00::2"),
        ("FD00:0:0:0:0:0:0:3", "fd00::3"),
    ]
    .into_iter()
    .enumerate()
    {
        let announce = announce("t", &n.to_string()).at(ip);
        assert_eq!(server.announce(&announce).external_ip(), external_ip, "{ip}");
    }
    let peers = ["10.0.0.1:6881", "10.0.0.2:6881", "10.0.0.3:6881", "10.0.0.4:6881"];
    let peers6 = ["[fd00::1]:6881", "[fd00::2]:6881", "[fd00::3]:6881"];
    assert_eq!(server.announce(&observer("t")).peers(), [&peers[..], &peers6].concat());
}

#[test]
fn s2_6_a_seed_gets_leechers_and_a_leecher_gets_all() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "seed").at("10.0.0.1").seed());
    server.announce(&announce("t", "leecher").at("10.0.0.2"));
    server.announce(&announce("t", "partial seed").at("10.0.0.3").event("paused"));
    server.announce(&announce("t", "seed 6").at("fd00::1").seed());
    server.announce(&announce("t", "leecher 6").at("fd00::2"));
    let leechers = ["10.0.0.2:6881", "[fd00::2]:6881"];
    assert_eq!(server.announce(&observer("t").seed()).peers(), leechers);
    assert_eq!(server.announce(&observer("t").event("paused")).peers(), leechers);
    let all = ["10.0.0.1:6881", "10.0.0.2:6881", "10.0.0.3:6881", "[fd00::1]:6881", "[fd00::2]:6881"];
    assert_eq!(server.announce(&observer("t")).peers(), all);
}

#[test]
fn s2_6_own_family_first() {
    let server = Server::start(&[]);
    for n in 1..=4 {
        server.announce(&announce("t", &format!("v4 {n}")).at(&format!("10.0.0.{n}")));
        server.announce(&announce("t", &format!("v6 {n}")).at(&format!("fd00::{n}")));
    }
    let families = |ip: &str, numwant| {
        let peers = server.announce(&observer("t").at(ip).numwant(numwant)).peers();
        let v6 = peers.iter().filter(|peer| peer.starts_with('[')).count();
        (peers.len() - v6, v6)
    };
    assert_eq!(families("10.99.99.99", 3), (3, 0));
    assert_eq!(families("10.99.99.99", 6), (4, 2));
    assert_eq!(families("fd00::9999", 3), (0, 3));
    assert_eq!(families("fd00::9999", 6), (2, 4));
    assert_eq!(families("fd00::9999", 100), (4, 4));
}

#[test]
fn s2_6_the_choice_of_peers_is_random() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for n in 1..=100 {
        connection.announce(&announce("t", &n.to_string()).at(&format!("10.0.0.{n}")).numwant(0));
    }
    let seed = "10.0.0.200:6881";
    connection.announce(&announce("t", "the only seed").at("10.0.0.200").seed().numwant(0));
    // A peer is in a reply with probability 1/5. The chance that some peer is in none of the 500 replies is 1 in 10^46.
    let mut listed = HashSet::new();
    for _ in 0..500 {
        listed.extend(connection.announce(&observer("t").numwant(20)).peers());
    }
    assert_eq!((listed.len(), listed.contains(seed)), (101, true), "{listed:?}");
}

#[test]
fn s2_7_a_whole_refusal() {
    let server = Server::start(&["-i", "900"]);
    let announce = announce("t", "a").with("port", "70000");
    assert_snapshot!(server.get(announce.target()).text(), @"d14:failure reason36:port is not a number from 0 to 655358:intervali900e8:retry in5:nevere");
    assert_snapshot!(server.get("/scrape").text(), @"d14:failure reason78:info_hash is missing: this tracker does not serve a scrape of all its torrents8:intervali900e8:retry in5:nevere");
}

#[test]
fn s2_7_a_refused_announce_changes_nothing() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    for refused in [
        announce("t", "b").at("10.0.0.2").with("port", "x"),
        announce("t", "a").at("10.0.0.1").event("stopped").with("peer_id", "%"),
        announce("t", "a").at("10.0.0.1").seed().event("completed").with("port", "-1"),
    ] {
        assert!(server.get(refused.target()).string("failure reason").is_some(), "{refused:?}");
    }
    let reply = server.announce(&observer("t"));
    assert_eq!((reply.peers(), reply.counts()), (vec!["10.0.0.1:6881".to_owned()], [0, 1, 0]));
}

#[test]
fn s2_8_warnings_do_not_read_like_failures() {
    let server = Server::start(&["-x", "--trusted-proxies", "127.0.0.1"]);
    let mut connection = server.connect();
    let mut warned = |client: u16, headers: &[(&str, &str)]| {
        let announce = announce("t", &client.to_string()).port(client).numwant(0);
        connection.announce_with(&announce, headers).string("warning message")
    };
    let rounds = (1..=3).flat_map(|_| 1..=5);
    let shared = rounds.map(|client| warned(client, &[("X-Real-IP", "172.17.0.1")])).last().unwrap();
    let page = warned(6, &[("X-Real-IP", "10.0.0.6"), ("Origin", "null")]);
    let unclear = warned(7, &[]);
    let unreachable = warned(8, &[("X-Real-IP", "224.0.0.1")]);
    for warning in [shared, page, unclear, unreachable] {
        let warning = warning.unwrap().to_lowercase();
        // rTorrent takes a warning with these words for a failure.
        for words in ["unregistered", "not registered", "torrent cannot be found"] {
            assert!(!warning.contains(words), "{warning}");
        }
    }
}

#[test]
fn s2_9_an_early_announce_is_answered_like_any_other() {
    // Some clients announce again long before `interval`: libtorrent after 300 s, aria2 after `min interval`, others after
    // a second. The tracker accepts early announces, and does not count the client twice.
    let server = Server::start(&["-i", "3600"]);
    let client = announce("t", "a").at("10.0.0.1").with("key", escape(b"\x00\xff"));
    for _ in 0..5 {
        assert_eq!(server.announce(&client).counts(), [0, 1, 0]);
    }
}
