//! Several instances that forward to the same upstream tracker.

use super::{TestRedis, from, instance, metric, peers, until_peers};
use crate::dsl::{Server, announce, eventually};
use crate::fake_tracker::{FakeTracker, sends};
use crate::forwarding::{file, values};
use crate::service::ONE_PEER;

/// Two instances that share through this Redis and forward to this tracker.
fn two_instances(redis: &TestRedis, upstream: &FakeTracker) -> [Server; 2] {
    let forwarders = file(&format!("- uri: http://{}/announce\n  name: up\n", upstream.address()));
    let args = ["-t", "30", "-f", forwarders.path().to_str().unwrap()];
    [instance(redis, &args), instance(redis, &args)]
}

fn until_told(upstream: &FakeTracker, events: &[&str]) {
    eventually(&format!("the upstream is told {events:?}"), || (values(upstream, "event") == events).then_some(()));
}

/// Returns how many clients an instance announces upstream.
fn sessions(server: &Server) -> i64 {
    metric(server, "retracker_forward_sessions{forwarder=\"up\"}")
}

fn until_sessions(server: &Server, expected: i64) {
    eventually(&format!("{expected} sessions"), || (sessions(server) == expected).then_some(()));
}

#[test]
fn a_client_may_leave_at_another_instance_than_the_one_that_announced_it_upstream() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let [a, b] = two_instances(&redis, &upstream);
    let client = announce("t", "a");
    from(&a, "192.168.1.5", &client.clone().event("started"));
    until_told(&upstream, &["started"]);
    until_peers(&b, "t", &["192.168.1.5:6881"]);
    from(&a, "192.168.1.5", &client);
    from(&b, "192.168.1.5", &client.event("stopped"));
    until_told(&upstream, &["started", "stopped"]);
    until_sessions(&a, 0);
}

#[test]
fn a_client_that_moves_to_another_instance_is_signed_off_there_alone() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let [a, b] = two_instances(&redis, &upstream);
    let client = announce("t", "a");
    from(&a, "192.168.1.5", &client.clone().event("started"));
    until_told(&upstream, &["started"]);
    until_sessions(&a, 1);
    // An instance keeps a client that announced to both instances at almost the same time. So the test announces to the
    // second instance until the first one forgets the client.
    eventually("the first instance forgets the client", || {
        from(&b, "192.168.1.5", &client.clone().event("started"));
        (sessions(&a) == 0).then_some(())
    });
    until_told(&upstream, &["started", "started"]);
    assert_eq!(sessions(&b), 1);
    from(&b, "192.168.1.5", &client.event("stopped"));
    until_told(&upstream, &["started", "started", "stopped"]);
    // The test waits until the first instance has heard of the stop. If that instance sent a `stopped` too, the
    // `stopped` would come before the `started` of the other client.
    until_peers(&a, "t", &["10.0.0.7:6881"]);
    from(&a, "192.168.1.6", &announce("other", "b").event("started"));
    until_told(&upstream, &["started", "started", "stopped", "started"]);
}

#[test]
fn an_upstream_gives_no_instance_the_clients_of_another_one_back() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    // The upstream sees both instances at 203.0.113.9, where it lists a client of theirs and a stranger.
    let body =
        b"d11:external ip4:\xcb\x00\x71\x098:intervali1800e5:peers12:\xcb\x00\x71\x09\x1b\x59\xcb\x00\x71\x09\x1b\x5ae";
    let reply = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    let upstream = FakeTracker::start(sends(reply));
    let [a, b] = two_instances(&redis, &upstream);
    from(&b, "192.168.1.6", &announce("t", "b").port(7001));
    until_sessions(&b, 1);
    until_peers(&a, "t", &["192.168.1.6:7001"]);
    let mut peers = from(&a, "192.168.1.5", &announce("t", "a")).peers();
    peers.sort();
    assert_eq!(peers, ["192.168.1.6:7001", "203.0.113.9:7002"]);
}

#[test]
fn an_announce_that_comes_back_to_another_instance_is_a_loop() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let [a, b] = two_instances(&redis, &upstream);
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_told(&upstream, &["started"]);
    let request = upstream.requests().remove(0);
    let via = request.lines().find_map(|line| line.strip_prefix("Via: ")).unwrap().to_owned();
    // The second instance learns the name of the first one when it next reads what the instances say of themselves.
    let mut round = 0;
    eventually("the second instance knows the name of the first one", || {
        round += 1;
        let torrent = format!("torrent {round}");
        let headers = [("X-Real-IP", "192.168.1.6"), ("Via", via.as_str())];
        b.connect().announce_with(&announce(&torrent, "b"), &headers);
        peers(&b, &torrent).is_empty().then_some(())
    });
}
