//! 5.1, 5.4: the bodies of upstream replies.

use super::case::{AMPLE, Case, assert_complete, body, check, forwarding_to};
use super::replies::{PEER, around_peers, around_peers_of, entry, ok, one_peer, with_peers};
use crate::dsl::announce;
use crate::fake_tracker::{FakeTracker, sends};

fn dictionaries(name: &str, peers: &str) -> Case {
    body(name, format!("d8:intervali1800e5:peersl{peers}ee"))
}

pub(super) fn peers_of_every_form() -> Vec<Case> {
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
    assert_complete(&reply, [0, 1], &[PEER, "[fd00::1]:1001"]);
    let dictionaries = server.announce(&announce("t", "client").at("10.0.0.9").with("compact", "0"));
    assert_eq!(dictionaries.peers(), [PEER, "[fd00::1]:1001"]);
}

pub(super) fn numbers_of_every_size() -> Vec<Case> {
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
    // Counts must fit into a signed number of 32 bits, because some clients would read a larger count as negative.
    let [complete, incomplete, _] = reply.counts();
    assert!((0..=i64::from(i32::MAX)).contains(&complete), "{complete}");
    assert!((1..=i64::from(i32::MAX)).contains(&incomplete), "{incomplete}");
    assert_eq!(reply.peers(), [PEER]);
}
