//! Torrent files and leases of shared blobs: each row of the table in docs/torrent-cache.md, and the requests that the
//! tracker refuses.

use std::io::Read as _;
use std::net::{IpAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tracker_protocol::metainfo::{MAX_METAINFO, MIN_PIECE_LENGTH, Metainfo, MetainfoParts};

use crate::dsl::{
    CertificateFiles, Reply, Server, ServerSetup, TestConnection, announce, escape, eventually, request, retracker,
};

/// Flags of a server that takes a client's address from `X-Real-IP`, so that a test can act as many hosts.
const ARGS: [&str; 4] = ["--torrents", "--torrents-listen=127.0.0.1:0", "--trusted-proxies", "127.0.0.1"];

const TOKEN: &str = "0123456789abcdef";

fn start() -> Server {
    Server::start(&ARGS)
}

/// A host of the network, with the one listener of the server to which it sends its requests.
#[derive(Clone)]
struct BlobHost {
    address: String,
    ip: String,
    token: Option<&'static str>,
}

impl BlobHost {
    fn at(server: &Server, ip: &str) -> Self {
        Self { address: server.addresses()[0].clone(), ip: ip.to_owned(), token: None }
    }

    /// Sends a request on a connection of its own, without waiting for the reply.
    fn send(&self, method: &str, target: &str, body: &[u8]) -> TestConnection {
        let mut connection = TestConnection::to(&self.address);
        connection.send(self.bytes(method, target, body));
        connection
    }

    fn bytes(&self, method: &str, target: &str, body: &[u8]) -> Vec<u8> {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nX-Real-IP: {}\r\n{token}{length}\r\n", self.ip);
        [head.as_bytes(), body].concat()
    }

    fn call(&self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Reply {
        let reply = self.send(method, target, body.as_ref()).reply();
        assert_eq!(reply.header("x-boot").map(str::len), Some(16), "{method} {target}: {}", reply.text());
        reply
    }

    fn get(&self, target: &str) -> Reply {
        self.call("GET", target, "")
    }

    fn status(&self, method: &str, target: &str, body: impl AsRef<[u8]>) -> u16 {
        self.call(method, target, body).status
    }

    /// Claims a lease, which must be free. Returns the generation of the lease.
    fn claim(&self, key: &str) -> u64 {
        let reply = self.call("POST", &format!("/leases/{key}"), r#"{"port": 6881}"#);
        assert_eq!(reply.status, 201, "{}", reply.text());
        assert_eq!(body(&reply)["ttl"], 15);
        body(&reply)["generation"].as_u64().unwrap()
    }
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.text()))
}

/// Makes a torrent file of one piece.
fn metainfo(name: &str) -> Metainfo {
    pieces(name, 1)
}

fn pieces(name: &str, count: usize) -> Metainfo {
    let metainfo = Metainfo::new(MetainfoParts {
        name: name.to_owned(),
        length: count as u64 * u64::from(MIN_PIECE_LENGTH),
        piece_length: MIN_PIECE_LENGTH,
        piece_hashes: vec![[7; 20]; count],
        private: false,
        source: None,
    });
    metainfo.unwrap()
}

fn file(name: &str) -> Vec<u8> {
    metainfo(name).encode()
}

// --- Torrent files --------------------------------------------------------------------------------------------

#[test]
fn a_torrent_file_is_stored_read_and_removed() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    let key = "/torrents/sha256:0a";
    assert_eq!(host.status("GET", key, ""), 404);
    let created = host.call("PUT", key, file("a"));
    assert_eq!((created.status, &body(&created)["info_hash"]), (201, &json!(metainfo("a").info_hash().to_string())));
    assert_eq!(host.status("PUT", key, file("a")), 200);
    let other = BlobHost::at(&server, "10.0.0.2");
    let conflict = other.call("PUT", key, file("b"));
    assert_eq!(conflict.status, 409);
    assert!(conflict.text().contains(&metainfo("a").info_hash().to_string()), "{}", conflict.text());
    let read = other.get("/torrents/sha256%3A0a");
    assert_eq!((read.status, read.header("content-type")), (200, Some("application/x-bittorrent")));
    assert_eq!(read.body, file("a"));
    let mut connection = TestConnection::to(&other.address);
    connection.send(other.bytes("HEAD", key, b""));
    let head = connection.head_of_reply();
    assert_eq!((head.status, head.header("content-length")), (200, Some(file("a").len().to_string().as_str())));
    assert_eq!(host.status("DELETE", key, ""), 204);
    assert_eq!(host.status("DELETE", key, ""), 204);
    assert_eq!(host.status("GET", key, ""), 404);
    assert_eq!(host.status("PUT", key, file("b")), 201);
}

#[test]
fn an_etag_saves_the_body() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    host.call("PUT", "/torrents/a", file("a"));
    let tag = host.get("/torrents/a").header("etag").unwrap().to_owned();
    let mut connection = TestConnection::to(&host.address);
    for (given, status) in [(tag.as_str(), 304), (&format!("\"x\", W/{tag}"), 304), ("*", 304), ("\"x\"", 200)] {
        let reply = connection.get_with("/torrents/a", &[("If-None-Match", given), ("X-Real-IP", "10.0.0.1")]);
        assert_eq!((reply.status, reply.header("etag")), (status, Some(tag.as_str())), "{given}");
        assert_eq!(reply.body.is_empty(), status == 304, "{given}");
    }
    host.call("DELETE", "/torrents/a", "");
    host.call("PUT", "/torrents/a", file("b"));
    assert_ne!(host.get("/torrents/a").header("etag"), Some(tag.as_str()));
}

#[test]
fn complaints_of_two_hosts_remove_a_torrent_file() {
    let server = start();
    let hosts = ["10.0.0.1", "10.0.0.2"].map(|ip| BlobHost::at(&server, ip));
    hosts[0].call("PUT", "/torrents/a", file("a"));
    for _ in 0..3 {
        assert_eq!(hosts[0].status("POST", "/torrents/a/complaint", ""), 204);
    }
    assert_eq!(hosts[0].status("GET", "/torrents/a", ""), 200);
    assert_eq!(hosts[1].status("POST", "/torrents/a/complaint", "{}"), 204);
    assert_eq!(hosts[0].status("GET", "/torrents/a", ""), 404);
    let line = server.logged("the torrent file of a is removed");
    assert!(line.contains("10.0.0.1 and 10.0.0.2"), "{line}");
    assert_eq!(hosts[1].status("POST", "/torrents/none/complaint", ""), 204);
}

#[test]
fn missing_torrent_files_are_told_to_one_host() {
    let server = start();
    let hosts = ["10.0.0.1", "10.0.0.2"].map(|ip| BlobHost::at(&server, ip));
    hosts[0].call("PUT", "/torrents/b", file("b"));
    let ask = |host: &BlobHost, keys: &Value| {
        let reply = host.call("POST", "/torrents/missing", keys.to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        body(&reply)
    };
    assert_eq!(ask(&hosts[0], &json!(["a", "b", "c", "a"])), json!(["a", "c", "a"]));
    assert_eq!(ask(&hosts[1], &json!(["a", "b", "c", "d"])), json!(["d"]));
    assert_eq!(ask(&hosts[0], &json!(["a", "d"])), json!(["a"]));
    assert_eq!(ask(&hosts[0], &json!([])), json!([]));
    let longest = |count: usize| json!((0..count).map(|n| format!("{n:0>255}")).collect::<Vec<_>>());
    assert_eq!(ask(&hosts[0], &longest(1000)).as_array().unwrap().len(), 1000);
    assert_eq!(hosts[0].status("POST", "/torrents/missing", longest(1001).to_string()), 400);
    for wrong in ["", "{}", "[1]", "[\"a/b\"]", "[\"\"]", "[\"a\"", "nonsense", &"[".repeat(100_000)] {
        assert_eq!(hosts[0].status("POST", "/torrents/missing", wrong), 400, "{wrong}");
    }
}

#[test]
fn a_host_learns_whether_its_port_is_reached() {
    let server = Server::start(&[&ARGS[..], &["-p"]].concat());
    let ask = |ip: &str, port: u16| {
        let reply = BlobHost::at(&server, ip).call("POST", "/torrents/reach", json!({ "port": port }).to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        body(&reply)
    };
    // The test uses 127.0.7.1, because no other program listens there.
    let listener = TcpListener::bind("127.0.7.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(ask("127.0.7.1", port), json!({ "address": format!("127.0.7.1:{port}"), "reached": true }));
    // The tracker connected and sent nothing.
    let (mut stream, from) = listener.accept().unwrap();
    assert_eq!((stream.read_to_end(&mut Vec::new()).unwrap(), from.ip()), (0, IpAddr::from([127, 0, 0, 1])));
    // 127.0.7.2 is another host's address. No program listens there on this port.
    assert_eq!(ask("127.0.7.2", port), json!({ "address": format!("127.0.7.2:{port}"), "reached": false }));
    drop(listener);
    assert_eq!(ask("127.0.7.1", port)["reached"], false);
    let host = BlobHost::at(&server, "127.0.7.1");
    for wrong in ["", "{}", "{\"port\": 0}", "{\"port\": 65536}", "{\"port\": \"80\"}"] {
        assert_eq!(host.status("POST", "/torrents/reach", wrong), 400, "{wrong}");
    }
    // The tracker ignores an address in the body.
    let named = host.call("POST", "/torrents/reach", format!("{{\"port\": {port}, \"address\": \"127.0.7.9\"}}"));
    assert_eq!(body(&named)["address"], format!("127.0.7.1:{port}"));
    assert_eq!(BlobHost::at(&server, "8.8.8.8").status("POST", "/torrents/reach", "{\"port\": 80}"), 403);
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in ["{outcome=\"reached\"} 1", "{outcome=\"unreached\"} 3"] {
        let line = format!("retracker_port_checks_total{line}");
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
}

#[test]
fn only_torrent_files_of_one_file_are_stored() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    let good = String::from_utf8(file("a")).unwrap();
    for wrong in [
        "",
        "nonsense",
        "de",
        &good[..good.len() - 1],
        &format!("{good}x"),
        &good.replace("6:lengthi16384e", "6:lengthi016384e"),
        &good.replace("6:lengthi16384e", "6:lengthi99999e"),
        &good.replace("12:piece lengthi16384e", "12:piece lengthi16385e"),
        &good.replace("4:name1:a", "4:name1:/"),
        "d4:infod5:filesld6:lengthi1e4:pathl1:aeee4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
    ] {
        let reply = host.call("PUT", "/torrents/a", wrong);
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
        assert!(body(&reply)["error"].as_str().unwrap().contains("no torrent file"), "{}", reply.text());
    }
    assert_eq!(host.status("GET", "/torrents/a", ""), 404);
}

#[test]
fn a_torrent_file_may_have_a_megabyte() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    let largest = pieces("a", (MAX_METAINFO - 200) / 20).encode();
    assert_eq!(host.status("PUT", "/torrents/a", &largest), 201);
    assert_eq!(host.get("/torrents/a").body, largest);
    let form = format!("value={}", escape(STANDARD.encode(&largest).as_bytes()));
    assert_eq!(host.status("PUT", "/v2/keys/torrents/a", form), 200);
    // The tracker refuses a body for its length, before any byte of the body arrives.
    let mut connection = TestConnection::to(&host.address);
    connection.send(format!(
        "PUT /torrents/b HTTP/1.1\r\nX-Real-IP: 10.0.0.1\r\nContent-Length: {}\r\n\r\n",
        MAX_METAINFO + 1
    ));
    let reply = connection.reply();
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    assert!(reply.header("x-boot").is_some());
}

#[test]
fn a_body_may_come_in_pieces_and_after_the_server_asked_for_it() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    let bytes = host.bytes("PUT", "/torrents/a", &file("a"));
    for at in [1, bytes.len() - file("a").len() - 1, bytes.len() - file("a").len(), bytes.len() - 1] {
        let mut connection = TestConnection::to(&host.address);
        connection.send(&bytes[..at]);
        connection.send(&bytes[at..]);
        assert!([200, 201].contains(&connection.reply().status), "{at}");
    }
    let mut connection = TestConnection::to(&host.address);
    let length = file("b").len();
    connection.send(format!(
        "PUT /torrents/b HTTP/1.1\r\nX-Real-IP: 10.0.0.1\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(connection.head_of_reply().status, 100);
    connection.send(file("b"));
    assert_eq!(connection.reply().status, 201);
}

#[test]
fn a_body_without_a_clear_length_is_refused() {
    let server = start();
    for (lines, status) in [
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 411),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: 99999999999999999999999\r\n", 413),
        ("Content-Length: 4097\r\n", 413),
    ] {
        let mut connection = server.connect();
        connection.send(format!("POST /leases/a HTTP/1.1\r\nX-Real-IP: 10.0.0.1\r\n{lines}\r\n"));
        let reply = connection.reply();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{lines}");
    }
    // If a client disconnects in the middle of a body, the tracker stores no torrent file.
    let host = BlobHost::at(&server, "10.0.0.1");
    let bytes = host.bytes("PUT", "/torrents/a", &file("a"));
    assert!(server.raw(&bytes[..bytes.len() - 1]).is_empty());
    assert_eq!(host.status("GET", "/torrents/a", ""), 404);
}

// --- Leases ---------------------------------------------------------------------------------------------------

#[test]
fn a_lease_is_claimed_renewed_and_released() {
    let server = start();
    let (holder, other) = (BlobHost::at(&server, "10.0.0.1"), BlobHost::at(&server, "10.0.0.2"));
    assert_eq!(holder.status("GET", "/leases/a", ""), 404);
    let swarm = "0123456789abcdef0123456789abcdef01234567";
    let claimed = holder.call("POST", "/leases/a", json!({ "port": 6889, "swarm": swarm, "size": 100 }).to_string());
    assert_eq!(claimed.status, 201);
    let generation = body(&claimed)["generation"].as_u64().unwrap();
    let refused = other.call("POST", "/leases/a", r#"{"port": 6881}"#);
    let expected = json!({ "leader": "10.0.0.1:6889", "swarm": swarm, "have": 0, "size": 100 });
    assert_eq!((refused.status, body(&refused)), (409, expected));
    let lease = format!("/leases/a/{generation}");
    assert_eq!(holder.status("PUT", &lease, r#"{"have": 50, "size": 200}"#), 204);
    let state = body(&other.get("/leases/a"));
    assert_eq!(state, json!({ "leader": "10.0.0.1:6889", "swarm": swarm, "have": 50, "size": 200, "torrent": false }));
    assert_eq!(holder.status("PUT", &lease, r#"{"have": 60}"#), 204);
    assert_eq!(body(&other.get("/leases/a"))["have"], 60);
    holder.call("PUT", "/torrents/a", file("a"));
    assert_eq!(body(&other.get("/leases/a?wait=30"))["torrent"], true);
    assert_eq!(holder.status("DELETE", &lease, ""), 204);
    assert_eq!(holder.status("DELETE", &lease, ""), 404);
    assert_eq!(holder.status("PUT", &lease, r#"{"have": 70}"#), 404);
    let state = body(&other.get("/leases/a?wait=30"));
    assert_eq!(state, json!({ "leader": null, "swarm": null, "have": 0, "size": null, "torrent": true }));
    let next = other.claim("a");
    assert!(next > generation);
    for stale in [holder.call("PUT", &lease, r#"{"have": 70}"#), holder.call("DELETE", &lease, "")] {
        assert_eq!(stale.status, 409);
        assert!(body(&stale)["error"].as_str().unwrap().contains("newer"), "{}", stale.text());
    }
}

#[test]
fn a_hundred_hosts_at_once_get_one_lease() {
    let server = start();
    let asked: Vec<_> = (1..=100)
        .map(|n| BlobHost::at(&server, &format!("10.0.1.{n}")).send("POST", "/leases/a", br#"{"port": 6881}"#))
        .collect();
    let replies: Vec<_> = asked.into_iter().map(|mut connection| connection.reply()).collect();
    let granted: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert_eq!(granted.len(), 1);
    let held: Vec<_> =
        replies.iter().filter(|reply| reply.status == 409).map(|reply| body(reply)["leader"].clone()).collect();
    assert!(held.len() == 99 && held.iter().all(|leader| leader.is_string() && *leader == held[0]), "{held:?}");
}

#[test]
fn a_dead_holder_is_replaced_within_15_seconds() {
    let server = start();
    let first = BlobHost::at(&server, "10.0.0.1").claim("a");
    let (other, start) = (BlobHost::at(&server, "10.0.0.2"), Instant::now());
    let reply = other.get("/leases/a?wait=30");
    assert_eq!(reply.status, 404, "{}", reply.text());
    assert!(other.claim("a") > first);
    // The tracker must not give the lease away earlier, because the holder may come back within its 15 seconds.
    assert!(start.elapsed() >= Duration::from_secs(14), "{:?}", start.elapsed());
}

#[test]
fn a_holder_whose_heartbeats_stop_is_replaced_within_3_seconds() {
    let server = start();
    let (holder, other) = (BlobHost::at(&server, "10.0.0.1"), BlobHost::at(&server, "10.0.0.2"));
    let lease = format!("/leases/a/{}", holder.claim("a"));
    let start = Instant::now();
    assert_eq!(holder.status("PUT", &lease, r#"{"have": 1}"#), 204);
    let ask = || (other.status("POST", "/leases/a", r#"{"port": 6881}"#) == 201).then_some(());
    eventually("the other host holds the lease", ask);
    // The tracker's clock counts whole tenths of a second. So the test may measure only 2.9 of the 3 seconds.
    assert!(start.elapsed() > Duration::from_millis(2900), "{:?}", start.elapsed());
    assert_eq!(holder.status("PUT", &lease, r#"{"have": 2}"#), 409);
    assert_eq!(body(&holder.get("/leases/a"))["leader"], "10.0.0.2:6881");
}

#[test]
fn a_long_poll_ends_when_something_changes() {
    let server = start();
    let (holder, other) = (BlobHost::at(&server, "10.0.0.1"), BlobHost::at(&server, "10.0.0.2"));
    let polls = || -> Vec<_> { (0..3).map(|_| other.send("GET", "/leases/a?wait=30", b"")).collect() };
    let all = |polls: Vec<TestConnection>| polls.into_iter().map(|mut poll| poll.reply()).collect::<Vec<_>>();
    let start = Instant::now();
    let generation = holder.claim("a");
    let waiting = polls();
    holder.call("DELETE", &format!("/leases/a/{generation}"), "");
    assert!(all(waiting).iter().all(|reply| reply.status == 404));
    holder.claim("a");
    let waiting = polls();
    holder.call("PUT", "/torrents/a", file("a"));
    assert!(all(waiting).iter().all(|reply| reply.status == 200 && body(reply)["torrent"] == true));
    // The polls were answered because the lease changed, not because the lease or a poll timed out.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn a_long_poll_takes_no_longer_than_it_says() {
    let server = start();
    BlobHost::at(&server, "10.0.0.1").claim("a");
    let start = Instant::now();
    let reply = BlobHost::at(&server, "10.0.0.2").get("/leases/a?wait=1");
    assert_eq!((reply.status, &body(&reply)["leader"]), (200, &json!("10.0.0.1:6881")));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_stop_answers_long_polls() {
    let server = start();
    BlobHost::at(&server, "10.0.0.1").claim("a");
    let mut poll = BlobHost::at(&server, "10.0.0.2").send("GET", "/leases/a?wait=30", b"");
    // If the same worker serves both connections, the server has read the long poll before it answers this request.
    let mut other = server.connect();
    assert_eq!(other.get_with("/leases/a", &[("X-Real-IP", "10.0.0.3")]).status, 200);
    let start = Instant::now();
    server.signal("TERM");
    assert!([200, 503].contains(&poll.reply().status));
    assert_eq!(server.wait().code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn long_polls_of_one_host_are_bounded() {
    let server = Server::start(&[&ARGS[..], &["-p"]].concat());
    BlobHost::at(&server, "10.0.0.1").claim("a");
    let greedy = BlobHost::at(&server, "10.0.0.2");
    let polls: Vec<_> = (0..64).map(|_| greedy.send("GET", "/leases/a?wait=30", b"")).collect();
    eventually("all long polls wait", || {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        metrics.contains("\nretracker_long_polls 64\n").then_some(())
    });
    let refused = greedy.get("/leases/a?wait=1");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    // Other hosts, and requests that do not wait, are served.
    assert_eq!(BlobHost::at(&server, "10.0.0.3").status("GET", "/leases/a?wait=1", ""), 200);
    assert_eq!(greedy.status("GET", "/leases/a", ""), 200);
    drop(polls);
}

#[test]
fn leases_of_one_host_are_bounded() {
    let server = start();
    let greedy = BlobHost::at(&server, "10.0.0.1");
    for n in 0..256 {
        greedy.claim(&n.to_string());
    }
    let refused = greedy.call("POST", "/leases/more", r#"{"port": 6881}"#);
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    BlobHost::at(&server, "10.0.0.2").claim("more");
}

#[test]
fn each_zone_has_its_own_lease() {
    let zones = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(zones.path(), "- {name: a, networks: [10.1.0.0/16]}\n- {name: b, networks: [10.2.0.0/16]}\n")
        .unwrap();
    let server = Server::start(&[&ARGS[..], &["--zones", zones.path().to_str().unwrap()]].concat());
    let host = |ip| BlobHost::at(&server, ip);
    for ip in ["10.1.0.1", "10.2.0.1", "10.3.0.1"] {
        host(ip).claim("x");
    }
    for (ip, leader) in [
        ("10.1.0.2", json!("10.1.0.1:6881")),
        ("10.2.0.2", json!("10.2.0.1:6881")),
        ("10.4.0.2", json!("10.3.0.1:6881")),
    ] {
        let refused = host(ip).call("POST", "/leases/x", r#"{"port": 6881}"#);
        assert_eq!((refused.status, &body(&refused)["leader"]), (409, &leader), "{ip}");
        assert_eq!(body(&host(ip).get("/leases/x"))["leader"], leader, "{ip}");
    }
    // A host outside of the private networks gets no private address of a leader.
    let outside = host("8.8.8.8").get("/leases/x");
    assert_eq!((outside.status, &body(&outside)["leader"]), (200, &json!(null)));
}

#[test]
fn wrong_descriptions_of_leases_are_refused() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    for wrong in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"port": 0}"#,
        r#"{"port": 65536}"#,
        r#"{"port": "6881"}"#,
        r#"{"port": 1, "swarm": "xyz"}"#,
        r#"{"port": 1, "size": -1}"#,
    ] {
        assert_eq!(host.status("POST", "/leases/a", wrong), 400, "{wrong}");
    }
    let generation = host.claim("a");
    for wrong in ["", "{}", r#"{"have": -1}"#, r#"{"have": 1.5}"#, r#"{"have": "1"}"#] {
        assert_eq!(host.status("PUT", &format!("/leases/a/{generation}"), wrong), 400, "{wrong}");
    }
    assert_eq!(host.status("PUT", "/leases/a/x", r#"{"have": 1}"#), 400);
    assert_eq!(host.status("GET", "/leases/a?wait=x", ""), 400);
}

// --- etcd's form ----------------------------------------------------------------------------------------------

#[test]
fn torrent_files_have_the_form_of_etcd_too() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    let key = "/v2/keys/torrents/sha256:0a";
    let missing = host.get(key);
    assert_eq!(missing.status, 404);
    assert_eq!((&body(&missing)["errorCode"], &body(&missing)["message"]), (&json!(100), &json!("Key not found")));
    let value = STANDARD.encode(file("a"));
    let node = json!({ "key": "/torrents/sha256:0a", "value": value, "modifiedIndex": 1, "createdIndex": 1 });
    for (form, status) in [
        (format!("value={}", escape(value.as_bytes())), 201),
        (format!("value={value}"), 200),
        (format!("ttl=&value={}&x", escape(value.replace('A', "\nA\r\n").as_bytes())), 200),
    ] {
        let put = host.call("PUT", key, &form);
        assert_eq!((put.status, body(&put)), (status, json!({ "action": "set", "node": node })), "{form}");
    }
    let read = host.get(key);
    assert_eq!((read.status, body(&read)), (200, json!({ "action": "get", "node": node })));
    // etcd's requests and the tracker's own requests read and write the same torrent files.
    assert_eq!(host.get("/torrents/sha256:0a").body, file("a"));
    host.call("PUT", "/torrents/b", file("b"));
    assert_eq!(body(&host.get("/v2/keys/torrents/b"))["node"]["value"], json!(STANDARD.encode(file("b"))));
    let conflict = host.call("PUT", key, format!("value={}", escape(STANDARD.encode(file("b")).as_bytes())));
    assert_eq!((conflict.status, &body(&conflict)["errorCode"]), (409, &json!(105)));
    for wrong in ["", "value=", "value=!", "other=x", "value=ZGU=", "value=%ff"] {
        let reply = host.call("PUT", "/v2/keys/torrents/c", wrong);
        assert_eq!((reply.status, &body(&reply)["errorCode"]), (400, &json!(209)), "{wrong}");
    }
    for target in ["/v2/keys/torrents/", "/v2/keys/torrents/a/b", "/v2/keys/torrents", "/v2/keys/torrents/a%2Fb"] {
        assert!([400, 404].contains(&host.status("GET", target, "")), "{target}");
    }
}

// --- Listeners ------------------------------------------------------------------------------------------------

#[test]
fn a_listener_of_their_own_serves_them_and_nothing_else() {
    let server = Server::start(&[&ARGS[..], &["-p"]].concat());
    let own = BlobHost { address: server.torrents_addresses()[0].clone(), ..BlobHost::at(&server, "10.0.0.1") };
    assert_eq!(
        own.status("PUT", "/v2/keys/torrents/a", format!("value={}", escape(STANDARD.encode(file("a")).as_bytes()))),
        201
    );
    assert_eq!(BlobHost::at(&server, "10.0.0.2").get("/torrents/a").body, file("a"));
    own.claim("b");
    for target in [announce("t", "a").target().as_str(), "/scrape", "/", "/metrics", "/health", "/version", "/v2/keys"]
    {
        assert_eq!(own.status("GET", target, ""), 404, "{target}");
    }
    let log = server.log();
    assert!(log.iter().any(|line| line.contains("listening for torrent-cache on 127.0.0.1:")), "{log:?}");
}

#[test]
fn unix_sockets_and_tls_serve_them() {
    let (files, folder) = (CertificateFiles::new(), tempfile::tempdir().unwrap());
    let unix = format!("unix:{}", folder.path().join("socket").display());
    let args = ["-l", "tls://127.0.0.1:0", "-l", &unix, "--torrents", "--torrents-listen=none"];
    let server = retracker(&args).env("TLS_CERT_FILE", files.chain()).env("TLS_KEY_FILE", files.key()).start();
    let [tls, path] = server.addresses() else { panic!("{:?}", server.addresses()) };
    let host = BlobHost { address: path.clone(), ip: "10.0.0.1".to_owned(), token: None };
    assert_eq!(host.status("PUT", "/torrents/a", file("a")), 201);
    let mut over_tls = TestConnection::over_tls(tls, files.authority.client()).unwrap();
    assert_eq!(over_tls.get("/torrents/a").body, file("a"));
    over_tls.send(host.bytes("PUT", "/torrents/b", &pieces("b", 5000).encode()).as_slice());
    // The header comes from a proxy that is not trusted, so the tracker does not know the sender and refuses to store the
    // file.
    assert_eq!(over_tls.reply().status, 403);
    let mut over_tls = TestConnection::over_tls(tls, files.authority.client()).unwrap();
    let body = pieces("b", 5000).encode();
    over_tls.send(format!("PUT /torrents/b HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()));
    over_tls.send(&body);
    assert_eq!(over_tls.reply().status, 201);
    assert_eq!(host.get("/torrents/b").body, body);
}

#[test]
fn they_are_off_unless_switched_on() {
    let server = Server::start(&["-p", "--torrents-listen", "127.0.0.1:0"]);
    for (method, target) in [("GET", "/torrents/a"), ("PUT", "/torrents/a"), ("POST", "/leases/a")] {
        let mut connection = server.connect();
        connection.send(format!("{method} {target} HTTP/1.1\r\n\r\n"));
        let reply = connection.reply();
        assert_eq!((reply.status, reply.header("x-boot")), (404, None), "{method} {target}");
    }
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(!metrics.contains("retracker_leases"), "{metrics}");
}

#[test]
fn the_listener_for_operators_does_not_serve_them() {
    let server = Server::start(&[&ARGS[..], &["--admin-listen", "127.0.0.1:0"]].concat());
    assert_eq!(TestConnection::to(&server.admin_addresses()[0]).get("/torrents/a").header("x-boot"), None);
    assert!(BlobHost::at(&server, "10.0.0.1").get("/torrents/a").header("x-boot").is_some());
}

#[test]
fn the_boot_id_changes_with_the_process() {
    let boot =
        |server: &Server| BlobHost::at(server, "10.0.0.1").get("/torrents/a").header("x-boot").unwrap().to_owned();
    let server = start();
    assert_eq!(boot(&server), boot(&server));
    assert_ne!(boot(&server), boot(&start()));
}

// --- Permissions ----------------------------------------------------------------------------------------------

/// Returns each request that writes, with its body.
fn writes() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("PUT", "/torrents/w", file("w")),
        ("DELETE", "/torrents/w", Vec::new()),
        ("POST", "/torrents/w/complaint", Vec::new()),
        ("POST", "/torrents/missing", b"[]".to_vec()),
        ("POST", "/leases/w", br#"{"port": 1}"#.to_vec()),
        ("PUT", "/leases/w/1", br#"{"have": 1}"#.to_vec()),
        ("DELETE", "/leases/w/1", Vec::new()),
        ("PUT", "/v2/keys/torrents/w", b"value=".to_vec()),
    ]
}

const READS: [&str; 3] = ["/torrents/w", "/leases/w", "/v2/keys/torrents/w"];

#[test]
fn hosts_outside_private_networks_may_read_only() {
    let server = start();
    for (ip, may_write) in [("192.168.1.1", true), ("127.0.0.1", false), ("8.8.8.8", false), ("100.64.0.1", false)] {
        // 127.0.0.1 is the trusted proxy itself. So if `X-Real-IP` has this address, the tracker does not know the host.
        let host = BlobHost::at(&server, ip);
        for (method, target, body) in writes() {
            assert_eq!(host.status(method, target, body) != 403, may_write, "{ip}: {method} {target}");
        }
        for target in READS {
            assert!([200, 404].contains(&host.status("GET", target, "")), "{ip}: {target}");
        }
    }
}

#[test]
fn networks_of_writers_can_be_set() {
    let server = Server::start(&[&ARGS[..], &["--torrents-from", "8.8.8.0/24,2001:db8::/32"]].concat());
    for (ip, status) in [("8.8.8.8", 201), ("2001:db8::1", 200), ("10.0.0.1", 403), ("8.8.9.1", 403)] {
        let reply = BlobHost::at(&server, ip).call("PUT", "/torrents/a", file("a"));
        assert_eq!(reply.status, status, "{ip}");
        assert!(status != 403 || reply.text().contains("--torrents-from"), "{}", reply.text());
    }
}

fn with_token() -> ServerSetup {
    retracker(&[&ARGS[..], &["-p"]].concat()).env("TORRENTS_TOKEN", TOKEN)
}

#[test]
fn with_a_token_readers_need_it_too() {
    let server = with_token().start();
    let host = BlobHost { token: Some(TOKEN), ..BlobHost::at(&server, "10.0.0.1") };
    assert_eq!(host.status("PUT", "/torrents/a", file("a")), 201);
    assert_eq!(host.get("/torrents/a").body, file("a"));
    for token in [None, Some("0123456789abcdeF"), Some(""), Some("0123456789abcdef0")] {
        let stranger = BlobHost { token, ..host.clone() };
        for (method, target, body) in writes() {
            let reply = stranger.call(method, target, body);
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{method} {target}");
        }
        for target in READS.into_iter().chain(["/torrents/a", "/torrents/a/b/c", "/torrents/%00"]) {
            assert_eq!(stranger.status("GET", target, ""), 401, "{target}");
        }
    }
    // A host outside the networks of writers may not write, even with the token.
    let outside = BlobHost { token: Some(TOKEN), ..BlobHost::at(&server, "8.8.8.8") };
    assert_eq!(outside.status("PUT", "/torrents/a", file("a")), 403);
    assert_eq!(outside.get("/torrents/a").body, file("a"));
}

#[test]
fn the_token_is_shown_nowhere() {
    let server = with_token().env("DEBUG_MODE", "true").start();
    BlobHost { token: Some(TOKEN), ..BlobHost::at(&server, "10.0.0.1") }.claim("a");
    for page in ["/api/v1/status", "/metrics", "/"] {
        let text = server.get(page).text();
        assert!(!text.contains(TOKEN), "{page}");
    }
    assert!(server.get("/api/v1/status").text().contains("(a secret)"));
    assert!(!server.log().concat().contains(TOKEN));
}

#[test]
fn web_pages_may_do_nothing() {
    let server = start();
    for headers in [
        [("Origin", "http://evil.example"), ("X-Real-IP", "10.0.0.1")],
        [("Sec-Fetch-Site", "same-origin"), ("X-Real-IP", "10.0.0.1")],
    ] {
        for (method, target) in [("GET", "/torrents/a"), ("POST", "/torrents/a/complaint"), ("DELETE", "/torrents/a")] {
            let mut connection = server.connect();
            connection.send(request(method, target, &headers));
            assert_eq!(connection.reply().status, 403, "{method} {target}");
        }
    }
}

#[test]
fn a_host_behind_a_proxy_that_is_not_trusted_may_not_write() {
    let server = Server::start(&["--torrents", "--torrents-listen=none"]);
    let forged = BlobHost::at(&server, "10.0.0.1").call("PUT", "/torrents/a", file("a"));
    assert_eq!(forged.status, 403);
    assert!(forged.text().contains("docs/reverse-proxy.md"), "{}", forged.text());
    let mut connection = server.connect();
    connection.send(format!("PUT /torrents/a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", file("a").len()));
    connection.send(file("a"));
    assert_eq!(connection.reply().status, 201);
}

// --- Hostile requests -----------------------------------------------------------------------------------------

#[test]
fn wrong_paths_and_methods_say_what_is_expected() {
    let server = start();
    let host = BlobHost::at(&server, "10.0.0.1");
    let long = format!("/torrents/{}", "a".repeat(256));
    for target in
        ["/torrents/a%2fb", "/torrents/a%00", "/torrents/%ff", "/torrents/a%20b", "/torrents/", &long, "/leases/%"]
    {
        let reply = host.get(target);
        assert_eq!(reply.status, 400, "{target}");
        assert!(body(&reply)["error"].as_str().unwrap().contains("1 to 255"), "{}", reply.text());
    }
    assert_eq!(host.status("GET", &format!("/torrents/{}", "a".repeat(255)), ""), 404);
    assert_eq!(host.status("GET", "/torrents/..", ""), 404);
    for (method, target, allow) in [
        ("POST", "/torrents/a", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/torrents/a", "GET, HEAD, PUT, DELETE"),
        ("GET", "/torrents/a/complaint", "POST"),
        ("PUT", "/leases/a", "GET, HEAD, POST"),
        ("POST", "/leases/a/1", "PUT, DELETE"),
        ("DELETE", "/v2/keys/torrents/a", "GET, HEAD, PUT"),
    ] {
        let reply = host.call(method, target, "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {target}");
    }
    assert_eq!(host.status("GET", "/torrents/a/b", ""), 404);
    assert_eq!(host.status("GET", "/leases/a/1/2", ""), 404);
}

#[test]
fn requests_with_bodies_elsewhere_are_answered_as_before() {
    let server = start();
    let mut connection = server.connect();
    connection.send("POST /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
    let reply = connection.reply();
    assert_eq!((reply.status, reply.header("connection"), reply.header("x-boot")), (405, Some("close"), None));
    let mut connection = server.connect();
    connection.send("PUT /other HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n");
    assert_eq!(connection.reply().status, 404);
}

#[test]
fn unfinished_bodies_do_not_keep_announces_out() {
    let server = Server::start(&[&ARGS[..], &["--max-connections", "40"]].concat());
    let host = BlobHost::at(&server, "10.0.0.1");
    let bytes = host.bytes("PUT", "/torrents/a", &file("a"));
    let _unfinished: Vec<_> = (0..60)
        .map(|_| {
            let mut connection = TestConnection::to(&host.address);
            let _ = connection.try_send(&bytes[..bytes.len() - 1]);
            connection
        })
        .collect();
    eventually("an announce is answered", || {
        let reply = server.raw(request("GET", announce("t", "a").target(), &[]));
        reply.starts_with(b"HTTP/1.1 200 ").then_some(())
    });
}

// --- Metrics --------------------------------------------------------------------------------------------------

#[test]
fn metrics_count_entries_leases_and_refusals() {
    let server = with_token().start();
    let host = BlobHost { token: Some(TOKEN), ..BlobHost::at(&server, "10.0.0.1") };
    host.call("PUT", "/torrents/a", file("a"));
    host.call("PUT", "/torrents/a", file("b"));
    host.call("PUT", "/torrents/c", "x");
    let generation = host.claim("a");
    host.claim("b");
    host.call("DELETE", &format!("/leases/a/{generation}"), "");
    host.call("DELETE", &format!("/leases/a/{generation}"), "");
    BlobHost { token: None, ..host.clone() }.call("GET", "/torrents/a", "");
    BlobHost { ip: "8.8.8.8".to_owned(), ..host.clone() }.call("DELETE", "/torrents/a", "");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in [
        "retracker_metainfo_entries 1",
        "retracker_leases 1",
        "retracker_leases_granted_total 2",
        "retracker_leases_expired_total 0",
        "retracker_long_polls 0",
        "retracker_torrents_refused_total{reason=\"conflict\"} 1",
        "retracker_torrents_refused_total{reason=\"request\"} 1",
        "retracker_torrents_refused_total{reason=\"stale\"} 1",
        "retracker_torrents_refused_total{reason=\"token\"} 1",
        "retracker_torrents_refused_total{reason=\"network\"} 1",
        "retracker_torrents_refused_total{reason=\"busy\"} 0",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("retracker_metainfo_bytes 0\n"), "{metrics}");
}

#[test]
fn hosts_on_many_threads_agree_on_one_torrent_file() {
    let server = start();
    let statuses: Vec<_> = thread::scope(|scope| {
        let put = |n: usize| BlobHost::at(&server, "10.0.0.1").status("PUT", "/torrents/a", file(&n.to_string()));
        let threads: Vec<_> = (0..16).map(|n| scope.spawn(move || put(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 15, "{statuses:?}");
}
