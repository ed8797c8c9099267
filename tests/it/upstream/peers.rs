//! Which upstream peers and counts a client gets.

use super::case::{AMPLE, forwarding_to, with_forwarders};
use super::replies::{GOOD_PEER, PEER, around_peers, bencoded, compact, ok, with_peers};
use super::request::SentRequest;
use crate::dsl::announce;
use crate::fake_tracker::{FakeTracker, sends};

#[test]
fn unusable_upstream_addresses_are_left_out() {
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
        // These are the client itself, another client at its address, and a local peer.
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
    // Even a client on this host gets no loopback peers.
    let reply = server.announce(&announce("t", "client").port(6999));
    let loopback = reply.peers().into_iter().filter(|peer| peer.starts_with("127.") || peer.starts_with("[::1]"));
    assert_eq!(loopback.count(), 0);
}

#[test]
fn a_client_does_not_get_itself_under_the_address_of_the_entry() {
    let tracker = FakeTracker::start(sends(ok(with_peers(&["192.168.1.15:6881", "192.168.1.15:6882", PEER]))));
    let entries = format!("- {{uri: 'http://{}/announce', ip: 192.168.1.15}}\n", tracker.address());
    let server = with_forwarders(&entries, &["-t", AMPLE]);
    let reply = server.announce(&announce("t", "client").at("10.0.0.9"));
    assert_eq!(reply.peers(), [PEER, "192.168.1.15:6882"]);
}

#[test]
fn a_peer_that_a_tracker_repeats_is_listed_once_and_displaces_no_other() {
    let repeats = FakeTracker::start(sends(ok(with_peers(&[&[PEER; 300][..], &[GOOD_PEER]].concat()))));
    let reply = forwarding_to(&[&repeats], AMPLE).announce(&announce("t", "client").at("10.0.0.9"));
    assert_eq!(reply.peers(), [PEER, GOOD_PEER]);
}

#[test]
fn numwant_limits_the_whole_list_and_local_peers_come_first() {
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
    let numwant_sent = |tracker: &FakeTracker| SentRequest::parse(tracker.requests().last().unwrap()).value("numwant");
    // The first announce wants many peers and waits until both trackers have answered. Later announces do not wait.
    for (numwant, expected) in [(200, 200), (0, 0), (2, 2), (3, 3), (7, 7), (80, 80), (1_000_000, 200), (-1, 50)] {
        let reply = server.announce(&client.clone().numwant(numwant));
        let tree = reply.tree();
        let (peers, rest) = tree.get("peers").unwrap().bytes().as_chunks::<6>();
        assert!(rest.is_empty());
        assert_eq!(peers.len(), expected, "numwant={numwant}");
        let of = |net: u8| peers.iter().filter(|peer| peer[1] == net).count();
        assert_eq!(of(3), expected.min(3), "numwant={numwant}");
        assert!(peers.iter().take(3).all(|peer| peer[1] == 3), "local peers first");
        assert!(of(1).abs_diff(of(2)) <= 1, "in turn: {} and {}", of(1), of(2));
    }
    // All clients get peers from one list of each upstream. So the `numwant` in the upstream request does not depend on
    // the first client.
    assert_eq!([numwant_sent(&a), numwant_sent(&b)], [Some("200".to_owned()), Some("200".to_owned())]);
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
