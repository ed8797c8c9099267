//! 6. Announces over UDP that are forwarded.

use std::io::Write;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::dsl::{Server, announce, eventually, id, observer, retracker};
use crate::fake_tracker::{FakeTracker, sends, sends_when_told};
use crate::service::{ONE_PEER, forwarders};
use crate::udp_client::{UdpAnnounce, UdpClient, udp_announce};

fn server(timeout: &str, upstream: &FakeTracker) -> Server {
    // The server reads the file before it listens, so the file may be deleted after `start`.
    retracker(&["-u", "127.0.0.1:0", "-p", "-t", timeout]).env("FORWARDS_FILE", forwarders(upstream).path()).start()
}

/// Starts an upstream tracker that answers when the test sends a message on the channel.
fn upstream_on_call() -> (FakeTracker, mpsc::Sender<()>) {
    let (script, answer) = sends_when_told(ONE_PEER);
    let upstream = FakeTracker::start(script);
    (upstream, answer)
}

#[test]
fn s6_7_a_waiting_announce_delays_no_other() {
    let (upstream, answer) = upstream_on_call();
    let server = server("60", &upstream);
    let client = UdpClient::of(&server);
    client.send(&udp_announce("t", "waits").packet(client.id));
    assert!(upstream.request(1).contains("peer_id=waits"));
    // The server receives this `stopped` on the socket of the waiting announce, and answers it at once.
    let leaves = UdpAnnounce { event: 3, ..udp_announce("t", "leaves") };
    assert_eq!(client.announce(&leaves).leechers, 1);
    assert_eq!(client.connect(), client.connect());
    answer.send(()).unwrap();
    let late = client.receive();
    assert!(late.starts_with(&[0, 0, 0, 1, 1, 2, 3, 4]) && late.ends_with(b"\x0a\0\0\x07\x1a\xe1"), "{late:?}");
    // The server has the upstream's list now, so this announce does not wait.
    assert_eq!(client.announce(&UdpAnnounce { port: 0, ..udp_announce("t", "knows") }).peers.len(), 2);
}

#[test]
fn s6_7_no_announce_waits_longer_than_the_deadline() {
    let (upstream, _answer) = upstream_on_call();
    let server = server("0.2", &upstream);
    let reply = UdpClient::of(&server).announce(&udp_announce("t", "a"));
    // The interval is short, because the exchange is still under way when the announce is answered.
    assert_eq!((reply.peers, reply.interval), (vec![], 5));
}

#[test]
fn s6_7_the_number_of_waiting_announces_is_limited() {
    // These trackers never answer. Each has at most 256 exchanges under way, so the test needs several trackers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let torrents = ["a", "b", "c", "d", "e"];
    let mut file = NamedTempFile::new().unwrap();
    for torrent in torrents {
        let hash = id(torrent).map(|byte| format!("{byte:02x}")).concat();
        writeln!(file, "- uri: udp://{address}\n  name: {torrent}\n  only: [{hash}]").unwrap();
    }
    let args = ["-u", "127.0.0.1:0", "-p", "-t", "60"];
    let server = retracker(&args).env("FORWARDS_FILE", file.path()).start();
    let client = UdpClient::of(&server);
    for n in 0..220 {
        for torrent in torrents {
            // Seeds do not get each other as peers. So no seed has enough peers, and all their announces wait.
            let seed = UdpAnnounce { left: 0, port: 1000 + n, ..udp_announce(torrent, &n.to_string()) };
            client.send(&seed.packet(client.id));
        }
        // After every tenth round, the test waits until the server has read all datagrams, so that none is lost.
        assert!(n % 10 != 0 || client.answers(b"").is_empty(), "{n}");
    }
    eventually("the excess announces are not kept waiting", || {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        metrics.lines().any(|line| line == "retracker_udp_errors_total{reason=\"busy\"} 76").then_some(())
    });
    // The clients are registered, although they got no reply.
    for torrent in torrents {
        assert_eq!(server.announce(&observer(torrent).event("stopped")).int("complete"), 220);
    }
}

#[test]
fn s6_7_announces_under_way_are_finished_at_the_end() {
    let (upstream, answer) = upstream_on_call();
    let server = server("60", &upstream);
    let client = UdpClient::of(&server);
    client.send(&udp_announce("t", "a").packet(client.id));
    upstream.request(1);
    server.signal("TERM");
    server.logged("stopping");
    answer.send(()).unwrap();
    assert!(client.receive().ends_with(b"\x0a\0\0\x07\x1a\xe1"));
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn s6_7_announces_that_do_not_end_are_cut_off() {
    let (upstream, _answer) = upstream_on_call();
    let server = server("60", &upstream);
    let client = UdpClient::of(&server);
    client.send(&udp_announce("t", "a").packet(client.id));
    upstream.request(1);
    let started = Instant::now();
    let exit = server.stop();
    assert_eq!(exit.code, Some(0));
    // The server waits for the documented time. If it waits much longer, `stop` fails.
    assert!(started.elapsed().as_secs() >= 4, "{:?}", started.elapsed());
    assert!(
        exit.stderr.iter().any(|line| line.contains("shutdown: dropped 1 announces over UDP")),
        "{:?}",
        exit.stderr
    );
}

#[test]
fn s6_7_upstream_peers_reach_clients_over_udp() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let server = server("60", &upstream);
    let client = UdpClient::of(&server);
    assert_eq!(client.announce(&udp_announce("t", "a")).peers, ["10.0.0.7:6881"]);
    let request = upstream.request(1);
    assert!(request.contains("&key=DEADBEEF") && request.contains("&left=1"), "{request}");
    // Over UDP a client cannot send a user agent, so the server sends its own.
    assert!(request.contains("\r\nUser-Agent: retracker/"), "{request}");
}

/// Starts retrackers in a ring: each asks the next over UDP, and the last asks the first.
fn ring(length: usize) -> Vec<Server> {
    // The retrackers start without forwarders. When all of them listen, each gets the address of the next.
    let files: Vec<_> = (0..length).map(|_| NamedTempFile::new().unwrap()).collect();
    let start = |file: &NamedTempFile| {
        write!(file.as_file(), "[]").unwrap();
        retracker(&["-u", "127.0.0.1:0", "-t", "60"]).env("FORWARDS_FILE", file.path()).start()
    };
    let servers: Vec<_> = files.iter().map(start).collect();
    for (n, (file, server)) in files.iter().zip(&servers).enumerate() {
        let next = servers[(n + 1) % length].udp_address();
        std::fs::write(file.path(), format!("- uri: udp://{next}/announce\n  ip: client\n")).unwrap();
        server.signal("HUP");
        server.logged("; forwarders now: 1");
    }
    servers
}

#[test]
fn s6_8_a_client_is_counted_once_in_a_ring() {
    // Both servers know the client. If each server added the other's sum to its own count, the counts would grow
    // without end.
    let servers = ring(2);
    for server in &servers {
        for _ in 0..3 {
            let reply = server.announce(&announce("t", "a").at("203.0.113.1"));
            assert!(reply.int("incomplete") <= 2, "{}", reply.text());
        }
    }
}

#[test]
fn s6_8_retrackers_ask_each_other_over_udp() {
    for length in [2, 3] {
        let servers = ring(length);
        let client = |n: usize| announce("t", &format!("client{n}")).at(&format!("203.0.113.{n}"));
        for (n, server) in servers.iter().enumerate() {
            server.announce(&client(n));
            for other in &servers {
                eventually("every retracker knows the client", || {
                    let counts = other.announce(&observer("t").event("stopped")).counts();
                    (counts[1] == i64::try_from(n).unwrap() + 1).then_some(())
                });
            }
        }
        // A client gets all clients from every retracker, over HTTP and over UDP.
        for server in &servers {
            let asks = announce("t", "asks").at("203.0.113.99").without("port").numwant(200);
            assert_eq!(server.announce(&asks).peers().len(), length);
            let client = UdpClient::of(server);
            let asks = UdpAnnounce { port: 0, ..udp_announce("t", "asks").at([203, 0, 113, 99]) };
            assert_eq!(client.announce(&asks).peers.len(), length);
        }
        for server in servers {
            let exit = server.stop();
            assert_eq!(exit.code, Some(0));
            assert!(!exit.stderr.iter().any(|line| line.contains("fail")), "{:?}", exit.stderr);
        }
    }
}
