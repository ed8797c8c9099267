//! Retrackers that forward to each other in a ring. An announce goes round the ring only once.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::dsl::{Server, TestConnection, announce, escape, eventually, id, request, retracker};
use crate::fake_tracker::{FakeTracker, script, sends};
use crate::fake_udp_tracker::{FakeUdpTracker, UdpAnswer};
use crate::service::{ONE_PEER, patient};

/// Retrackers in a ring: each forwards to the next over a link that counts requests.
struct Ring {
    servers: Vec<Server>,
    links: Vec<FakeTracker>,
}

impl Ring {
    fn of(length: usize) -> Self {
        // A server needs the address of the next server before the next server has started. So it gets the address of a
        // link, and the link later gets the address of the next server.
        let targets: Vec<_> = (0..length).map(|_| Arc::new(OnceLock::<String>::new())).collect();
        let links: Vec<_> = targets.iter().map(|target| link_to(Arc::clone(target))).collect();
        let servers: Vec<_> = (0..length).map(|n| patient(&links[(n + 1) % length])).collect();
        for (target, server) in targets.iter().zip(&servers) {
            target.set(server.addresses()[0].clone()).unwrap();
        }
        Self { servers, links }
    }

    /// Returns how many requests have gone over each link.
    fn requests(&self) -> Vec<usize> {
        self.links.iter().map(FakeTracker::visits).collect()
    }
}

/// Starts a link that relays every request to a server, and the server's reply back.
fn link_to(target: Arc<OnceLock<String>>) -> FakeTracker {
    FakeTracker::start(script(move |visit| {
        visit.read();
        let mut server = TcpStream::connect(target.get().unwrap()).unwrap();
        server.write_all(visit.request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        server.read_to_end(&mut reply).unwrap();
        visit.write(&reply);
    }))
}

#[test]
fn an_announce_goes_round_once_and_every_retracker_knows_the_client() {
    for length in [2, 3] {
        let ring = Ring::of(length);
        let started = Instant::now();
        for (n, server) in ring.servers.iter().enumerate() {
            let client = announce("t", &format!("client{n}")).at(&format!("10.0.0.{}", n + 1));
            server.announce(&client);
            eventually("the announce has gone round", || (ring.requests() == vec![n + 1; length]).then_some(()));
        }
        // The reply of every retracker must list all clients. A client that announced to the neighbour's neighbour may
        // be missing at first. The retracker gets this client when it asks its neighbour again, after ten seconds.
        thread::scope(|scope| {
            for (n, server) in ring.servers.iter().enumerate() {
                scope.spawn(move || {
                    let asks = announce("t", &format!("asks{n}")).at("10.0.0.9").port(9);
                    eventually("the reply has all clients", || {
                        let peers = server.announce(&asks).peers();
                        let known = |n| peers.contains(&format!("10.0.0.{n}:6881"));
                        (1..=length).all(known).then_some(())
                    });
                });
            }
        });
        // However often a client announces, its announce is forwarded only once in ten seconds.
        let requests = ring.requests();
        let times = 1 + usize::try_from(started.elapsed().as_secs()).unwrap() / 10;
        let most = 2 * length * times;
        assert!(requests.iter().all(|&requests| requests <= most), "{requests:?}, expected at most {most}");
    }
}

/// Starts a link that relays UDP announces over HTTP without `Via`, as a tracker does that does not know retracker's
/// option. A server repeats a datagram if the answer is slow, so the link does not relay the same announce twice. The
/// link also stops an announce on its second round, but [`passed_on`] counts that announce.
fn udp_link_to(target: Arc<OnceLock<String>>) -> FakeUdpTracker {
    let passed_on = Mutex::new(HashSet::new());
    FakeUdpTracker::start(move |heard| {
        if !passed_on.lock().unwrap().insert((heard.info_hash, heard.peer_id, heard.event, heard.left)) {
            return UdpAnswer::Peers { interval: 1800, seeders: 0, leechers: 0, peers: Vec::new() };
        }
        let event = ["", "completed", "started", "stopped"][usize::try_from(heard.event).unwrap()];
        let name = |id: &[u8]| String::from_utf8(id.to_vec()).unwrap();
        let announce = announce(&name(&heard.info_hash), &name(&heard.peer_id)).port(heard.port).event(event);
        let announce = announce.numwant(heard.numwant.into()).with("left", heard.left.to_string());
        let announce = if heard.ip.is_unspecified() { announce } else { announce.at(&heard.ip.to_string()) };
        let reply = TestConnection::to(target.get().unwrap()).announce(&announce);
        let [seeders, leechers, _] = reply.counts().map(|count| u32::try_from(count).unwrap());
        let interval = u32::try_from(reply.int("interval")).unwrap();
        let peers = reply.peers().iter().filter_map(|peer| peer.parse().ok()).collect();
        UdpAnswer::Peers { interval, seeders, leechers, peers }
    })
}

/// Returns how many announces a server has forwarded, successfully or not, or `None` while an announce is under way.
/// The sender counts, because on a busy machine the receiver would also count repeated datagrams.
fn passed_on(server: &Server) -> Option<usize> {
    let metrics = server.get("/metrics").text();
    let value = |name: &str| {
        let samples = metrics.split("\\n").filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        samples.map(|(_, value)| value.parse::<usize>().unwrap()).sum::<usize>()
    };
    let under_way = value("retracker_forward_exchanges_in_flight{");
    (under_way == 0).then(|| value("retracker_forward_exchanges_total{"))
}

#[test]
fn a_ring_over_udp_settles_too() {
    for length in [2, 3] {
        let targets: Vec<_> = (0..length).map(|_| Arc::new(OnceLock::<String>::new())).collect();
        let links: Vec<_> = targets.iter().map(|target| udp_link_to(Arc::clone(target))).collect();
        let servers: Vec<_> = (0..length)
            .map(|n| {
                let mut file = NamedTempFile::new().unwrap();
                let next = links[(n + 1) % length].address();
                writeln!(file, "- uri: udp://{next}/announce\n  ip: client").unwrap();
                retracker(&["-p", "-t", "60"]).env("FORWARDS_FILE", file.path()).start()
            })
            .collect();
        for (target, server) in targets.iter().zip(&servers) {
            target.set(server.addresses()[0].clone()).unwrap();
        }
        let went_round = |times: usize| {
            eventually("the announce has gone round, and not once more", || {
                servers.iter().all(|server| passed_on(server) == Some(times)).then_some(())
            });
        };
        let client = |n: usize| announce("t", &format!("client{n}")).at(&format!("203.0.113.{n}"));
        for (n, server) in servers.iter().enumerate() {
            server.announce(&client(n).event("started"));
            went_round(n + 1);
            // Every retracker knows each client.
            for other in &servers {
                let asks = announce("t", "asks").at("203.0.113.99").without("port").event("stopped").numwant(200);
                assert_eq!(other.announce(&asks).counts()[1], i64::try_from(n).unwrap() + 1, "{length} in a ring");
            }
        }
        for (n, server) in servers.iter().enumerate() {
            server.announce(&client(n).seed().event("completed"));
            went_round(length + 2 * n + 1);
            server.announce(&client(n).seed().event("stopped"));
            went_round(length + 2 * n + 2);
        }
        for server in &servers {
            let scrape = server.get(format!("/scrape?info_hash={}", escape(&id("t"))));
            assert!(
                scrape.text().contains("8:completei0e") && scrape.text().contains("10:incompletei0e"),
                "{scrape:?}"
            );
        }
        // No announce is under way any more.
        went_round(3 * length);
    }
}

#[test]
fn a_stop_goes_round_once() {
    let ring = Ring::of(2);
    let client = announce("t", "a").at("10.0.0.1");
    ring.servers[0].announce(&client);
    ring.servers[0].announce(&client.event("stopped"));
    eventually("the stop has gone round", || (ring.requests() == [2, 2]).then_some(()));
    let asks = ring.servers[1].announce(&announce("t", "asks").at("10.0.0.9"));
    assert_eq!(asks.peers(), [""; 0]);
    eventually("the next announce has gone round", || (ring.requests() == [3, 3]).then_some(()));
}

#[test]
fn an_announce_with_many_hops_is_not_forwarded() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let server = patient(&upstream);
    let ask = |via: &[(&str, &str)]| server.connect().announce_with(&announce("t", "a").at("10.0.0.1"), via);
    assert_eq!(ask(&[("Via", "1.1 a, 1.1 b"), ("Via", "1.1 c")]).peers(), ["10.0.0.7:6881"]);
    // After too many hops, the server replies with the peers that it knows. It does not ask its upstream, even if it
    // knows no peers.
    let server_2 = patient(&upstream);
    let far = [("Via", "1.1 a, 1.1 b"), ("Via", "1.1 c, 1.1 d")];
    assert_eq!(ask(&far).peers(), ["10.0.0.7:6881"]);
    assert_eq!(server_2.connect().announce_with(&announce("t", "a").at("10.0.0.1"), &far).peers(), [""; 0]);
    assert_eq!(upstream.visits(), 1);
    let sent = upstream.request(1);
    let via: Vec<_> = sent.lines().filter(|line| line.to_ascii_lowercase().starts_with("via:")).collect();
    let name = via[0].strip_prefix("Via: 1.1 a, 1.1 b, 1.1 c, 1.1 retracker-").unwrap();
    assert!(via.len() == 1 && name.len() == 16, "{via:?}");
    // The server does not forward an announce with its own name in `Via`.
    let own = format!("1.1 retracker-{name}");
    assert_eq!(ask(&[("Via", own.as_str())]).peers(), [""; 0]);
    assert_eq!(upstream.visits(), 1);
    // An announce without `Via` is forwarded again.
    server.connect().send(request("GET", announce("t", "b").target(), &[]));
    upstream.request(2);
}
