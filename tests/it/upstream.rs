//! 5. Upstream replies that must be survived, and what upstream trackers are sent.
//!
//! Most tests are tables of [`Case`]s: one tracker that does what the case says, beside one that is well, and one
//! announce. Whatever the first does, the client gets the peers of the second, in time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::dsl::{Reply, Server, Tree, announce, eventually, observer, request, retracker};
use crate::fake_tracker::{Deaf, FakeTracker, Refusing, Script, Visit, drips, floods, script, sends, sends_and_stays};

/// What the odd tracker gives when it gives anything.
const PEER: &str = "10.1.1.1:1001";
/// What the other one gives.
const GOOD_PEER: &str = "10.2.2.2:2002";
/// Where announces go; nobody but the tracker may ever read this.
const SECRET_TARGET: &str = "/sEcReTpAtH/announce?passkey=sEcReTqUeRy";
/// What the product calls itself.
const OURS: &str = concat!("retracker/", env!("CARGO_PKG_VERSION"));
/// Time for an exchange that nothing holds up, however busy the machine is.
const AMPLE: &str = "20";
/// Time for an exchange that is to run out of it.
const SHORT: &str = "0.5";
/// The same where something has to happen before.
const LESS_SHORT: &str = "3";
/// What a busy machine may add to either. Less than [`AMPLE`], which is how long the client waits.
const MARGIN: Duration = Duration::from_secs(15);

// --- What trackers say ----------------------------------------------------------------------------------------

fn compact(peers: &[&str]) -> Vec<u8> {
    peers.iter().flat_map(|peer| entry(peer)).collect()
}

fn entry(peer: &str) -> Vec<u8> {
    let peer: SocketAddr = peer.parse().unwrap();
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [&ip[..], &peer.port().to_be_bytes()].concat()
}

fn bencoded(bytes: &[u8]) -> Vec<u8> {
    [bytes.len().to_string().as_bytes(), b":", bytes].concat()
}

/// A reply with compact peers of IPv4.
pub(crate) fn with_peers(peers: &[&str]) -> Vec<u8> {
    [b"d8:intervali1800e5:peers", &bencoded(&compact(peers))[..], b"e"].concat()
}

fn one_peer() -> Vec<u8> {
    with_peers(&[PEER])
}

/// What is in front of the compact peers and behind them, around [`PEER`].
fn around_peers(front: &str, behind: &str) -> Vec<u8> {
    [front.as_bytes(), b"5:peers", &bencoded(&compact(&[PEER])), behind.as_bytes()].concat()
}

pub(crate) fn http(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"HTTP/1.1 ", head.as_bytes(), b"\r\n\r\n", body.as_ref()].concat()
}

/// As most trackers answer.
fn with_length(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    http(&format!("{head}\r\nContent-Type: text/plain\r\nContent-Length: {}", body.len()), body)
}

pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    with_length("200 OK", body)
}

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    http("200 OK\r\nTransfer-Encoding: chunked", body)
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// gzip (RFC 1952) that compresses nothing.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let trailer = [(!crc).to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
    [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", &stored(bytes)[..], &trailer].concat()
}

/// The "deflate" of HTTP (RFC 1950).
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    [b"\x78\x01", &stored(bytes)[..], &(b << 16 | a).to_be_bytes()].concat()
}

fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    [b"\x01", &length.to_le_bytes()[..], &(!length).to_le_bytes(), bytes].concat()
}

/// The beginning of a gzip in which every zero that follows inflates to 1,032 zeros.
const BOMB: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xec\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\x0a";

// --- Tables ---------------------------------------------------------------------------------------------------

/// An upstream tracker, what it does, and what becomes of an announce.
struct Case {
    name: String,
    upstream: Upstream,
    /// How long the exchange may take.
    time: &'static str,
    /// How the exchange ends: outcome and status as in the metrics. Several where none is better than the others.
    expected: &'static str,
    /// Whether the client is told of [`PEER`] when the exchange ends well.
    peer: bool,
    /// `complete` and `incomplete` of the client's reply: the other tracker's one seed, and the client itself.
    counts: [i64; 2],
    /// Connections that the tracker gets.
    visits: usize,
}

enum Upstream {
    Answers(Script),
    Refuses,
    NeverAccepts,
    HasNoAddress,
}

impl Case {
    fn new(name: impl Into<String>, upstream: Upstream, expected: &'static str) -> Self {
        Self { name: name.into(), upstream, time: AMPLE, expected, peer: true, counts: [1, 1], visits: 1 }
    }

    /// The exchange succeeds, but without peers.
    fn no_peer(self) -> Self {
        Self { peer: false, ..self }
    }

    fn fails(self, expected: &'static str) -> Self {
        Self { expected, ..self }
    }

    fn counts(self, counts: [i64; 2]) -> Self {
        Self { counts, ..self }
    }

    fn visits(self, visits: usize) -> Self {
        Self { visits, ..self }
    }

    /// The exchange is to run out of time, or may.
    fn short(self) -> Self {
        Self { time: SHORT, ..self }
    }

    /// The same once the tracker has been reached and has answered for the first time.
    fn less_short(self) -> Self {
        Self { time: LESS_SHORT, ..self }
    }

    fn check(self) {
        let good = FakeTracker::start(sends(ok(good_reply())));
        let (mut odd, mut refusing, mut deaf) = (None, None, None);
        let host = match &self.upstream {
            Upstream::Answers(script) => odd.insert(FakeTracker::start(Arc::clone(script))).address().to_string(),
            Upstream::Refuses => refusing.insert(Refusing::new()).address().to_string(),
            Upstream::NeverAccepts => deaf.insert(Deaf::new()).address().to_string(),
            Upstream::HasNoAddress => "tracker.invalid".to_owned(),
        };
        let entries = format!(
            "- {{name: odd, uri: 'http://{host}{SECRET_TARGET}', timeout: {}}}\n\
            - {{name: good, uri: 'http://{}/announce'}}\n",
            self.time,
            good.address()
        );
        let server = with_forwarders(&entries, &["-p", "-d", "-t", AMPLE]);
        self.check_at(&server, odd.as_ref(), &good);
    }

    fn check_at(&self, server: &Server, odd: Option<&FakeTracker>, good: &FakeTracker) {
        let client = announce("torrent", "client").at("10.0.0.9").event("started");
        let start = Instant::now();
        let reply = server.announce(&client);
        let elapsed = start.elapsed();
        let time = Duration::from_secs_f64(self.time.parse().unwrap());
        if self.time != AMPLE {
            assert!(elapsed < time + MARGIN, "answered after {elapsed:?}");
        }

        let outcome = eventually("the exchange is counted", || outcome(&metrics(server), "odd"));
        assert!(self.expected.split('|').any(|expected| expected == outcome), "{outcome}, not {}", self.expected);
        let peers = [PEER, GOOD_PEER];
        let peer = self.peer && outcome == "ok 200";
        assert_whole(&reply, self.counts, if peer { &peers } else { &peers[1..] });
        assert!(!reply.text().contains("sEcReT"), "{}", reply.text());
        assert_eq!(outcome_of_good(server), "ok 200");
        assert_eq!(good.visits(), 1);
        if let Some(odd) = odd {
            // The connection may have been made and given up before the tracker saw it.
            eventually(&format!("{} connections", self.visits), || (odd.visits() == self.visits).then_some(()));
            odd.wait_until_left_alone();
            assert_eq!(odd.visits(), self.visits, "connections");
            if let Some(request) = odd.requests().first() {
                let asked = request.starts_with(&format!("GET {SECRET_TARGET}&info_hash=torrent--"));
                assert!(asked, "{request}");
                assert_eq!(request.matches("\r\nHost: ").count(), 1, "{request}");
            }
        }
        // The same process goes on, and keeps the secret.
        let scraped = server.get(format!("/scrape?info_hash={}", "torrent-------------"));
        assert!(scraped.text().contains("10:incompletei1e"), "{}", scraped.text());
        assert_discreet(server);
    }
}

/// Runs the cases, some at once, and names those that fail.
fn check(cases: Vec<Case>) {
    let queue = Mutex::new(cases.into_iter());
    let failed = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let name = case.name.clone();
                    if catch_unwind(AssertUnwindSafe(|| case.check())).is_err() {
                        eprintln!("^^^ {name}\n");
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}

fn good_reply() -> Vec<u8> {
    let mut reply = b"d8:completei1e10:incompletei0e".to_vec();
    reply.extend_from_slice(&with_peers(&[GOOD_PEER])[1..]);
    reply
}

pub(crate) fn with_forwarders(entries: &str, args: &[&str]) -> Server {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(entries.as_bytes()).unwrap();
    // The file is read before the server listens.
    retracker(&[&["-f", file.path().to_str().unwrap()], args].concat()).start()
}

/// A server that forwards to these trackers, which are named `tracker 0`, `tracker 1` and so on.
fn forwarding_to(trackers: &[&FakeTracker], time: &str) -> Server {
    let entries = trackers.iter().enumerate().fold(String::new(), |mut entries, (n, tracker)| {
        let address = tracker.address();
        writeln!(entries, "- {{name: tracker {n}, uri: 'http://{address}/announce', timeout: {time}}}").unwrap();
        entries
    });
    with_forwarders(&entries, &["-p", "-d", "-t", time])
}

/// The whole reply to one who announces from 10.0.0.9 and is alone in the local swarm.
fn assert_whole(reply: &Reply, [complete, incomplete]: [i64; 2], peers: &[&str]) {
    let Tree::Dict(mut pairs) = reply.tree() else { panic!("{}", reply.text()) };
    assert_eq!(reply.peers(), peers, "{}", reply.text());
    let mut take = |key: &str| pairs.remove(key.as_bytes());
    assert!(take("peers").is_some());
    assert_eq!(take("peers6").is_some(), peers.iter().any(|peer| peer.starts_with('[')));
    assert_eq!(take("complete"), Some(Tree::Int(complete)), "complete");
    assert_eq!(take("incomplete"), Some(Tree::Int(incomplete)), "incomplete");
    assert_eq!(take("downloaded"), Some(Tree::Int(0)));
    assert_eq!(take("external ip"), Some(Tree::Bytes(vec![10, 0, 0, 9])));
    // Our own, however absurd the others'.
    for key in ["interval", "min interval"] {
        assert!((1..=30).contains(&take(key).unwrap().int()), "{}", reply.text());
    }
    // It may name a forwarder that failed.
    take("warning message");
    assert_eq!(pairs, BTreeMap::new());
}

pub(crate) fn metrics(server: &Server) -> String {
    let reply = server.get("/metrics");
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

/// How the only exchange with a forwarder ended: outcome and status. None before it has.
fn outcome(metrics: &str, forwarder: &str) -> Option<String> {
    let label = |metric: &str, name: &str, value: &str| {
        let start = format!("{metric}{{{name}=\"{forwarder}\",{value}=\"");
        let found: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} ")).collect();
        match found[..] {
            [] => None,
            [(label, "1")] => Some(label.to_owned()),
            _ => panic!("not one exchange but {found:?}"),
        }
    };
    let outcome = label("retracker_forward_exchanges_total", "forwarder", "outcome")?;
    Some(format!("{outcome} {}", label("forwarder_status", "name", "status")?))
}

fn outcome_of_good(server: &Server) -> String {
    eventually("the exchange is counted", || outcome(&metrics(server), "good"))
}

/// Nobody can learn a forwarder's uri from the server, and nothing in it has broken.
fn assert_discreet(server: &Server) {
    let log = server.log().join("\n");
    assert!(!log.contains("sEcReT") && !metrics(server).contains("sEcReT"), "a secret is out");
    assert!(!log.contains("panicked"), "a panic");
    assert!(
        log.chars().all(|char| char == '\n' || !char.is_control()),
        "what was sent is in the log as it came: {log:?}"
    );
}

// --- Bodies ---------------------------------------------------------------------------------------------------

fn body(name: &str, body: impl AsRef<[u8]>) -> Case {
    Case::new(name, Upstream::Answers(sends(ok(body))), "ok 200")
}

fn dictionaries(name: &str, peers: &str) -> Case {
    body(name, format!("d8:intervali1800e5:peersl{peers}ee"))
}

fn peers_of_every_form() -> Vec<Case> {
    let mapped = [b"d5:peers0:6:peers618:", &entry("[::ffff:10.1.1.1]:1001")[..], b"e"].concat();
    let twice = [around_peers("d8:intervali1e", ""), around_peers("8:intervali1800e", "e")].concat();
    vec![
        body("compact", one_peer()),
        body("compact, a great many", with_peers(&[PEER; 150_000])),
        body("compact with half a peer", around_peers_of(b"\x0a\x01\x01\x01\x03\xe9\x0a\x01\x01")),
        dictionaries("dictionaries", "d2:ip8:10.1.1.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti1001ee"),
        dictionaries("dictionaries without an id", "d2:ip8:10.1.1.14:porti1001ee"),
        dictionaries("dictionaries with `id`", "d2:id20:aaaaaaaaaaaaaaaaaaaa2:ip8:10.1.1.14:porti1001ee"),
        dictionaries("dictionaries unsorted", "d4:porti1001e2:ip8:10.1.1.1e"),
        dictionaries("dictionaries with an id too short", "d2:ip8:10.1.1.17:peer id3:aaa4:porti1001ee"),
        dictionaries("dictionaries with more in them", "d2:ip8:10.1.1.14:porti1001e1:zd1:ald1:bleeeee"),
        dictionaries("an IPv4-mapped ip", "d2:ip15:::ffff:10.1.1.14:porti1001ee"),
        dictionaries(
            "peers of no use among others",
            "d2:ip11:example.com4:porti1ee\
            d2:ip20:abcdefghijklmnop.i2p4:porti2ee\
            d2:ip0:4:porti3ee\
            d2:ipi1e4:porti4ee\
            d2:ip4:\x0a\x01\x01\x014:porti5ee\
            d2:ip8:10.1.1.14:porti0ee\
            d2:ip8:10.1.1.14:porti-1ee\
            d2:ip8:10.1.1.14:porti65536ee\
            d2:ip8:10.1.1.14:porti99999999999999999999ee\
            d2:ip8:10.1.1.1e\
            d4:porti6ee\
            de\
            le\
            i7e\
            8:10.1.1.1\
            d2:ip8:10.1.1.14:porti1001ee",
        ),
        dictionaries("an ip that is a hostname", "d2:ip11:example.com4:porti1ee").no_peer(),
        body("an empty list", b"d8:intervali1800e5:peerslee").no_peer(),
        body("an empty string", b"d8:intervali1800e5:peers0:e").no_peer(),
        body("no peers", b"d8:intervali1800ee").no_peer(),
        body("an empty dictionary", b"de").no_peer(),
        body("peers in peers6, IPv4-mapped", mapped),
        body("dictionaries in peers6", b"d6:peers6ld2:ip8:10.1.1.14:porti1001eeee"),
        body("peers6 an integer", around_peers("d", "6:peers6i7ee")),
        body("peers6 a list of integers", around_peers("d", "6:peers6li7ei8eee")),
        body("peers6 a dictionary", around_peers("d", "6:peers6d1:a1:bee")),
        body("peers6 with odd bytes", around_peers("d", "6:peers67:1234567e")),
        body("peers an integer", b"d5:peersi7ee").no_peer(),
        body("peers a dictionary", b"d5:peersd1:ai1eee").no_peer(),
        body("unsorted keys", around_peers("d8:intervali1800e", "10:incompletei0e8:completei0ee")),
        body("repeated keys", twice),
        body("trailing line end", [one_peer(), b"\r\n".to_vec()].concat()),
        body("trailing line ends and spaces", [one_peer(), b"\n\r\n \n".to_vec()].concat()),
        body("a byte order mark", [b"\xef\xbb\xbf".to_vec(), one_peer()].concat()).fails("junk 200|ok 200"),
        body("a warning", around_peers("d", "15:warning message7:be warye")),
        body("values nested a little", around_peers("d1:allllllleeeeeee", "e")),
    ]
}

/// Compact peers that are not whole.
fn around_peers_of(list: &[u8]) -> Vec<u8> {
    [b"d8:intervali1800e5:peers", &bencoded(list)[..], b"e"].concat()
}

#[test]
fn s5_1_peers_of_every_form() {
    check(peers_of_every_form());
}

#[test]
fn s5_1_peers6_beside_peers() {
    let reply = [b"d5:peers6:", &entry(PEER)[..], b"6:peers618:", &entry("[fd00::1]:1001"), b"e"].concat();
    let tracker = FakeTracker::start(sends(ok(reply)));
    let server = forwarding_to(&[&tracker], AMPLE);
    let reply = server.announce(&announce("t", "client").at("10.0.0.9"));
    assert_whole(&reply, [0, 1], &[PEER, "[fd00::1]:1001"]);
    let dictionaries = server.announce(&announce("t", "client").at("10.0.0.9").with("compact", "0"));
    assert_eq!(dictionaries.peers(), [PEER, "[fd00::1]:1001"]);
}

fn numbers_of_every_size() -> Vec<Case> {
    let with = |name: &str, pairs: &str| body(name, around_peers(&format!("d{pairs}"), "e"));
    vec![
        with("no interval", ""),
        with("interval 0", "8:intervali0e"),
        with("interval negative", "8:intervali-1800e"),
        with("interval absurd", "8:intervali9223372036854775807e12:min intervali9223372036854775807e"),
        with("interval beyond 64 bits", "8:intervali99999999999999999999e12:min intervali-99999999999999999999e"),
        with("interval a string", "8:interval4:18001:x1:y"),
        with("interval a list", "8:intervalli1800ee"),
        with("interval less than min interval", "8:intervali5e12:min intervali86400e"),
        with("counts negative", "8:completei-5e10:incompletei-9223372036854775808e"),
        with("counts that are strings", "8:complete1:910:incomplete1:9"),
        with("counts that are large", "8:completei4000000000e10:incompletei4000000000e")
            .counts([2_147_483_647, 2_147_483_647]),
        with("retry in without a failure", "8:retry in5:never"),
    ]
}

#[test]
fn s5_4_numbers_of_every_size() {
    check(numbers_of_every_size());
}

#[test]
fn s5_4_absurd_counts_are_still_counts() {
    let absurd = around_peers("d8:completei99999999999999999999e10:incompletei9223372036854775807e", "e");
    let tracker = FakeTracker::start(sends(ok(absurd)));
    let server = forwarding_to(&[&tracker], AMPLE);
    let reply = server.announce(&announce("t", "client").at("10.0.0.9"));
    // A client that reads 32 bits must not find a negative number.
    let [complete, incomplete, _] = reply.counts();
    assert!((0..=i64::from(u32::MAX)).contains(&complete), "{complete}");
    assert!((1..=i64::from(u32::MAX)).contains(&incomplete), "{incomplete}");
    assert_eq!(reply.peers(), [PEER]);
}

// --- Framing --------------------------------------------------------------------------------------------------

fn fails(name: &str, reply: impl Into<Vec<u8>>, expected: &'static str) -> Case {
    Case::new(name, Upstream::Answers(sends(reply)), expected)
}

fn dress(name: &str, reply: impl Into<Vec<u8>>) -> Case {
    Case::new(name, Upstream::Answers(sends(reply)), "ok 200")
}

fn every_dress() -> Vec<Case> {
    let reply = one_peer();
    let bytes: Vec<u8> = reply.iter().flat_map(|byte| chunk(&[*byte])).collect();
    let interim = |head: &str| http(head, ok(one_peer()));
    let unix = String::from_utf8(ok("")).unwrap().replace("Content-Length: 0", "Content-Length: 33").replace('\r', "");
    vec![
        dress("HTTP/1.1 without a length", http("200 OK\r\nContent-Type: text/plain", &reply)),
        dress("HTTP/1.0 without a length", [b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), reply.clone()].concat()),
        dress(
            "HTTP/1.0 with a length",
            [b"HTTP/1.0 200 OK\r\nContent-Length: 33\r\n\r\n".to_vec(), reply.clone()].concat(),
        ),
        dress("no length, trailing line end", http("200 OK", [&reply[..], b"\r\n"].concat())),
        dress("no reason phrase", with_length("200", &reply)),
        dress("a long reason phrase", with_length(&format!("200 {}", "OK ".repeat(100)), &reply)),
        dress("line ends of Unix", [unix.into_bytes(), reply.clone()].concat()),
        dress("an empty line first", [b"\r\n".to_vec(), ok(&reply)].concat()),
        dress("content type of HTML", http("200 OK\r\nContent-Type: text/html; charset=utf-8", &reply)),
        dress("headers beyond ASCII", with_length("200 OK\r\nServer: \u{e9}\u{fffd}\t", &reply)),
        dress("two hundred headers", with_length(&format!("200 OK{}", "\r\nX: y".repeat(200)), &reply))
            .fails("too_large error|junk error"),
        Case::new("a length, and the connection stays", Upstream::Answers(sends_and_stays(ok(&reply))), "ok 200"),
        Case::new(
            "keep-alive promised",
            Upstream::Answers(sends_and_stays(with_length("200 OK\r\nConnection: keep-alive", &reply))),
            "ok 200",
        ),
        Case::new(
            "the end of chunks, and the connection stays",
            Upstream::Answers(sends_and_stays(chunked([&chunk(&reply)[..], b"0\r\n\r\n"].concat()))),
            "ok 200",
        ),
        Case::new(
            "an upgrade offered",
            Upstream::Answers(sends_and_stays(with_length("200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade", &reply))),
            "ok 200",
        ),
        Case::new(
            "keep-alive of HTTP/1.0",
            Upstream::Answers(sends_and_stays(
                [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 33\r\n\r\n", &reply[..]].concat(),
            )),
            "ok 200",
        ),
        dress("two equal lengths", http("200 OK\r\nContent-Length: 33\r\nContent-Length: 33", &reply)),
        dress("a length said twice", http("200 OK\r\nContent-Length: 33, 33", &reply)),
        dress("chunked with HTTP/1.0", {
            let head = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            [head, chunk(&reply), b"0\r\n\r\n".to_vec()].concat()
        })
        .fails("ok 200|junk 200|junk error"),
        dress("chunked", chunked([&chunk(&reply)[..], b"0\r\n\r\n"].concat())),
        dress("chunked byte by byte", chunked([&bytes[..], b"0\r\n\r\n"].concat())),
        // What a dictionary needs is all there.
        dress("chunked without the end", chunked(chunk(&reply))),
        dress("chunked with extensions and trailers", {
            let head = format!("{:X};name=\"value\"\r\n", reply.len());
            chunked([head.as_bytes(), &reply, b"\r\n0\r\nTrailer: x\r\n\r\n"].concat())
        }),
        dress("chunked and with a wrong length", {
            let body = [&chunk(&reply)[..], b"0\r\n\r\n"].concat();
            http("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", body)
        }),
        dress("gzip", with_length("200 OK\r\nContent-Encoding: gzip", gzip(&reply))),
        dress("gzip without a length", http("200 OK\r\nContent-Encoding: gzip", gzip(&reply))),
        dress("gzip in chunks", {
            let bytes: Vec<u8> = gzip(&reply).iter().flat_map(|byte| chunk(&[*byte])).collect();
            let head = "200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked";
            http(head, [&bytes[..], b"0\r\n\r\n"].concat())
        }),
        dress("gzip under its old name", with_length("200 OK\r\nContent-Encoding: x-gzip", gzip(&reply))),
        dress("gzip with a line end behind it", {
            http("200 OK\r\nContent-Encoding: gzip", [gzip(&reply), b"\r\n".to_vec()].concat())
        }),
        dress("gzip that does not say so", with_length("200 OK", gzip(&reply))),
        dress("deflate without its head", with_length("200 OK\r\nContent-Encoding: deflate", stored(&reply))),
        dress("gzip in two members", {
            let (a, b) = reply.split_at(10);
            with_length("200 OK\r\nContent-Encoding: gzip", [gzip(a), gzip(b)].concat())
        }),
        dress("gzip in upper case", with_length("200 OK\r\nContent-Encoding: GZIP", gzip(&reply))),
        dress("deflate unasked", with_length("200 OK\r\nContent-Encoding: deflate", zlib(&reply))),
        dress("identity", with_length("200 OK\r\nContent-Encoding: identity", &reply)),
        dress("100 Continue first", interim("100 Continue")),
        dress(
            "100, 102 and 103 first",
            http("100 Continue", http("102 Processing", interim("103 Early Hints\r\nLink: x"))),
        ),
        Case::new(
            "in pieces",
            Upstream::Answers(drips(
                with_length("200 OK\r\nContent-Encoding: gzip", gzip(&reply)),
                Duration::from_millis(1),
            )),
            "ok 200",
        ),
        Case::new(
            "a second response behind the first",
            Upstream::Answers(sends_and_stays([ok(&reply), ok(with_peers(&["10.6.6.6:6"]))].concat())),
            "ok 200",
        ),
    ]
}

#[test]
fn s5_3_every_dress() {
    check(every_dress());
}

/// What is no reply, whatever it came in.
fn junk() -> Vec<Case> {
    let reply = one_peer();
    let nested = |open: &str, depth: usize| {
        let ends = "e".repeat(depth);
        around_peers(&format!("d1:a{}{ends}", open.repeat(depth)), "e")
    };
    vec![
        fails("plain text", ok("Service is down for maintenance"), "junk 200"),
        fails("HTML", ok("<!DOCTYPE html><html><body>passkey sEcReTqUeRy</body></html>"), "junk 200"),
        fails("the secret target as text", ok(SECRET_TARGET), "junk 200"),
        fails("JSON", ok("{\"peers\": []}"), "junk 200"),
        fails("an empty body", ok(""), "junk 200"),
        fails("an empty body without a length", http("200 OK", ""), "junk 200"),
        fails("an empty body in chunks", chunked("0\r\n\r\n"), "junk 200"),
        fails("a string", ok("5:peers"), "junk 200"),
        fails("a list", ok("le"), "junk 200"),
        fails("a key that is no string", ok("di1ei2ee"), "junk 200"),
        fails("a length beyond 64 bits", ok("d5:peers99999999999999999999:e"), "truncated 200|junk 200"),
        fails("a negative length", ok("d5:peers-1:e"), "junk 200"),
        fails("lists nested too deep", ok(nested("l", 17)), "junk 200"),
        fails("dictionaries nested too deep", ok(nested("d1:a", 17)), "junk 200"),
        fails("a bomb of lists", ok("l".repeat(1024 * 1024)), "junk 200"),
        fails("a bomb of dictionaries", ok("d1:a".repeat(256 * 1024)), "junk 200"),
        fails(
            "a bomb of lists in a dictionary of peers",
            ok(format!("d5:peersld1:a{}", "l".repeat(900_000))),
            "junk 200",
        ),
        fails("no HTTP but bencode", reply.clone(), "junk error"),
        fails("no HTTP but SSH", b"SSH-2.0-OpenSSH_10.0\r\n".to_vec(), "junk error"),
        fails("no HTTP but bytes", (0..=255).cycle().take(10_000).collect::<Vec<_>>(), "junk error"),
        fails("no HTTP but TLS", b"\x15\x03\x01\0\x02\x02\x46".to_vec(), "junk error"),
        fails("no HTTP but zeros", vec![0; 100_000], "junk error|too_large error"),
        fails("a status that is a word", http("abc OK", &reply), "junk error"),
        fails("a status of two digits", http("20 OK", &reply), "junk error"),
        fails("a status of four digits", http("2000 OK", &reply), "junk error"),
        fails("a status of zeros", http("000 OK", &reply), "junk error"),
        fails("a status beyond all classes", with_length("999 What", &reply), "status 999|junk error"),
        fails("another protocol", b"ICY 200 OK\r\n\r\nde".to_vec(), "junk error"),
        fails("another version", b"HTTP/3.0 200 OK\r\n\r\nde".to_vec(), "junk error"),
        fails(
            "HTTP/2",
            b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x06\0\x10\x14\0".to_vec(),
            "junk error",
        ),
        fails("a header without a colon", http("200 OK\r\nsEcReTpAtH", &reply), "junk error"),
        fails("a header with a zero", http("200 OK\r\nA: \0", &reply), "junk error"),
        fails("switched protocols", http("101 Switching Protocols\r\nUpgrade: x", &reply), "junk error|status 101"),
        fails("nothing but interim replies", http("100 Continue", ""), "truncated error"),
    ]
}

/// What is not all there, or not as it says it is.
fn broken() -> Vec<Case> {
    let reply = one_peer();
    let short = &reply[..reply.len() - 1];
    let cut = [format!("{:x}\r\n", reply.len()).as_bytes(), short].concat();
    vec![
        fails("ends early without a length", http("200 OK", short), "truncated 200"),
        fails("ends early with HTTP/1.0", [b"HTTP/1.0 200 OK\r\n\r\n", short].concat(), "truncated 200"),
        fails("ends before its length", http("200 OK\r\nContent-Length: 34", &reply), "truncated 200"),
        fails("a length smaller than the body", http("200 OK\r\nContent-Length: 32", &reply), "truncated 200"),
        fails("ends within a chunk", chunked(&cut), "truncated 200"),
        fails("ends within the head", b"HTTP/1.1 200 OK\r\nContent-".to_vec(), "truncated error"),
        fails("ends within the status line", b"HTTP/1".to_vec(), "truncated error|junk error"),
        fails(
            "two different lengths",
            http("200 OK\r\nContent-Length: 33\r\nContent-Length: 32", &reply),
            "junk error",
        ),
        fails("a length that is a word", http("200 OK\r\nContent-Length: many", &reply), "junk error"),
        fails("a length that is negative", http("200 OK\r\nContent-Length: -33", &reply), "junk error"),
        fails("a length beyond the bound", http("200 OK\r\nContent-Length: 9999999999", &reply), "too_large 200"),
        fails(
            "a length beyond 64 bits",
            http("200 OK\r\nContent-Length: 99999999999999999999", &reply),
            "too_large 200|junk error",
        ),
        fails("chunks without sizes", chunked(&reply), "junk 200"),
        fails("a chunk of negative size", chunked([b"-1\r\n", &reply[..]].concat()), "junk 200"),
        fails(
            "a chunk beyond 64 bits",
            chunked([b"fffffffffffffffff\r\n", &reply[..]].concat()),
            "junk 200|too_large 200",
        ),
        fails(
            "a chunk of nearly 64 bits",
            chunked([b"ffffffffffffffff\r\n", short].concat()),
            "truncated 200|junk 200|too_large 200",
        ),
        fails("a chunk longer than its size", chunked([b"3\r\n", &reply[..], b"\r\n0\r\n\r\n"].concat()), "junk 200"),
        fails(
            "chunks of an unknown coding",
            http("200 OK\r\nTransfer-Encoding: x, y", &reply),
            "junk error|junk 200|ok 200",
        ),
        fails("gzip that is none", with_length("200 OK\r\nContent-Encoding: gzip", &reply), "junk 200"),
        fails(
            "gzip that ends early",
            http("200 OK\r\nContent-Encoding: gzip", &gzip(&reply)[..30]),
            "junk 200|truncated 200",
        ),
        fails(
            "gzip with a wrong sum",
            {
                let mut gzip = gzip(&reply);
                let end = gzip.len();
                gzip[end - 8] ^= 1;
                with_length("200 OK\r\nContent-Encoding: gzip", gzip)
            },
            "junk 200",
        ),
        fails("gzip of HTML", with_length("200 OK\r\nContent-Encoding: gzip", gzip(b"<html>")), "junk 200"),
        fails("brotli", with_length("200 OK\r\nContent-Encoding: br", b"\x0b\x02\x80de\x03"), "junk 200"),
    ]
}

#[test]
fn s5_2_what_cannot_be_read() {
    check(junk());
    check(broken());
}

#[test]
fn s5_5_sixteen_levels_are_read() {
    // The dictionary itself is one of them.
    let reply = around_peers(&format!("d1:a{}{}", "l".repeat(15), "e".repeat(15)), "e");
    check(vec![body("sixteen levels", reply)]);
}

// --- Refusals and statuses ------------------------------------------------------------------------------------

fn refusals() -> Vec<Case> {
    let refusal = "d14:failure reason12:unregistered8:intervali1800ee";
    let echo = [b"d14:failure reason", &bencoded(format!("{SECRET_TARGET} is not here").as_bytes())[..], b"e"].concat();
    let cases: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("a refusal", "200 OK", refusal.into(), "refused 200"),
        ("a refusal with peers beside it", "200 OK", around_peers("d14:failure reason2:no", "e"), "refused 200"),
        ("a refusal behind the peers", "200 OK", around_peers("d", "14:failure reason2:noe"), "refused 200"),
        ("retry in an integer", "200 OK", "d14:failure reason2:no8:retry ini5ee".into(), "refused 200"),
        ("retry in a string", "200 OK", "d14:failure reason2:no8:retry in2:15e".into(), "refused 200"),
        ("retry in never", "200 OK", "d14:failure reason2:no8:retry in5:nevere".into(), "refused 200"),
        ("retry in absurd", "200 OK", "d14:failure reason2:no8:retry ini-9999999999999999999ee".into(), "refused 200"),
        ("a reason that echoes", "200 OK", echo, "refused 200"),
        ("a reason of odd bytes", "200 OK", b"d14:failure reason6:\r\n\x1b[\xff\0e".to_vec(), "refused 200"),
        (
            "a very long reason",
            "200 OK",
            format!("d14:failure reason900000:{}e", "n".repeat(900_000)).into(),
            "refused 200",
        ),
        ("400 with a refusal", "400 Bad Request", refusal.into(), "refused 400"),
        ("404 with a refusal", "404 Not Found", refusal.into(), "refused 404"),
        ("500 with a refusal", "500 Internal Server Error", refusal.into(), "refused 500"),
        ("503 with a refusal", "503 Busy\r\nRetry-After: 120", refusal.into(), "refused 503"),
        ("404 with peers", "404 Not Found", one_peer(), "status 404"),
        ("500 with peers", "500 Internal Server Error", one_peer(), "status 500"),
        ("404 plain", "404 Not Found", "no such torrent".into(), "status 404"),
        ("403 HTML", "403 Forbidden", "<html>sEcReTqUeRy</html>".into(), "status 403"),
        ("410 empty", "410 Gone", vec![], "status 410"),
        ("429", "429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", vec![], "status 429"),
        ("429 without an end", "429 x\r\nRetry-After: 99999999999999999999", vec![], "status 429"),
        ("502 HTML", "502 Bad Gateway", "<html>".into(), "status 502"),
        ("503 empty", "503 Service Unavailable\r\nRetry-After: -1", vec![], "status 503"),
        ("401", "401 Unauthorized\r\nWWW-Authenticate: Basic", vec![], "status 401"),
        ("206", "206 Partial Content", one_peer(), "status 206"),
        ("300", "300 Multiple Choices", vec![], "status 300"),
        ("404 nested too deep", "404 x", "l".repeat(100_000).into(), "status 404"),
    ];
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|(name, head, body, expected)| {
            Case::new(name, Upstream::Answers(sends(with_length(head, body))), expected)
        })
        .collect();
    cases.extend([
        fails("404 without a length", http("404 Not Found", refusal), "refused 404"),
        fails("404 that ends early", http("404 Not Found\r\nContent-Length: 999", "<html>"), "status 404"),
        fails("500 in broken chunks", http("500 x\r\nTransfer-Encoding: chunked", "<html>"), "status 500"),
        fails("404 in gzip", with_length("404 x\r\nContent-Encoding: gzip", gzip(refusal.as_bytes())), "refused 404"),
        fails("404 in broken gzip", with_length("404 x\r\nContent-Encoding: gzip", "<html>"), "status 404"),
        fails("204", http("204 No Content", ""), "status 204"),
        fails("304", http("304 Not Modified", ""), "status 304"),
        fails("404 too large", http("404 x\r\nContent-Length: 9999999999", "<html>"), "status 404"),
        body("a failure reason of the wrong type", around_peers("d14:failure reasonle", "e")),
        fails(
            "a refusal in gzip",
            with_length("200 OK\r\nContent-Encoding: gzip", gzip(refusal.as_bytes())),
            "refused 200",
        ),
    ]);
    cases
}

#[test]
fn s5_2_refusals_and_statuses() {
    check(refusals());
}

// --- Endless and slow -----------------------------------------------------------------------------------------

fn endless() -> Vec<Case> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    let floods = |name: &str, first: Vec<u8>, unit: &[u8], expected| {
        Case::new(name, Upstream::Answers(floods(first, unit.repeat(64 * 1024 / unit.len()))), expected)
    };
    let gzipped = |encoding: &str| http(&format!("200 OK\r\n{encoding}"), BOMB);
    vec![
        floods("a body without end", http("200 OK", "d5:peers"), b"9", "too_large 200"),
        floods(
            "a body of peers without end",
            http("200 OK", "d5:peersl"),
            b"d2:ip8:10.6.6.64:porti6ee",
            "too_large 200",
        ),
        floods("chunks without end", chunked(""), &chunk(&[b'l'; 1000]), "too_large 200"),
        floods("one chunk without end", chunked("7fffffffffffffff\r\n"), b"l", "too_large 200"),
        floods("a gzip bomb", gzipped("Content-Encoding: gzip"), b"\0", "too_large 200"),
        Case::new(
            "a gzip bomb in one write",
            Upstream::Answers(sends(with_length("200 OK\r\nContent-Encoding: gzip", [BOMB, &[0; 40_000]].concat()))),
            "too_large 200",
        ),
        floods(
            "a gzip bomb in chunks",
            http("200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked", chunk(BOMB)),
            &chunk(&[0; 1000]),
            "too_large 200",
        ),
        floods("a gzip bomb as refusal", http("404 x\r\nContent-Encoding: gzip", BOMB), b"\0", "status 404"),
        floods("a refusal without end", http("500 x", "d14:failure reason"), b"9", "status 500"),
        floods("a status line without end", b"HTTP/1.1 200 ".to_vec(), b"O", "too_large error|junk error"),
        floods("a header name without end", HEAD.into(), b"a", "too_large error|junk error"),
        floods("a header value without end", format!("{HEAD}A: ").into(), b"a", "too_large error"),
        floods("headers without end", HEAD.into(), b"A: b\r\n", "too_large error"),
        floods("interim replies without end", vec![], b"HTTP/1.1 100 Continue\r\n\r\n", "too_large error"),
        floods("empty lines without end", vec![], b"\r\n", "too_large error|junk error"),
        floods("no HTTP without end", vec![], b"\xff", "too_large error|junk error"),
        floods("a chunk size without end", chunked(""), b"0", "too_large 200|junk 200|timeout error").short(),
        floods("a chunk extension without end", chunked("1;"), b"x", "too_large 200|junk 200|timeout error").short(),
        floods("trailers without end", chunked("0\r\n"), b"A: b\r\n", "too_large 200|junk 200|timeout error").short(),
    ]
}

#[test]
fn s5_5_what_never_ends_is_dropped_at_the_bound() {
    check(endless());
}

#[test]
fn s5_5_a_flood_is_not_read_to_the_deadline() {
    let tracker = FakeTracker::start(floods(http("200 OK", "d5:peers"), vec![b'9'; 16 * 1024]));
    let server = forwarding_to(&[&tracker], "60");
    server.announce(&announce("t", "client"));
    tracker.wait_until_left_alone();
    // One mebibyte, and what is in the buffers of two sockets.
    assert!(tracker.written() < 24 * 1024 * 1024, "{} bytes", tracker.written());
}

fn slow() -> Vec<Case> {
    let pace = Duration::from_millis(20);
    let times_out = |name: &str, script| Case::new(name, Upstream::Answers(script), "timeout error").short();
    let drip = |name: &str, reply: Vec<u8>| times_out(name, drips(reply, pace));
    let long = with_peers(&[PEER; 50]);
    vec![
        times_out("accepts and never answers", sends_and_stays("")),
        times_out("accepts and reads nothing", script(Visit::hold_unread)),
        times_out("stops within the head", sends_and_stays("HTTP/1.1 200 OK\r\nContent-")),
        times_out("stops behind the head", sends_and_stays("HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n")),
        times_out("stops within the body", sends_and_stays(http("200 OK\r\nContent-Length: 34", one_peer()))),
        times_out("stops within a chunk", sends_and_stays(chunked("7\r\nd5:pe"))),
        times_out("stops behind an interim reply", sends_and_stays(http("100 Continue", ""))),
        drip("drips its head", format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(1000)).into()),
        drip("drips empty lines", "\r\n".repeat(500).into()),
        drip("drips its body", http("200 OK\r\nContent-Length: 999", &long)),
        drip("drips its chunks", chunked(long.iter().flat_map(|byte| chunk(&[*byte])).collect::<Vec<_>>())),
        drip("drips its gzip", http("200 OK\r\nContent-Encoding: gzip", gzip(&long))),
        // The status was there in time.
        drip("drips its refusal", http("404 Not Found\r\nContent-Length: 999", &long))
            .fails("status 404|timeout error"),
        times_out(
            "redirects and never answers",
            script(|visit| {
                visit.read();
                if visit.number == 0 {
                    visit.write(&http("302 Found\r\nLocation: /moved", ""));
                } else {
                    visit.wait_for_close();
                }
            }),
        )
        .less_short()
        .visits(2),
        Case::new(
            "redirects with a body without end",
            Upstream::Answers(script(|visit| {
                visit.read();
                if visit.number == 0 {
                    visit.write(&http("302 Found\r\nLocation: /moved", ""));
                    while visit.write(&[b'l'; 4096]) {}
                } else {
                    visit.write(&ok(one_peer()));
                }
            })),
            "ok 200",
        )
        .visits(2),
    ]
}

#[test]
fn s5_6_the_deadline_covers_the_whole_exchange() {
    check(slow());
}

#[test]
fn s5_6_slow_redirects_share_one_deadline() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        // A hop that takes its time is what is tested; nobody waits here for something to have happened.
        thread::sleep(Duration::from_millis(200));
        visit.write(&http(&format!("302 Found\r\nLocation: /{}", visit.number), ""));
    }));
    let server = forwarding_to(&[&tracker], SHORT);
    server.announce(&announce("t", "client"));
    assert_eq!(eventually("the end", || outcome(&metrics(&server), "tracker 0")), "timeout error");
    tracker.wait_until_left_alone();
    // Of six hops, which are allowed, the last is beyond the deadline twice over.
    assert!(tracker.visits() < 6, "{}", tracker.visits());
}

// --- Connections ----------------------------------------------------------------------------------------------

#[test]
fn connections_that_come_to_nothing() {
    check(vec![
        Case::new("refused", Upstream::Refuses, "connect error"),
        Case::new("no address", Upstream::HasNoAddress, "dns error|timeout error").short(),
        Case::new("never accepted", Upstream::NeverAccepts, "timeout error").short(),
        Case::new("closed at once", Upstream::Answers(script(|_| ())), "truncated error"),
        Case::new("reset at once", Upstream::Answers(script(Visit::reset)), "truncated error|connect error"),
        Case::new("closed behind the request", Upstream::Answers(sends("")), "truncated error"),
        Case::new(
            "reset behind the request",
            Upstream::Answers(script(|visit| {
                visit.read();
                visit.reset();
            })),
            "truncated error",
        ),
        Case::new(
            "reset within the head",
            Upstream::Answers(script(|visit| {
                visit.read();
                visit.write(b"HTTP/1.1 200 OK\r\nContent-");
                visit.reset();
            })),
            "truncated error",
        ),
        Case::new(
            "reset within the body",
            Upstream::Answers(script(|visit| {
                visit.read();
                visit.write(&http("200 OK\r\nContent-Length: 34", one_peer()));
                visit.reset();
            })),
            "truncated 200|truncated error",
        ),
        Case::new(
            "answered before it is asked",
            Upstream::Answers(script(|visit| {
                visit.write(&ok(one_peer()));
                visit.read();
            })),
            "ok 200",
        ),
    ]);
}

// --- Redirects ------------------------------------------------------------------------------------------------

/// Redirects with this head; what follows the redirect gets peers.
fn redirects(name: impl Into<String>, head: &'static str) -> Case {
    let answer = script(move |visit| {
        visit.read();
        if visit.number == 0 {
            let head = head.replace("SELF", &visit.address.to_string());
            visit.write(&with_length(&head, "<html>moved</html>"));
        } else {
            visit.write(&ok(one_peer()));
        }
    });
    Case::new(name, Upstream::Answers(answer), "ok 200").visits(2)
}

#[test]
fn s5_3_redirects() {
    let mut cases: Vec<_> = [
        "301 Moved Permanently\r\nLocation: http://SELF/moved",
        "302 Found\r\nLocation: http://SELF/moved",
        "303 See Other\r\nLocation: http://SELF/moved",
        "307 Temporary Redirect\r\nLocation: http://SELF/moved",
        "308 Permanent Redirect\r\nLocation: http://SELF/moved",
        "302 Found\r\nLocation: /moved",
        "302 Found\r\nLocation: moved",
        "302 Found\r\nLocation: ?x=y",
        "302 Found\r\nlocation: //SELF/moved#there",
        "302 Found\r\nLocation: /\u{e9} \"<%0d%0aHost: x>",
        "302 Found\r\nLocation: http://you:sEcReTword@SELF/",
        "302 Found\r\nLocation: http://SELF",
        "302 Found\r\nLocation: HTTP://SELF/",
    ]
    .into_iter()
    .map(|head| redirects(head, head))
    .collect();
    let lost = |head: &'static str, expected| redirects(head, head).fails(expected);
    cases.extend([
        lost("302 Found", "redirect 302").visits(1),
        lost("301 Moved\r\nLocation: ftp://SELF/sEcReTpAtH", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: udp://SELF/announce", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: file:///etc/passwd", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: javascript:alert(1)", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: http://", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: http://SELF:99999/", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: http://127.0.0.1:0/", "redirect 301|connect error").visits(1),
        lost("301 Moved\r\nLocation: http://tracker.invalid/sEcReTpAtH", "dns error|timeout error")
            .visits(1)
            .less_short(),
        lost("304 Not Modified\r\nLocation: http://SELF/moved", "status 304").visits(1),
        lost("200 OK\r\nLocation: http://SELF/moved", "junk 200").visits(1),
        // TLS with one who does not speak it.
        lost("301 Moved\r\nLocation: https://SELF/sEcReTpAtH", "tls error|timeout error").less_short(),
        Case::new(
            "in a circle",
            Upstream::Answers(script(|visit| {
                visit.read();
                let [here, there] = if visit.number.is_multiple_of(2) { ["a", "b"] } else { ["b", "a"] };
                visit.write(&http(&format!("302 Found\r\nX: {here}\r\nLocation: /sEcReTpAtH/{there}"), ""));
            })),
            "redirect 302",
        )
        .visits(3),
        Case::new(
            "five times",
            Upstream::Answers(script(|visit| {
                visit.read();
                let head = format!("302 Found\r\nLocation: /{}", visit.number);
                let reply = if visit.number == 5 { ok(one_peer()) } else { http(&head, "") };
                visit.write(&reply);
            })),
            "ok 200",
        )
        .visits(6),
    ]);
    check(cases);
}

#[test]
fn s5_3_redirects_keep_the_announce_and_leave_the_host_at_home() {
    let elsewhere = FakeTracker::start(sends(ok(one_peer())));
    let target = elsewhere.address();
    let home = FakeTracker::start(script(move |visit| {
        visit.read();
        let location = if visit.number == 0 { "/b?c=d".to_owned() } else { format!("http://{target}/e") };
        visit.write(&http(&format!("302 Found\r\nLocation: {location}"), ""));
    }));
    let uri = format!("http://user:sEcReTword@{}/a", home.address());
    let entries = format!("- {{name: home, uri: '{uri}', host: retracker.local}}\n");
    let server = with_forwarders(&entries, &["-t", AMPLE, "-p", "-d"]);
    let client = announce("t", "client").at("10.0.0.9");
    let mut connection = server.connect();
    let reply = connection.announce_with(&client, &[("User-Agent", "agent/1")]);
    assert_whole(&reply, [0, 1], &[PEER]);

    let requests: Vec<_> =
        home.requests().iter().chain(&elsewhere.requests()).map(|text| Request::parse(text)).collect();
    let starts = ["/a?info_hash=t--", "/b?c=d&info_hash=t--", "/e?info_hash=t--"];
    assert_eq!(requests.len(), starts.len());
    for (request, start) in requests.iter().zip(starts) {
        assert!(request.target.starts_with(start), "{request:?}");
        assert_eq!(request.header("user-agent"), Some("agent/1"));
    }
    let hosts: Vec<_> = requests.iter().map(|request| request.header("host").unwrap()).collect();
    assert_eq!(hosts, ["retracker.local", "retracker.local", &target.to_string()]);
    let logins: Vec<_> = requests.iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(logins, [true, true, false]);
    assert_discreet(&server);
}

// --- Peers that are no use ------------------------------------------------------------------------------------

#[test]
fn addresses_from_upstream_are_examined() {
    let v4 = [
        "10.1.1.1:0",
        "0.0.0.0:1",
        "0.1.2.3:1",
        "224.0.0.1:1",
        "239.255.255.250:1",
        "255.255.255.255:1",
        "169.254.1.1:1",
        "127.0.0.1:1",
        "127.9.9.9:1",
        // The announcer itself, a neighbour behind the same address, and a local peer.
        "10.0.0.9:6881",
        "10.0.0.9:6882",
        "10.3.3.3:3003",
        PEER,
        PEER,
    ];
    let v6 = [
        "[fd00::1]:0",
        "[::]:1",
        "[::1]:1",
        "[ff02::1]:1",
        "[fe80::1]:1",
        "[::ffff:127.0.0.1]:1",
        "[::ffff:10.0.0.9]:6881",
        "[::ffff:0.0.0.0]:1",
        "[::ffff:169.254.1.1]:1",
        "[::ffff:10.1.1.1]:1001",
        "[fd00::1]:1001",
    ];
    let reply = [b"d5:peers", &bencoded(&compact(&v4))[..], b"6:peers6", &bencoded(&compact(&v6)), b"e"].concat();
    let a = FakeTracker::start(sends(ok(reply)));
    let itself = "client--------------";
    let dictionaries = format!(
        "d5:peersl\
        d2:ip8:10.5.5.57:peer id20:{itself}4:porti5ee\
        d2:ip8:10.1.1.17:peer id20:bbbbbbbbbbbbbbbbbbbb4:porti1001ee\
        d2:ip8:10.0.0.97:peer id20:cccccccccccccccccccc4:porti6881ee\
        d2:ip12:fe80::1%eth04:porti5ee\
        d2:ip12:fd00::1%eth04:porti1001ee\
        d2:ip8:10.2.2.24:porti2002ee\
        ee"
    );
    let b = FakeTracker::start(sends(ok(dictionaries)));
    let server = forwarding_to(&[&a, &b], AMPLE);
    server.announce(&announce("t", "client").at("10.0.0.9"));
    server.announce(&announce("t", "local").at("10.3.3.3").port(3003));
    let reply = server.announce(&announce("t", "client").at("10.0.0.9"));
    let usable = ["10.0.0.9:6882", PEER, GOOD_PEER, "10.3.3.3:3003", "[fd00::1]:1001"];
    assert_eq!(reply.peers(), usable);
    // Nor is anything on this host told to those who are there.
    let reply = server.announce(&announce("t", "client").port(6999));
    let loopback = reply.peers().into_iter().filter(|peer| peer.starts_with("127.") || peer.starts_with("[::1]"));
    assert_eq!(loopback.count(), 0);
}

#[test]
fn the_announcer_is_known_by_the_address_of_the_entry_too() {
    let tracker = FakeTracker::start(sends(ok(with_peers(&["192.168.1.15:6881", "192.168.1.15:6882", PEER]))));
    let entries = format!("- {{uri: 'http://{}/announce', ip: 192.168.1.15}}\n", tracker.address());
    let server = with_forwarders(&entries, &["-t", AMPLE]);
    let reply = server.announce(&announce("t", "client").at("10.0.0.9"));
    assert_eq!(reply.peers(), [PEER, "192.168.1.15:6882"]);
}

#[test]
fn what_a_tracker_repeats_is_told_once_and_keeps_nobody_out() {
    let repeats = FakeTracker::start(sends(ok(with_peers(&[&[PEER; 300][..], &[GOOD_PEER]].concat()))));
    let reply = forwarding_to(&[&repeats], AMPLE).announce(&announce("t", "client").at("10.0.0.9"));
    assert_eq!(reply.peers(), [PEER, GOOD_PEER]);
}

#[test]
fn numwant_holds_for_all_together_and_local_peers_come_first() {
    let many: Vec<_> = (1..=150).map(|n| format!("10.1.1.{n}:1001")).collect();
    let more: Vec<_> = (1..=150).map(|n| format!("10.2.2.{n}:2002")).collect();
    let tracker = |peers: &[String]| {
        let peers: Vec<_> = peers.iter().map(String::as_str).collect();
        FakeTracker::start(sends(ok(with_peers(&peers))))
    };
    let (a, b) = (tracker(&many), tracker(&more));
    let server = forwarding_to(&[&a, &b], AMPLE);
    for n in 1..=3 {
        server.announce(&announce("t", &format!("local {n}")).at(&format!("10.3.3.{n}")).numwant(0));
    }
    let client = announce("t", "client").at("10.0.0.9");
    let asked = |tracker: &FakeTracker| Request::parse(tracker.requests().last().unwrap()).value("numwant");
    // Who wants many waits until both trackers have answered. After that nobody does.
    for (numwant, told) in [(200, 200), (0, 0), (2, 2), (3, 3), (7, 7), (80, 80), (1_000_000, 200), (-1, 50)] {
        let reply = server.announce(&client.clone().numwant(numwant));
        let tree = reply.tree();
        let (peers, rest) = tree.get("peers").unwrap().bytes().as_chunks::<6>();
        assert!(rest.is_empty());
        assert_eq!(peers.len(), told, "numwant={numwant}");
        let of = |net: u8| peers.iter().filter(|peer| peer[1] == net).count();
        assert_eq!(of(3), told.min(3), "numwant={numwant}");
        assert!(peers.iter().take(3).all(|peer| peer[1] == 3), "local peers first");
        assert!(of(1).abs_diff(of(2)) <= 1, "in turn: {} and {}", of(1), of(2));
    }
    // What is asked for is for all clients, whatever the first of them wants.
    assert_eq!([asked(&a), asked(&b)], [Some("200".to_owned()), Some("200".to_owned())]);
}

#[test]
fn the_largest_upstream_counts_are_added_to_the_local_ones() {
    let counts = |complete: &str, incomplete: &str| {
        FakeTracker::start(sends(ok(around_peers(&format!("d8:complete{complete}10:incomplete{incomplete}"), "e"))))
    };
    let (a, b, c) = (counts("i10e", "i3e"), counts("i7e", "i20e"), counts("i-90e", "2:99"));
    let server = forwarding_to(&[&a, &b, &c], AMPLE);
    server.announce(&announce("t", "seed").at("10.3.3.1").seed().event("completed"));
    server.announce(&announce("t", "local").at("10.3.3.2"));
    let reply = server.announce(&announce("t", "client").at("10.0.0.9"));
    assert_eq!(reply.counts(), [1 + 10, 2 + 20, 1]);
}

// --- What is sent ---------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    version: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// What follows the head.
    body: String,
}

impl Request {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let line: Vec<_> = lines.next().unwrap().split(' ').map(str::to_owned).collect();
        let [method, target, version] = <[String; 3]>::try_from(line).unwrap();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_ascii_lowercase(), value.to_owned())
            })
            .collect();
        Self { method, target, version, headers, body: body.to_owned() }
    }

    /// A header that may be there once.
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there twice");
        value
    }

    /// A parameter that may be there once, as it stands.
    fn value(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?').unwrap().1;
        let mut found = query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there twice");
        value.map(str::to_owned)
    }
}

/// What a tracker is sent for this announce, if its entry has these settings beside the uri.
fn sent(target: &str, settings: &str, client: &str, headers: &[(&str, &str)]) -> (SocketAddr, Request) {
    let tracker = FakeTracker::start(sends(ok(one_peer())));
    let entries = format!("- uri: 'http://{}{target}'\n{settings}", tracker.address());
    let server = with_forwarders(&entries, &["-t", AMPLE]);
    let reply = server.connect().get_with(format!("/announce?{client}"), headers);
    assert_eq!(reply.peers(), [PEER], "{}", reply.text());
    assert_eq!(tracker.visits(), 1);
    (tracker.address(), Request::parse(&tracker.request(1)))
}

fn plain() -> String {
    announce("t", "client").at("10.0.0.9").query()
}

#[test]
fn the_request_is_exactly_this() {
    // Every kind of byte, in every spelling that clients have.
    let info_hash = "%00%ff+%26%3D%2b%25~-._A%2f%3F%23%3b%22%80%0d%0A";
    let peer_id = "-qB4650-%5c%7C%5E%60%7b%7d%5b%5d*!'(";
    let client = format!(
        "info_hash={info_hash}&peer_id={peer_id}&port=51413&uploaded=1&downloaded=18446744073709551615&left=16384\
        &corrupt=5&redundant=6&compact=0&no_peer_id=1&numwant=80&supportcrypto=1&event=started\
        &key=%00%fe9a%2F+%3d~&ip=10.0.0.9&ipv4=10.0.0.9&ipv6=fd00%3A%3A9&passkey=theirs&jwt=a.b.c&trackerid=theirs"
    );
    let headers = [
        ("User-Agent", "qBittorrent/4.6.5 (\u{e9})"),
        ("Accept-Encoding", "br"),
        ("Authorization", "Basic dGhlaXJz"),
        ("Cookie", "theirs"),
        ("X-Theirs", "10.0.0.9"),
    ];
    let (address, request) = sent("/announce", "", &client, &headers);
    assert_eq!(
        request.target,
        "/announce?info_hash=%00%FF%20%26%3D%2B%25~-._A%2F%3F%23%3B%22%80%0D%0A\
        &peer_id=-qB4650-%5C%7C%5E%60%7B%7D%5B%5D%2A%21%27%28\
        &port=51413&uploaded=1&downloaded=9223372036854775807&left=16384&compact=1&numwant=200&event=started\
        &key=%00%FE9a%2F%20%3D~"
    );
    assert_eq!((request.method.as_str(), request.version.as_str(), request.body.as_str()), ("GET", "HTTP/1.1", ""));
    assert_eq!(request.header("host"), Some(address.to_string().as_str()));
    assert_eq!(request.header("user-agent"), Some("qBittorrent/4.6.5 (\u{e9})"));
    let ours = ["host", "user-agent", "accept-encoding", "connection", "date", "via"];
    for (name, value) in &request.headers {
        assert!(ours.contains(&name.as_str()), "{name}: {value}");
        assert!(!value.contains("10.0.0.9") && !value.contains("theirs"), "{name}: {value}");
        request.header(name);
    }
}

#[test]
fn what_the_client_does_not_say_is_filled_in() {
    let client = announce("t", "client").at("10.0.0.9").without("left").query();
    let (_, request) = sent("/announce", "", &client, &[]);
    assert_eq!(
        request.target,
        "/announce?info_hash=t-------------------&peer_id=client--------------&port=6881&uploaded=0&downloaded=0\
        &left=16384&compact=1&numwant=200&event=started"
    );
    assert_eq!(request.header("user-agent"), Some(OURS));
}

#[test]
fn a_client_that_does_not_say_what_it_is_is_spoken_for() {
    let client = announce("t", "client").at("10.0.0.9").query();
    let long = "x".repeat(150);
    for (user_agent, told) in [("", OURS), (" ", OURS), ("qB/4", "qB/4"), (&long, &long[..128])] {
        let (_, request) = sent("/announce", "", &client, &[("User-Agent", user_agent)]);
        assert_eq!(request.header("user-agent"), Some(told), "{user_agent:?}");
    }
}

#[test]
fn the_query_is_appended_to_the_uri() {
    for (uri, start) in [
        ("/announce", "/announce?info_hash="),
        ("/announce?passkey=x", "/announce?passkey=x&info_hash="),
        ("/announce?passkey=x&", "/announce?passkey=x&info_hash="),
        ("/announce?", "/announce?info_hash="),
        ("", "/?info_hash="),
        ("?passkey=x", "/?passkey=x&info_hash="),
        ("/a%2Fb/%E9?k=%26%3d", "/a%2Fb/%E9?k=%26%3d&info_hash="),
        ("/announce.php?a=b&c=d#there", "/announce.php?a=b&c=d&info_hash="),
    ] {
        let (_, request) = sent(uri, "", &plain(), &[]);
        assert!(request.target.starts_with(start), "{uri}: {request:?}");
        assert_eq!(request.target.matches('?').count(), 1, "{uri}: {request:?}");
    }
}

#[test]
fn an_entry_can_name_an_address_and_a_host() {
    let (address, request) = sent("/announce", "  ip: 192.168.1.15\n", &plain(), &[]);
    assert!(request.target.ends_with("&numwant=200&event=started&ip=192.168.1.15&ipv4=192.168.1.15"), "{request:?}");
    assert_eq!(request.header("host"), Some(address.to_string().as_str()));
    let (_, request) = sent("/announce", "  ip: 'fd00::15'\n", &plain(), &[]);
    assert!(request.target.ends_with("&numwant=200&event=started&ip=fd00%3A%3A15&ipv6=fd00%3A%3A15"), "{request:?}");
    let (_, request) = sent("/announce", "  host: retracker.local\n", &plain(), &[]);
    assert_eq!(request.header("host"), Some("retracker.local"));
    let (_, request) = sent("/announce", "  host: retracker.local:8080\n", &plain(), &[]);
    assert_eq!(request.header("host"), Some("retracker.local:8080"));
    assert_eq!(request.value("ip"), None);
}

#[test]
fn a_tracker_can_have_an_ipv6_address() {
    let Some(tracker) = FakeTracker::start_on(Ipv6Addr::LOCALHOST.into(), sends(ok(one_peer()))) else {
        eprintln!("left out: this host has no IPv6");
        return;
    };
    let server = forwarding_to(&[&tracker], AMPLE);
    assert_whole(&server.announce(&announce("t", "client").at("10.0.0.9")), [0, 1], &[PEER]);
    let request = Request::parse(&tracker.request(1));
    assert_eq!(request.header("host"), Some(tracker.address().to_string().as_str()));
}

#[test]
fn events_are_told() {
    let tracker = FakeTracker::start(sends(ok(one_peer())));
    let server = forwarding_to(&[&tracker], AMPLE);
    let client = announce("t", "client").at("10.0.0.9");
    let events = ["started", "completed", "stopped"];
    for (n, event) in events.into_iter().enumerate() {
        let client = if event == "started" { client.clone() } else { client.clone().seed() };
        server.announce(&client.event(event));
        let request = Request::parse(&tracker.request(n + 1));
        assert_eq!(request.value("event").as_deref(), Some(event));
        assert_eq!(request.value("left").as_deref(), Some(if event == "started" { "1" } else { "0" }));
        assert_eq!(request.value("port").as_deref(), Some("6881"));
    }
}

#[test]
fn stopped_is_told_while_the_client_has_its_answer() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        if visit.number == 0 {
            visit.write(&ok(one_peer()));
        } else {
            visit.wait_for_close();
        }
    }));
    let server = forwarding_to(&[&tracker], "60");
    let client = announce("t", "client").at("10.0.0.9");
    server.announce(&client.clone().event("started"));
    let start = Instant::now();
    let reply = server.announce(&client.event("stopped"));
    // The tracker has a minute, and takes it.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_whole(&reply, [0, 0], &[]);
    assert_eq!(Request::parse(&tracker.request(2)).value("event").as_deref(), Some("stopped"));
    // Nor does the process wait for it.
    let exit = server.stop();
    assert_eq!(exit.code, Some(0), "{:?}", exit.stderr);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
}

// --- What the operator sees -----------------------------------------------------------------------------------

#[test]
fn a_failing_forwarder_is_logged_once() {
    let failing = FakeTracker::start(sends(http("500 sEcReTpAtH", "sEcReTqUeRy")));
    let refusing = FakeTracker::start(sends(ok("d14:failure reason12:unregisterede")));
    let gone = Refusing::new();
    let entries = format!(
        "- {{name: failing, uri: 'http://{}{SECRET_TARGET}'}}\n\
        - {{name: refusing, uri: 'http://{}{SECRET_TARGET}'}}\n\
        - {{name: gone, uri: 'http://{}{SECRET_TARGET}'}}\n",
        failing.address(),
        refusing.address(),
        gone.address()
    );
    let server = with_forwarders(&entries, &["-t", AMPLE, "-p"]);
    for torrent in ["t", "u", "v", "w"] {
        server.announce(&announce(torrent, "client").at("10.0.0.9"));
    }
    server.logged("forwarder failing: 3 failures in a row, skipped for ");
    server.logged("forwarder gone: 3 failures in a row, skipped for ");
    let log = server.log();
    let about = |name: &str| log.iter().filter(|line| line.contains(&format!("forwarder {name}"))).collect::<Vec<_>>();
    for (name, level) in [("failing", "500"), ("gone", "reached")] {
        let lines = about(name);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains(level), "{lines:?}");
        assert!(lines[1].contains("INFO") && lines[1].contains(", then probed"), "{lines:?}");
    }
    // A tracker that refuses a torrent is well.
    assert_eq!(about("refusing"), [""; 0]);
    assert_discreet(&server);
}

#[test]
fn a_forwarder_that_answers_again_is_logged_at_once() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        visit.write(&if visit.number == 0 { http("500 Oops", "") } else { ok(one_peer()) });
    }));
    let server = forwarding_to(&[&tracker], AMPLE);
    for torrent in ["t", "u", "v"] {
        server.announce(&announce(torrent, "client").at("10.0.0.9"));
    }
    assert!(server.logged("forwarder tracker 0: answers again").contains("INFO"));
    let log = server.log();
    let lines =
        |level: &str| log.iter().filter(|line| line.contains(level) && line.contains("forwarder tracker 0: ")).count();
    assert_eq!((lines("WARN"), lines("INFO")), (1, 1), "{log:?}");
}

#[test]
fn the_log_keeps_the_secret_in_the_name_too() {
    let tracker = FakeTracker::start(sends(""));
    let uri = format!("http://user:sEcReTword@{}{SECRET_TARGET}", tracker.address());
    let server = with_forwarders(&format!("- uri: '{uri}'\n"), &["-t", AMPLE, "-p", "-d"]);
    server.announce(&announce("t", "client"));
    server.logged(&tracker.address().to_string());
    assert!(metrics(&server).contains(&format!("{{forwarder=\"{}\",outcome=\"truncated\"}} 1", tracker.address())));
    assert_discreet(&server);
}

// --- One after the other --------------------------------------------------------------------------------------

/// The value of a metric without labels.
fn gauge(server: &Server, name: &str) -> Option<f64> {
    metrics(server).lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn one_process_survives_it_all() {
    let current = Arc::new(Mutex::new(sends("")));
    let script_of_now = Arc::clone(&current);
    let odd = FakeTracker::start(script(move |visit| {
        let script = Arc::clone(&script_of_now.lock().unwrap());
        script(visit);
    }));
    let good = FakeTracker::start(sends(ok(good_reply())));
    let [odd_at, good_at] = [&odd, &good].map(FakeTracker::address);
    let entries = format!("- uri: 'http://{odd_at}{SECRET_TARGET}'\n- uri: 'http://{good_at}/announce'\n");
    let server = with_forwarders(&entries, &["-p", "-d", "-t", AMPLE]);
    server.announce(&announce("first", "client").at("10.0.0.9"));
    odd.wait_until_left_alone();
    let files = gauge(&server, "process_open_fds");

    let tables =
        [peers_of_every_form(), numbers_of_every_size(), every_dress(), junk(), broken(), refusals(), endless()];
    for (n, case) in tables.into_iter().flatten().filter(|case| case.time == AMPLE).enumerate() {
        let Upstream::Answers(script) = case.upstream else { continue };
        *current.lock().unwrap() = script;
        let reply = server.announce(&announce(&format!("torrent {n}"), "client").at("10.0.0.9"));
        assert!(reply.peers().iter().any(|peer| peer == GOOD_PEER), "{}: {}", case.name, reply.text());
        odd.wait_until_left_alone();
    }
    assert_discreet(&server);
    if let Some(files) = files {
        eventually("descriptors are given back", || {
            gauge(&server, "process_open_fds").filter(|now| *now < files + 8.0)
        });
        let memory = gauge(&server, "process_resident_memory_bytes").unwrap();
        assert!(memory < 256.0 * 1024.0 * 1024.0, "{memory} bytes");
    }
    let exit = server.stop();
    assert_eq!(exit.code, Some(0), "{:?}", exit.stderr);
}

#[test]
fn a_client_that_leaves_costs_nothing() {
    let tracker = FakeTracker::start(sends_and_stays(""));
    let server = forwarding_to(&[&tracker], SHORT);
    let mut connection = server.connect();
    connection.send(request("GET", announce("t", "client").at("10.0.0.9").target(), &[]));
    tracker.request(1);
    drop(connection);
    tracker.wait_until_left_alone();
    eventually("nothing is under way", || {
        metrics(&server).contains("retracker_forward_exchanges_in_flight{forwarder=\"tracker 0\"} 0").then_some(())
    });
    assert_eq!(server.announce(&observer("t")).peers(), ["10.0.0.9:6881"]);
}

#[test]
fn exchanges_under_way_have_a_bound() {
    let tracker = FakeTracker::start(sends_and_stays(""));
    let server = forwarding_to(&[&tracker], "60");
    let mut waiting = Vec::new();
    for n in 0..300 {
        let mut connection = server.connect();
        connection.send(request("GET", announce("t", &n.to_string()).at("10.0.0.9").port(7000 + n).target(), &[]));
        waiting.push(connection);
    }
    let turn = "retracker_forward_exchanges_waiting{forwarder=\"tracker 0\"} 44";
    eventually("some wait for their turn", || metrics(&server).lines().any(|line| line == turn).then_some(()));
    assert!(tracker.visits() < 300);
    assert_eq!(server.get("/scrape?info_hash=t-------------------").status, 200);
}
