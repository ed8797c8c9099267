//! 5.5, 5.6: replies without end, slow replies, and connections that fail.

use std::thread;
use std::time::Duration;

use super::case::{Case, SHORT, TestedUpstream, check, forwarding_to, metrics, outcome};
use super::replies::{BOMB, PEER, chunk, chunked, gzip, http, ok, one_peer, with_length, with_peers};
use crate::dsl::{announce, eventually};
use crate::fake_tracker::{FakeTracker, Visit, drips, floods, script, sends, sends_and_stays};

pub(super) fn endless() -> Vec<Case> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    let floods = |name: &str, first: Vec<u8>, unit: &[u8], expected| {
        Case::new(name, TestedUpstream::Answers(floods(first, unit.repeat(64 * 1024 / unit.len()))), expected)
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
            TestedUpstream::Answers(sends(with_length(
                "200 OK\r\nContent-Encoding: gzip",
                [BOMB, &[0; 40_000]].concat(),
            ))),
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
fn s5_5_an_endless_reply_is_dropped_at_the_limit() {
    check(endless());
}

#[test]
fn s5_5_a_flood_is_not_read_to_the_deadline() {
    let tracker = FakeTracker::start(floods(http("200 OK", "d5:peers"), vec![b'9'; 16 * 1024]));
    let server = forwarding_to(&[&tracker], "60");
    server.announce(&announce("t", "client"));
    tracker.wait_until_idle();
    // retracker reads one mebibyte. All other bytes that the tracker has sent are in the buffers of the two sockets.
    assert!(tracker.written() < 24 * 1024 * 1024, "{} bytes", tracker.written());
}

fn slow() -> Vec<Case> {
    let pace = Duration::from_millis(20);
    let times_out = |name: &str, script| Case::new(name, TestedUpstream::Answers(script), "timeout error").short();
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
        // The status arrives before the timeout. So the exchange may count as an error status instead of a timeout.
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
            TestedUpstream::Answers(script(|visit| {
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
        // This pause is the slow hop under test. It does not wait for an event.
        thread::sleep(Duration::from_millis(200));
        visit.write(&http(&format!("302 Found\r\nLocation: /{}", visit.number), ""));
    }));
    let server = forwarding_to(&[&tracker], SHORT);
    server.announce(&announce("t", "client"));
    assert_eq!(eventually("the exchange ends", || outcome(&metrics(&server), "tracker 0")), "timeout error");
    tracker.wait_until_idle();
    // Six hops are allowed, but they take longer than the deadline. So the exchange ends before the sixth hop.
    assert!(tracker.visits() < 6, "{}", tracker.visits());
}

#[test]
fn connections_that_fail() {
    check(vec![
        Case::new("refused", TestedUpstream::Refuses, "connect error"),
        Case::new("no address", TestedUpstream::HasNoAddress, "dns error|timeout error").short(),
        Case::new("never accepted", TestedUpstream::NeverAccepts, "timeout error").short(),
        Case::new("closed at once", TestedUpstream::Answers(script(|_| ())), "truncated error"),
        Case::new("reset at once", TestedUpstream::Answers(script(Visit::reset)), "truncated error|connect error"),
        Case::new("closed behind the request", TestedUpstream::Answers(sends("")), "truncated error"),
        Case::new(
            "reset behind the request",
            TestedUpstream::Answers(script(|visit| {
                visit.read();
                visit.reset();
            })),
            "truncated error",
        ),
        Case::new(
            "reset within the head",
            TestedUpstream::Answers(script(|visit| {
                visit.read();
                visit.write(b"HTTP/1.1 200 OK\r\nContent-");
                visit.reset();
            })),
            "truncated error",
        ),
        Case::new(
            "reset within the body",
            TestedUpstream::Answers(script(|visit| {
                visit.read();
                visit.write(&http("200 OK\r\nContent-Length: 34", one_peer()));
                visit.reset();
            })),
            "truncated 200|truncated error",
        ),
        Case::new(
            "answered before the request",
            TestedUpstream::Answers(script(|visit| {
                visit.write(&ok(one_peer()));
                visit.read();
            })),
            "ok 200",
        ),
    ]);
}
