//! A case: an upstream tracker that does something odd, a correct tracker beside it, and one announce.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use super::replies::{GOOD_PEER, PEER, ok, with_peers};
use crate::dsl::{Bencode, Reply, Server, announce, eventually, retracker};
use crate::fake_tracker::{Deaf, FakeTracker, Refusing, Script, sends};

/// The path and the query of the announce URL of an odd tracker. They are secret: only this tracker may see them.
pub(super) const SECRET_TARGET: &str = "/sEcReTpAtH/announce?passkey=sEcReTqUeRy";
/// The timeout in seconds of an exchange that must not time out, however busy the machine is.
pub(super) const AMPLE: &str = "20";
/// The timeout in seconds of an exchange that must time out.
pub(super) const SHORT: &str = "0.5";
/// The timeout in seconds of an exchange that must time out, but only after the tracker's first answer has arrived.
const LESS_SHORT: &str = "3";
/// The delay that a busy machine may add to [`SHORT`] or [`LESS_SHORT`]. It is less than [`AMPLE`], the time that the
/// client waits.
const MARGIN: Duration = Duration::from_secs(15);

/// An upstream tracker, what it does, and the expected result of an announce.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) upstream: TestedUpstream,
    /// The timeout of the exchange in seconds.
    pub(super) time: &'static str,
    /// The outcome and the status of the exchange, as the metrics name them. Alternatives are separated by `|`.
    pub(super) expected: &'static str,
    /// Whether the client gets [`PEER`] from this tracker if the exchange succeeds.
    pub(super) peer: bool,
    /// `complete` and `incomplete` in the client's reply. By default they count the seed of the correct tracker and the
    /// client itself.
    pub(super) counts: [i64; 2],
    /// How many connections the tracker gets.
    pub(super) visits: usize,
}

pub(super) enum TestedUpstream {
    Answers(Script),
    Refuses,
    NeverAccepts,
    HasNoAddress,
}

impl Case {
    pub(super) fn new(name: impl Into<String>, upstream: TestedUpstream, expected: &'static str) -> Self {
        Self { name: name.into(), upstream, time: AMPLE, expected, peer: true, counts: [1, 1], visits: 1 }
    }

    /// Expects that the client gets no peer from this tracker.
    pub(super) fn no_peer(self) -> Self {
        Self { peer: false, ..self }
    }

    pub(super) fn fails(self, expected: &'static str) -> Self {
        Self { expected, ..self }
    }

    pub(super) fn counts(self, counts: [i64; 2]) -> Self {
        Self { counts, ..self }
    }

    pub(super) fn visits(self, visits: usize) -> Self {
        Self { visits, ..self }
    }

    /// Gives the exchange a short timeout, because the test expects or allows a timeout.
    pub(super) fn short(self) -> Self {
        Self { time: SHORT, ..self }
    }

    /// Gives the exchange time for one answer before it times out.
    pub(super) fn less_short(self) -> Self {
        Self { time: LESS_SHORT, ..self }
    }

    pub(super) fn check(self) {
        let good = FakeTracker::start(sends(ok(good_reply())));
        let (mut odd, mut refusing, mut deaf) = (None, None, None);
        let host = match &self.upstream {
            TestedUpstream::Answers(script) => odd.insert(FakeTracker::start(Arc::clone(script))).address().to_string(),
            TestedUpstream::Refuses => refusing.insert(Refusing::new()).address().to_string(),
            TestedUpstream::NeverAccepts => deaf.insert(Deaf::new()).address().to_string(),
            TestedUpstream::HasNoAddress => "tracker.invalid".to_owned(),
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
        assert_complete(&reply, self.counts, if peer { &peers } else { &peers[1..] });
        assert!(!reply.text().contains("sEcReT"), "{}", reply.text());
        assert_eq!(outcome_of_good(server), "ok 200");
        assert_eq!(good.visits(), 1);
        if let Some(odd) = odd {
            // retracker may close a connection before the tracker accepts it. So the test waits for the expected
            // number.
            eventually(&format!("{} connections", self.visits), || (odd.visits() == self.visits).then_some(()));
            odd.wait_until_idle();
            assert_eq!(odd.visits(), self.visits, "connections");
            if let Some(request) = odd.requests().first() {
                let asked = request.starts_with(&format!("GET {SECRET_TARGET}&info_hash=torrent--"));
                assert!(asked, "{request}");
                assert_eq!(request.matches("\r\nHost: ").count(), 1, "{request}");
            }
        }
        // The server still answers, and has not revealed the secret.
        let scraped = server.get(format!("/scrape?info_hash={}", "torrent-------------"));
        assert!(scraped.text().contains("10:incompletei1e"), "{}", scraped.text());
        assert_secret_kept(server);
    }
}

/// Runs the cases, four at a time, and names those that fail.
pub(super) fn check(cases: Vec<Case>) {
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

pub(super) fn good_reply() -> Vec<u8> {
    let mut reply = b"d8:completei1e10:incompletei0e".to_vec();
    reply.extend_from_slice(&with_peers(&[GOOD_PEER])[1..]);
    reply
}

pub(super) fn with_forwarders(entries: &str, args: &[&str]) -> Server {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(entries.as_bytes()).unwrap();
    // The server reads the file before it listens, so the file may be deleted after `start`.
    retracker(&[&["-f", file.path().to_str().unwrap()], args].concat()).start()
}

/// Starts a server that forwards to these trackers, which are named `tracker 0`, `tracker 1` and so on.
pub(super) fn forwarding_to(trackers: &[&FakeTracker], time: &str) -> Server {
    let entries = trackers.iter().enumerate().fold(String::new(), |mut entries, (n, tracker)| {
        let address = tracker.address();
        writeln!(entries, "- {{name: tracker {n}, uri: 'http://{address}/announce', timeout: {time}}}").unwrap();
        entries
    });
    with_forwarders(&entries, &["-p", "-d", "-t", time])
}

/// Checks every key of the reply to a client at 10.0.0.9. The client must be the only local peer.
pub(super) fn assert_complete(reply: &Reply, [complete, incomplete]: [i64; 2], peers: &[&str]) {
    let Bencode::Dict(mut pairs) = reply.tree() else { panic!("{}", reply.text()) };
    assert_eq!(reply.peers(), peers, "{}", reply.text());
    let mut take = |key: &str| pairs.remove(key.as_bytes());
    assert!(take("peers").is_some());
    assert_eq!(take("peers6").is_some(), peers.iter().any(|peer| peer.starts_with('[')));
    assert_eq!(take("complete"), Some(Bencode::Int(complete)), "complete");
    assert_eq!(take("incomplete"), Some(Bencode::Int(incomplete)), "incomplete");
    assert_eq!(take("downloaded"), Some(Bencode::Int(0)));
    assert_eq!(take("external ip"), Some(Bencode::Bytes(vec![10, 0, 0, 9])));
    // The server sends its own intervals, even if the upstream's intervals are absurd.
    for key in ["interval", "min interval"] {
        assert!((1..=30).contains(&take(key).unwrap().int()), "{}", reply.text());
    }
    // The reply may have a warning that names a failed forwarder.
    take("warning message");
    assert_eq!(pairs, BTreeMap::new());
}

pub(super) fn metrics(server: &Server) -> String {
    let reply = server.get("/metrics");
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body).unwrap()
}

/// Returns the outcome and the status of the only exchange with a forwarder. `None` before the exchange ends.
pub(super) fn outcome(metrics: &str, forwarder: &str) -> Option<String> {
    let label = |metric: &str, name: &str, value: &str| {
        let start = format!("{metric}{{{name}=\"{forwarder}\",{value}=\"");
        let found: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} ")).collect();
        match found[..] {
            // A series appears with the value 0, just before its first exchange is counted.
            [] | [(_, "0")] => None,
            [(label, "1")] => Some(label.to_owned()),
            _ => panic!("expected one exchange, found {found:?}"),
        }
    };
    let outcome = label("retracker_forward_exchanges_total", "forwarder", "outcome")?;
    Some(format!("{outcome} {}", label("forwarder_status", "name", "status")?))
}

pub(super) fn outcome_of_good(server: &Server) -> String {
    eventually("the exchange is counted", || outcome(&metrics(server), "good"))
}

/// Checks that the server has revealed no secret part of a forwarder's uri, and has not panicked.
pub(super) fn assert_secret_kept(server: &Server) {
    let log = server.log().join("\n");
    assert!(!log.contains("sEcReT") && !metrics(server).contains("sEcReT"), "a secret was revealed");
    assert!(!log.contains("panicked"), "the server panicked");
    assert!(log.chars().all(|char| char == '\n' || !char.is_control()), "control characters in the log: {log:?}");
}

pub(super) fn body(name: &str, body: impl AsRef<[u8]>) -> Case {
    Case::new(name, TestedUpstream::Answers(sends(ok(body))), "ok 200")
}

pub(super) fn fails(name: &str, reply: impl Into<Vec<u8>>, expected: &'static str) -> Case {
    Case::new(name, TestedUpstream::Answers(sends(reply)), expected)
}

pub(super) fn succeeds(name: &str, reply: impl Into<Vec<u8>>) -> Case {
    Case::new(name, TestedUpstream::Answers(sends(reply)), "ok 200")
}
