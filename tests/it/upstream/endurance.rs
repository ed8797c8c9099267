//! One server goes through all cases, and then has many exchanges at once.

use std::sync::{Arc, Mutex};

use super::bodies::{numbers_of_every_size, peers_of_every_form};
use super::case::{
    AMPLE, SECRET_TARGET, SHORT, TestedUpstream, assert_secret_kept, forwarding_to, good_reply, metrics,
    with_forwarders,
};
use super::deadlines::endless;
use super::framing::{broken, every_encoding, every_framing, junk};
use super::replies::{GOOD_PEER, ok};
use super::statuses::refusals;
use crate::dsl::{Server, announce, eventually, observer, request};
use crate::fake_tracker::{FakeTracker, script, sends, sends_and_stays};

/// Returns the value of a metric without labels.
fn gauge(server: &Server, name: &str) -> Option<f64> {
    metrics(server).lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn one_process_survives_all_cases() {
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
    odd.wait_until_idle();
    let files = gauge(&server, "process_open_fds");

    let tables = [
        peers_of_every_form(),
        numbers_of_every_size(),
        every_framing(),
        every_encoding(),
        junk(),
        broken(),
        refusals(),
        endless(),
    ];
    for (n, case) in tables.into_iter().flatten().filter(|case| case.time == AMPLE).enumerate() {
        let TestedUpstream::Answers(script) = case.upstream else { continue };
        *current.lock().unwrap() = script;
        let reply = server.announce(&announce(&format!("torrent {n}"), "client").at("10.0.0.9"));
        assert!(reply.peers().iter().any(|peer| peer == GOOD_PEER), "{}: {}", case.name, reply.text());
        odd.wait_until_idle();
    }
    assert_secret_kept(&server);
    if let Some(files) = files {
        eventually("descriptors are closed", || gauge(&server, "process_open_fds").filter(|now| *now < files + 8.0));
        let memory = gauge(&server, "process_resident_memory_bytes").unwrap();
        assert!(memory < 256.0 * 1024.0 * 1024.0, "{memory} bytes");
    }
    let exit = server.stop();
    assert_eq!(exit.code, Some(0), "{:?}", exit.stderr);
}

#[test]
fn a_client_that_disconnects_ends_its_exchange() {
    let tracker = FakeTracker::start(sends_and_stays(""));
    let server = forwarding_to(&[&tracker], SHORT);
    let mut connection = server.connect();
    connection.send(request("GET", announce("t", "client").at("10.0.0.9").target(), &[]));
    tracker.request(1);
    drop(connection);
    tracker.wait_until_idle();
    eventually("no exchange is under way", || {
        metrics(&server).contains("retracker_forward_exchanges_in_flight{forwarder=\"tracker 0\"} 0").then_some(())
    });
    assert_eq!(server.announce(&observer("t")).peers(), ["10.0.0.9:6881"]);
}

#[test]
fn exchanges_under_way_are_limited() {
    let tracker = FakeTracker::start(sends_and_stays(""));
    let server = forwarding_to(&[&tracker], "60");
    let mut waiting = Vec::new();
    for n in 0..300 {
        let mut connection = server.connect();
        connection.send(request("GET", announce("t", &n.to_string()).at("10.0.0.9").port(7000 + n).target(), &[]));
        waiting.push(connection);
    }
    let waiting_exchanges = "retracker_forward_exchanges_waiting{forwarder=\"tracker 0\"} 44";
    eventually("some exchanges wait", || metrics(&server).lines().any(|line| line == waiting_exchanges).then_some(()));
    assert!(tracker.visits() < 300);
    assert_eq!(server.get("/scrape?info_hash=t-------------------").status, 200);
}
