//! 6. The same tracker over UDP (BEP 15, BEP 41).

use insta::assert_snapshot;

use crate::dsl::{Server, TestConnection, announce, id, observer, retracker};
use crate::udp_client::{TRANSACTION, UdpAnnounce, UdpClient, connect_packet, scrape_packet, udp_announce};

pub(crate) fn server(args: &[&str]) -> Server {
    Server::start(&[&["-u", "127.0.0.1:0"], args].concat())
}

/// Starts a server on `::1`. On a host without IPv6, prints a message and returns `None`.
fn server_on_ipv6(args: &[&str]) -> Option<Server> {
    Server::start_on_ipv6(&[&["-u", "[::1]:0"], args].concat())
}

fn text(packet: &[u8]) -> String {
    packet.escape_ascii().to_string()
}

// --- Packets --------------------------------------------------------------------------------------------------

#[test]
fn s6_1_packets_over_ipv4() {
    let server = server(&["-i", "77"]);
    let client = UdpClient::of(&server);
    let ask = |announce: &UdpAnnounce| text(&client.ask(&announce.packet(client.id)));
    let seed = UdpAnnounce { left: 0, event: 1, ..udp_announce("t", "seed").at([10, 0, 0, 1]) };
    assert_snapshot!(ask(&seed), @r"\x00\x00\x00\x01\x01\x02\x03\x04\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00\x01");
    let leecher = udp_announce("t", "leecher").at([10, 0, 0, 2]);
    assert_snapshot!(ask(&leecher), @r"\x00\x00\x00\x01\x01\x02\x03\x04\x00\x00\x00M\x00\x00\x00\x01\x00\x00\x00\x01\n\x00\x00\x01\x1a\xe1");
    let scrape = client.ask(&scrape_packet(client.id, &[id("t"), id("u")]));
    assert_snapshot!(text(&scrape), @r"\x00\x00\x00\x02\x01\x02\x03\x04\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    assert_snapshot!(text(&client.ask(&scrape_packet([0; 8], &[id("t")]))), @r"\x00\x00\x00\x03\x01\x02\x03\x04connection id has expired");
}

#[test]
fn s6_1_packets_over_ipv6() {
    let Some(server) = server_on_ipv6(&["-i", "77"]) else { return };
    let client = UdpClient::of(&server);
    let ask = |announce: &UdpAnnounce| text(&client.ask(&announce.packet(client.id)));
    assert_snapshot!(ask(&udp_announce("t", "a")), @r"\x00\x00\x00\x01\x01\x02\x03\x04\x00\x00\x00M\x00\x00\x00\x01\x00\x00\x00\x00");
    let other = UdpAnnounce { port: 1, ..udp_announce("t", "b") };
    assert_snapshot!(ask(&other), @r"\x00\x00\x00\x01\x01\x02\x03\x04\x00\x00\x00M\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1");
    let scrape = client.ask(&scrape_packet(client.id, &[id("t")]));
    assert_snapshot!(text(&scrape), @r"\x00\x00\x00\x02\x01\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02");
}

#[test]
fn s6_1_peers_that_do_not_fit_are_left_out_at_random() {
    let Some(server) = server_on_ipv6(&[]) else { return };
    for n in 0..140 {
        let peer = announce("t", &format!("peer {n}")).at(&format!("fd00::{n:x}:1"));
        server.announce(&if n < 20 { peer.seed() } else { peer });
    }
    let client = UdpClient::of(&server);
    let peers = client.announce(&UdpAnnounce { numwant: 200, ..udp_announce("t", "asks") }).peers;
    let is_seed = |peer: &&String| (0..20).any(|n| **peer == format!("[fd00::{n:x}:1]:6881"));
    assert_eq!(peers.len(), 67);
    assert!(peers.iter().filter(is_seed).count() > 0, "{peers:?}");
}

#[test]
fn s6_1_one_socket_for_both_families() {
    let server = Server::start(&["-u", ":0"]);
    let port = server.udp_address().port();
    let v4 = UdpClient::to(([127, 0, 0, 1], port).into());
    assert_eq!(v4.announce(&udp_announce("t", "a").at([10, 0, 0, 1])).peers, [""; 0]);
    assert_eq!(v4.announce(&udp_announce("t", "b").at([10, 0, 0, 2])).peers, ["10.0.0.1:6881"]);
    let Some(_) = server_on_ipv6(&[]) else { return };
    let v6 = UdpClient::to(([0, 0, 0, 0, 0, 0, 0, 1], port).into());
    assert_eq!(v6.announce(&udp_announce("t", "c")).peers, [""; 0]);
    // Each client gets only peers of its own address family.
    let seen = v6.announce(&UdpAnnounce { port: 1, ..udp_announce("t", "d") });
    assert_eq!((seen.peers, seen.leechers), (vec!["[::1]:6881".to_owned()], 4));
    let seen = v4.announce(&udp_announce("t", "e").at([10, 0, 0, 5]));
    assert_eq!((seen.peers.len(), seen.leechers), (2, 5));
}

#[test]
#[cfg(target_os = "linux")]
fn s6_1_the_reply_comes_from_the_address_that_was_asked() {
    // All of 127/8 belongs to this host. The client accepts a reply only from the address that it asked.
    for listen in [":0", "0.0.0.0:0"] {
        let server = Server::start(&["-u", listen]);
        let port = server.udp_address().port();
        for last in [1, 2, 77] {
            UdpClient::to(([127, 0, 0, last], port).into()).announce(&udp_announce("t", "a"));
        }
    }
}

#[test]
fn s6_1_udp_and_http_in_one_swarm() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    client.announce(&udp_announce("t", "udp").at([10, 0, 0, 1]));
    let reply = server.announce(&announce("t", "http").at("10.0.0.2"));
    assert_eq!((reply.peers(), reply.counts()), (vec!["10.0.0.1:6881".to_owned()], [0, 2, 0]));
    let reply = client.announce(&UdpAnnounce { left: 0, event: 1, ..udp_announce("t", "udp").at([10, 0, 0, 1]) });
    assert_eq!((reply.peers, reply.seeders, reply.leechers), (vec!["10.0.0.2:6881".to_owned()], 1, 1));
    assert_eq!(server.announce(&observer("t")).counts(), [1, 1, 1]);
    let stopped = client.announce(&UdpAnnounce { event: 3, ..udp_announce("t", "udp").at([10, 0, 0, 1]) });
    assert_eq!((stopped.peers, stopped.seeders), (vec![], 0));
    assert_eq!(server.announce(&observer("t")).peers(), ["10.0.0.2:6881"]);
}

// --- Announces ------------------------------------------------------------------------------------------------

#[test]
fn s6_2_as_many_peers_as_are_wanted_and_no_packet_too_large() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    let mut http = server.connect();
    for n in 0..=250_u8 {
        http.announce(&announce("t", &format!("v4 {n}")).at(&format!("10.0.1.{n}")));
        http.announce(&announce("t", &format!("v6 {n}")).at(&format!("fd00::1:{n}")));
    }
    let asks = |numwant| UdpAnnounce { numwant, port: 0, ..udp_announce("t", "asks").at([10, 0, 0, 9]) };
    for (numwant, given) in [(-1, 50), (i32::MIN, 50), (0, 0), (1, 1), (80, 80), (200, 200), (i32::MAX, 200)] {
        assert_eq!(client.announce(&asks(numwant)).peers.len(), given, "{numwant}");
    }
    let Some(other) = server_on_ipv6(&[]) else { return };
    let mut http = other.connect();
    for n in 0..100 {
        http.announce(&announce("t", &format!("v6 {n}")).at(&format!("fd00::1:{n}")));
    }
    let client = UdpClient::of(&other);
    let asks = UdpAnnounce { numwant: 200, port: 0, ..udp_announce("t", "asks") };
    assert_eq!(client.ask(&asks.packet(client.id)).len(), 20 + 67 * 18);
}

#[test]
fn s6_2_events_by_their_numbers() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    let says = |event, left| client.announce(&UdpAnnounce { left, event, ..udp_announce("t", "a") });
    for (event, left, seeders, leechers) in
        // BEP 15 does not define events from 4 on. They count as ordinary announces.
        [
            (2, 1, 0, 1),
            (0, 1, 0, 1),
            (4, 1, 0, 1),
            (u32::MAX, u64::MAX, 0, 1),
            (1, 0, 1, 0),
            (0, 0, 1, 0),
            (3, 0, 0, 0),
        ]
    {
        let reply = says(event, left);
        assert_eq!((reply.seeders, reply.leechers), (seeders, leechers), "{event} {left}");
    }
    assert_eq!(server.announce(&observer("t")).int("downloaded"), 1);
}

#[test]
fn s6_2_a_client_without_a_port_gets_peers_but_is_not_listed() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    client.announce(&udp_announce("t", "a").at([10, 0, 0, 1]));
    let hidden = UdpAnnounce { port: 0, ..udp_announce("t", "b").at([10, 0, 0, 2]) };
    assert_eq!(client.announce(&hidden).peers, ["10.0.0.1:6881"]);
    assert_eq!(client.announce(&udp_announce("t", "a").at([10, 0, 0, 1])).peers, [""; 0]);
}

#[test]
fn s6_2_fields_without_effect_are_never_refused() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    let plain = udp_announce("t", "a");
    for odd in [
        UdpAnnounce { left: u64::MAX, ..plain.clone() },
        UdpAnnounce { left: i64::MAX.unsigned_abs(), ..plain.clone() },
        UdpAnnounce { event: 4, ..plain.clone() },
        UdpAnnounce { event: u32::MAX, ..plain.clone() },
        UdpAnnounce { numwant: i32::MIN, ..plain.clone() },
        UdpAnnounce { numwant: i32::MAX, ..plain.clone() },
        UdpAnnounce { ip: [255; 4].into(), ..plain.clone() },
        UdpAnnounce { ip: [127, 0, 0, 1].into(), ..plain.clone() },
        UdpAnnounce { options: vec![0xff; 300], ..plain.clone() },
        UdpAnnounce { options: b"\0\0\0\0trailing".to_vec(), ..plain.clone() },
    ] {
        let reply = client.announce(&odd);
        assert_eq!((reply.seeders, reply.leechers), (0, 1), "{odd:?}");
    }
}

#[test]
fn s6_2_path_and_query_of_the_announce_url() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    let with = |options: &[u8]| UdpAnnounce { options: options.to_vec(), ..udp_announce("t", "a") };
    for served in [
        &b""[..],
        b"\x00junk behind the end",
        b"\x02\x09/announce",
        b"\x02\x0d/announce.php\x00",
        b"\x01\x02\x04/ann\x01\x02\x05ounce",
        b"\x02\x01/",
        b"\x02\x12/announce?passkey=",
        // As over HTTP, additional slashes, upper case and escapes in the path make no difference.
        b"\x02\x0a//announce",
        b"\x02\x0a/announce/",
        b"\x02\x0e///announce/?x",
        b"\x02\x0e/announce.php/",
        b"\x02\x09/Announce",
        b"\x02\x0b/%61nnounce",
        b"\x02\x02//",
        b"\x02\x11http://x/announce",
        b"\x02\x0d/announce#lan",
        // Some of these options are cut off, and BEP 41 does not define the others.
        b"\x02",
        b"\x02\xff/announce",
        b"\xff\x03abc",
        b"\xff",
    ] {
        client.announce(&with(served));
    }
    for refused in [&b"\x02\x08/anounce"[..], b"\x02\x0b/x/announce", b"\x02\x07/scrape", b"\x02\x0b/announce/x"] {
        let refused = client.refused(&with(refused).packet(client.id));
        assert_eq!(refused, "no tracker here: the path of the announce URL must be /announce");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn s6_2_the_address_is_the_socket_s() {
    let server = server(&[]);
    let client = |last| UdpClient::from([127, 0, 0, last].into(), server.udp_address());
    client(2).announce(&udp_announce("t", "a"));
    assert_eq!(client(3).announce(&udp_announce("t", "b")).peers, ["127.0.0.2:6881"]);
}

#[test]
fn s6_3_a_scrape_is_answered_in_its_own_order() {
    let server = server(&[]);
    let client = UdpClient::of(&server);
    server.announce(&announce("b", "seed").at("10.0.0.1").seed());
    server.announce(&announce("a", "leecher").at("10.0.0.2"));
    let scrape = |torrents: &[[u8; 20]]| {
        let response = client.ask(&scrape_packet(client.id, torrents));
        assert_eq!(response[..8], [&[0, 0, 0, 2], &TRANSACTION[..]].concat());
        let counts = |entry: &[u8]| [entry[3], entry[7], entry[11]];
        response[8..].chunks_exact(12).map(counts).collect::<Vec<_>>()
    };
    let [a, b, c] = ["a", "b", "c"].map(id);
    let (seed, leecher, nothing) = ([1, 0, 0], [0, 0, 1], [0, 0, 0]);
    assert_eq!(scrape(&[c, b, a, b]), [nothing, seed, leecher, seed]);
    assert_eq!(scrape(&[[b].as_slice(), &[c; 72], &[a]].concat()).len(), 74);
    // If a scrape has too many torrents, the first ones are answered.
    assert_eq!(scrape(&[a; 80]), [leecher; 74]);
    // An incomplete hash is ignored.
    let odd = [scrape_packet(client.id, &[a]), b"-------------------".to_vec()].concat();
    assert_eq!(client.ask(&odd).len(), 8 + 12);
    let refused = client.refused(&scrape_packet(client.id, &[]));
    assert_eq!(refused, "info_hash is missing: this tracker does not serve a scrape of all its torrents");
}

// --- Connection ids -----------------------------------------------------------------------------------------------

#[test]
fn s6_4_an_id_is_valid_from_any_port_and_any_number_of_times() {
    let server = server(&[]);
    let one = UdpClient::of(&server);
    let mut other = UdpClient::of(&server);
    other.id = one.id;
    for client in [&one, &other, &one] {
        client.announce(&udp_announce("t", "a"));
    }
}

#[test]
fn s6_4_ids_that_were_not_issued_are_refused() {
    let server = server(&["-p"]);
    let client = UdpClient::of(&server);
    let of_another_run = UdpClient::of(&self::server(&[])).id;
    let mut changed = client.id;
    changed[0] ^= 1;
    let mut older = client.id;
    older[7] = older[7].wrapping_sub(1);
    let ids = [[0; 8], [0xff; 8], changed, older, of_another_run, *b"\0\0\x04\x17\x27\x10\x19\x80"];
    for id in ids {
        let packet = udp_announce("t", "a").packet(id);
        assert_eq!(client.refused(&packet), "connection id has expired", "{id:?}");
    }
    assert_eq!(client.refused(&scrape_packet([0; 8], &[id("t")])), "connection id has expired");
    // An error would be larger than this datagram, so the server sends none.
    assert_eq!(client.answers(&scrape_packet([0; 8], &[])), [[0; 0]; 0]);
    assert_eq!(server.announce(&observer("t")).counts(), [0, 0, 0]);
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    let unknown = ids.len() + 2;
    assert!(metrics.contains(&format!("retracker_udp_errors_total{{reason=\"unknown_id\"}} {unknown}")), "{metrics}");
}

#[test]
#[cfg(target_os = "linux")]
fn s6_4_an_id_is_valid_from_one_address() {
    // An attacker can forge the source address of a packet, but gets an id only for its own address.
    let server = server(&[]);
    let attacker = UdpClient::from([127, 0, 0, 2].into(), server.udp_address());
    let mut victim = UdpClient::from([127, 0, 0, 3].into(), server.udp_address());
    let own = std::mem::replace(&mut victim.id, attacker.id);
    assert_eq!(victim.refused(&udp_announce("t", "a").packet(victim.id)), "connection id has expired");
    victim.id = own;
    assert_eq!(victim.announce(&udp_announce("t", "b")).leechers, 1);
}

// --- Listening ------------------------------------------------------------------------------------------------

#[test]
fn s6_5_several_addresses_by_flag_or_variable() {
    let server = Server::start(&["-u", "127.0.0.1:0", "--udp-listen=localhost:0", "-u127.0.0.1:0"]);
    assert_eq!(server.log().iter().filter(|line| line.contains("listening on udp://127.0.0.1:")).count(), 3);
    let server = retracker(&[]).env("UDP_LISTEN_ADDR", "127.0.0.1:0, 127.0.0.1:0").start();
    UdpClient::of(&server).announce(&udp_announce("t", "a"));
    for setup in [retracker(&[]), retracker(&[]).env("UDP_LISTEN_ADDR", "")] {
        let log = setup.start().stop().stderr;
        assert!(!log.iter().any(|line| line.contains("udp://")), "{log:?}");
    }
}

#[test]
fn s6_5_bad_addresses_stop_the_start() {
    let expected = "expected addresses such as :6969, 127.0.0.1:6969, [::1]:6969 or proxy+udp://:6969";
    for wrong in ["6969", "unix:/run/x.sock", "udp://:6969", ":6969;", "proxy+udp://", "proxy+tcp://:6969"] {
        for (setup, name) in [
            (retracker(&["-u", wrong]), "-u/--udp-listen"),
            (retracker(&[]).env("UDP_LISTEN_ADDR", wrong), "UDP_LISTEN_ADDR"),
        ] {
            let exit = setup.run();
            assert_eq!(exit.code, Some(2), "{exit:?}");
            assert_eq!(exit.stderr, [format!("retracker: {name} is \"{wrong}\", {expected}")]);
        }
    }
}

#[test]
fn s6_5_a_port_that_is_taken_ends_the_start() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let shared = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    shared.set_reuse_port(true).unwrap();
    shared.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let shared = shared.local_addr().unwrap().as_socket().unwrap();
    let server = server(&[]);
    for address in [taken.local_addr().unwrap(), shared, server.udp_address()] {
        let exit = retracker(&["-l", "127.0.0.1:0", "-u", &address.to_string()]).run();
        assert_eq!(exit.code, Some(1), "{exit:?}");
        assert!(exit.stderr[0].contains(&format!("cannot listen on udp://{address}: ")), "{exit:?}");
    }
}

#[test]
fn s6_5_requests_are_counted_in_the_metrics() {
    let server = server(&["-p"]);
    let client = UdpClient::of(&server);
    client.announce(&udp_announce("t", "a"));
    TestConnection::to(&server.addresses()[0]).announce(&announce("t", "b"));
    client.ask(&scrape_packet(client.id, &[id("t")]));
    client.answers(&connect_packet(TRANSACTION)[..15]);
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in [
        "requests 2",
        "retracker_announces_total{protocol=\"udp\",outcome=\"answered\"} 1",
        "retracker_announces_total{protocol=\"http\",outcome=\"answered\"} 1",
        "retracker_scrapes_total{protocol=\"udp\",outcome=\"answered\"} 1",
        "retracker_scrapes_total{protocol=\"http\",outcome=\"answered\"} 0",
        "retracker_announce_duration_seconds_count 2",
        "retracker_udp_connects_total 2",
        "retracker_udp_errors_total{reason=\"malformed\"} 1",
        "retracker_udp_errors_total{reason=\"unknown_id\"} 0",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
}
