//! The announces that upstream trackers get when a client changes its port, its id or its role, when another client
//! uses its id, and after a refusal. In these tests `X-Real-IP` gives the source of each announce.

use crate::dsl::{AnnounceQuery, Server, announce, eventually, retracker};
use crate::fake_tracker::{FakeTracker, script, sends};
use crate::forwarding::{file, values};
use crate::service::ONE_PEER;

const REFUSAL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\n\r\nd14:failure reason7:no porte";

/// Starts a server that forwards to this tracker.
fn server(tracker: &FakeTracker, more: &str) -> Server {
    let entry = format!("- uri: http://{}/announce\n{more}", tracker.address());
    retracker(&["-x", "-t", "30", "-f", file(&entry).path().to_str().unwrap()]).start()
}

fn announces(server: &Server, from: &str, announce: &AnnounceQuery) {
    server.connect().announce_with(announce, &[("X-Real-IP", from)]);
}

/// Returns the event and another parameter of each request that the tracker got.
fn requests_with(tracker: &FakeTracker, name: &str) -> Vec<(String, String)> {
    values(tracker, "event").into_iter().zip(values(tracker, name)).collect()
}

fn wait_for_requests(tracker: &FakeTracker, name: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|&(event, value)| (event.to_owned(), value.to_owned())).collect();
    eventually(&format!("the tracker gets {expected:?}"), || (requests_with(tracker, name) == expected).then_some(()));
}

/// Announces a client of another torrent, and waits until the tracker gets this announce. Because announces go upstream
/// in order, the tracker has then got all earlier announces too.
fn marker(server: &Server, tracker: &FakeTracker) {
    let before = tracker.requests().len();
    announces(server, "10.0.0.200", &announce("marker", &format!("m{before}")).port(1));
    eventually("the tracker gets the marker", || (tracker.requests().len() > before).then_some(()));
}

#[test]
fn a_changed_port_is_announced_at_once_after_stopped_for_the_old_one() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    let client = announce("t", "a");
    announces(&server, "10.0.0.5", &client.clone().event("started"));
    announces(&server, "10.0.0.5", &client.clone().port(6882));
    wait_for_requests(&tracker, "port", &[("started", "6881"), ("stopped", "6881"), ("started", "6882")]);
    announces(&server, "10.0.0.5", &client.port(6882).event("stopped"));
    wait_for_requests(
        &tracker,
        "port",
        &[("started", "6881"), ("stopped", "6881"), ("started", "6882"), ("stopped", "6882")],
    );
}

#[test]
fn two_ports_by_turns_are_two_clients_with_one_id() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    let expected_requests = [("started", "1"), ("stopped", "1"), ("started", "2"), ("started", "1")];
    for (port, so_far) in [(1, 1), (2, 3), (1, 4)] {
        announces(&server, "10.0.0.5", &announce("t", "a").port(port));
        wait_for_requests(&tracker, "port", &expected_requests[..so_far]);
    }
    for port in [2, 1, 2, 1] {
        announces(&server, "10.0.0.5", &announce("t", "a").port(port));
    }
    marker(&server, &tracker);
    assert_eq!(tracker.requests().len(), expected_requests.len() + 1, "both ports are known by now");
}

#[test]
fn clients_behind_a_nat_with_one_port_are_announced_once_each() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    let started = |name: &str| {
        requests_with(&tracker, "peer_id")
            .iter()
            .filter(|(event, id)| event == "started" && *id == expected(name))
            .count()
    };
    // A new id at an endpoint at first seems to replace the previous id. When an earlier id announces again, the server
    // knows that several clients share the endpoint.
    for (name, times) in [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2)] {
        announces(&server, "10.0.0.1", &announce("t", name));
        eventually(name, || (started(name) == times).then_some(()));
    }
    let so_far = tracker.requests().len();
    for name in ["a", "b", "c", "a", "b", "c"] {
        announces(&server, "10.0.0.1", &announce("t", name));
    }
    marker(&server, &tracker);
    assert_eq!(tracker.requests().len(), so_far + 1, "all ids are known by now");
}

#[test]
fn a_client_that_shares_the_endpoint_of_a_stopped_one_is_announced_again() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    let so_far = [("started", "a"), ("stopped", "a"), ("started", "b"), ("started", "a")];
    for (name, requests) in [("a", 1), ("b", 3), ("a", 4)] {
        announces(&server, "10.0.0.1", &announce("t", name));
        eventually(name, || (tracker.requests().len() == requests).then_some(()));
    }
    assert_eq!(requests_with(&tracker, "peer_id"), so_far.map(|(event, name)| (event.to_owned(), expected(name))));
    announces(&server, "10.0.0.1", &announce("t", "a").event("stopped"));
    eventually("the tracker gets two more announces", || (tracker.requests().len() == so_far.len() + 2).then_some(()));
    let all = [("stopped", "a"), ("started", "b")].map(|(event, name)| (event.to_owned(), expected(name)));
    assert_eq!(requests_with(&tracker, "peer_id")[so_far.len()..], all, "an upstream may know endpoints and not ids");
}

#[test]
fn when_a_new_id_takes_an_endpoint_stopped_is_sent_for_the_old_one_first() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    for name in ["a", "b", "c"] {
        announces(&server, "10.0.0.5", &announce("t", name));
        // The test waits for each announce. Otherwise the server would skip an id that is replaced before its announce
        // goes upstream.
        eventually(name, || {
            requests_with(&tracker, "peer_id").contains(&("started".into(), expected(name))).then_some(())
        });
    }
    let all = [("started", "a"), ("stopped", "a"), ("started", "b"), ("stopped", "b"), ("started", "c")];
    let all: Vec<_> = all.map(|(event, name)| (event.to_owned(), expected(name))).into();
    assert_eq!(requests_with(&tracker, "peer_id"), all);
}

fn expected(name: &str) -> String {
    format!("{name:-<20}")
}

#[test]
fn another_host_with_a_client_s_id_cannot_stop_or_change_it() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    let client = announce("t", "a");
    announces(&server, "10.0.0.5", &client);
    wait_for_requests(&tracker, "left", &[("started", "1")]);
    let thief = [
        client.clone().event("stopped"),
        client.clone().event("stopped").without("port"),
        client.clone().event("stopped").with("ip", "10.0.0.5"),
        client.clone().event("completed").seed(),
        client.clone().event("completed").seed().with("ip", "10.0.0.5"),
        client.clone().event("stopped"),
    ];
    thief.iter().for_each(|lie| announces(&server, "10.0.0.66", lie));
    marker(&server, &tracker);
    assert_eq!(requests_with(&tracker, "left")[1..], [("started".to_owned(), "1".to_owned())], "only the marker");
    announces(&server, "10.0.0.5", &client.event("stopped").without("port"));
    eventually("the client's own announce", || {
        requests_with(&tracker, "port").contains(&("stopped".into(), "6881".into())).then_some(())
    });
}

#[test]
fn an_ip_parameter_never_displaces_the_host_at_that_address() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    announces(&server, "10.0.0.66", &announce("t", "claim").with("ip", "10.0.0.5"));
    announces(&server, "10.0.0.5", &announce("t", "host"));
    eventually("the host", || {
        requests_with(&tracker, "peer_id").contains(&("started".into(), expected("host"))).then_some(())
    });
    announces(&server, "10.0.0.66", &announce("t", "claim").with("ip", "10.0.0.5"));
    marker(&server, &tracker);
    let ids: Vec<_> = requests_with(&tracker, "peer_id").into_iter().take(3).collect();
    let all = [("started", "claim"), ("stopped", "claim"), ("started", "host")];
    assert_eq!(ids, all.map(|(event, name)| (event.to_owned(), expected(name))));
    assert_eq!(tracker.requests().len(), 4);
}

#[test]
fn a_client_on_both_families_is_one_to_an_upstream_that_sees_our_own_address() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    let client = announce("t", "a");
    announces(&server, "10.0.0.5", &client);
    announces(&server, "fd00::5", &client);
    announces(&server, "10.0.0.5", &client.clone().event("stopped"));
    marker(&server, &tracker);
    assert_eq!(requests_with(&tracker, "port"), [("started".into(), "6881".into()), ("started".into(), "1".into())]);
    announces(&server, "fd00::5", &client.event("stopped"));
    eventually("the last address", || {
        requests_with(&tracker, "port").contains(&("stopped".into(), "6881".into())).then_some(())
    });
}

#[test]
fn an_upstream_that_gets_addresses_gets_each() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "  ip: client\n");
    let client = announce("t", "a");
    let all = [("started", "45.9.9.5"), ("started", "45.9.9.6"), ("stopped", "45.9.9.5")];
    announces(&server, "45.9.9.5", &client);
    wait_for_requests(&tracker, "ip", &all[..1]);
    announces(&server, "45.9.9.6", &client);
    wait_for_requests(&tracker, "ip", &all[..2]);
    announces(&server, "45.9.9.5", &client.event("stopped"));
    wait_for_requests(&tracker, "ip", &all);
}

#[test]
fn a_leecher_that_becomes_a_seed_is_announced_at_once() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "");
    announces(&server, "10.0.0.5", &announce("t", "a"));
    announces(&server, "10.0.0.5", &announce("t", "a").seed());
    wait_for_requests(&tracker, "left", &[("started", "1"), ("", "0")]);
}

#[test]
fn a_client_without_a_port_is_not_announced_and_a_refusal_applies_to_its_announce_only() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        let refused = visit.request.contains("port=6881&");
        visit.write(if refused { REFUSAL } else { ONE_PEER });
    }));
    let server = server(&tracker, "");
    for port in ["0", ""] {
        announces(&server, "10.0.0.5", &announce("t", "a").with("port", port));
    }
    announces(&server, "10.0.0.5", &announce("t", "a"));
    wait_for_requests(&tracker, "port", &[("started", "6881")]);
    announces(&server, "10.0.0.5", &announce("t", "a").seed().event("completed"));
    wait_for_requests(&tracker, "port", &[("started", "6881"), ("completed", "6881")]);
    announces(&server, "10.0.0.5", &announce("t", "a").port(7000));
    wait_for_requests(&tracker, "port", &[("started", "6881"), ("completed", "6881"), ("started", "7000")]);
}

#[test]
fn a_flood_from_one_source_delays_no_other() {
    let tracker = FakeTracker::start(sends(ONE_PEER));
    let server = server(&tracker, "  rate: 20\n");
    let mut flood = server.connect();
    for n in 0..400 {
        flood.announce_with(&announce(&format!("f{n}"), &format!("f{n}")).numwant(0), &[("X-Real-IP", "10.0.0.66")]);
    }
    announces(&server, "10.0.0.5", &announce("real", "real").numwant(0));
    eventually("the tracker gets the other source's announce", || {
        values(&tracker, "peer_id").contains(&expected("real")).then_some(())
    });
    assert!(tracker.requests().len() < 400, "the real announce overtook announces of the flood");
}
