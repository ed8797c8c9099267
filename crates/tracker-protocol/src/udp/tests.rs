//! Packets as in the tables of the BEPs, round trips, and arbitrary bytes.

use super::*;
use crate::upstream::{DroppedPeers, MAX_PEERS, STAND_IN_LEFT};
use crate::{Key, PeerLists};
use proptest::prelude::*;
use std::net::Ipv6Addr;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const SOME: TransactionId = TransactionId(0x0102_0304);

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"),
        peer_id: PeerId(*b"-TR4050-bbbbbbbbbbbb"),
        port: NonZeroU16::new(6881),
        uploaded: 0x0102_0304_0506_0708,
        downloaded: 0x1112_1314_1516_1718,
        left: Some(0x2122_2324_2526_2728),
        event: Some(Event::Started),
        numwant: NumWant::Default,
        key: None,
        ids: false,
        claimed: ClaimedIps::default(),
    }
}

fn reply(peers: PeerLists) -> AnnounceReply {
    AnnounceReply {
        interval: 1800,
        min_interval: 0,
        complete: 7,
        incomplete: 9,
        downloaded: 0,
        external_ip: Some(V4),
        warning: None,
        peers,
    }
}

#[test]
fn a_connect_request_byte_by_byte() {
    let bytes = b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00\x01\x02\x03\x04";
    assert_eq!(encode_connect(SOME), bytes);
    assert_eq!(Request::parse(bytes), Some(Request::Connect { transaction: SOME }));
}

#[test]
fn an_announce_request_byte_by_byte() {
    let ip = Some(Ipv4Addr::new(192, 168, 1, 15));
    let announce =
        Announce { request: &request(), numwant: 50, ip, key: 0xdead_beef, url_data: b"/a?b=c", via: b"1.1 x" };
    let expected = [
        &b"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\x00\x00\x00\x01\x01\x02\x03\x04"[..],
        b"aaaaaaaaaaaaaaaaaaaa-TR4050-bbbbbbbbbbbb",
        b"\x11\x12\x13\x14\x15\x16\x17\x18\x21\x22\x23\x24\x25\x26\x27\x28\x01\x02\x03\x04\x05\x06\x07\x08",
        b"\x00\x00\x00\x02\xc0\xa8\x01\x0f\xde\xad\xbe\xef\x00\x00\x00\x32\x1a\xe1",
        b"\x02\x06/a?b=c\x76\x051.1 x",
    ]
    .concat();
    assert_eq!(encode_announce(ConnectionId(0xc0c1_c2c3_c4c5_c6c7), SOME, &announce), expected);
    assert_eq!(expected.len(), ANNOUNCE_LENGTH + 8 + 7);
}

#[test]
fn what_a_client_does_not_know_and_what_the_protocol_cannot_say() {
    let odd = AnnounceRequest { left: None, event: Some(Event::Paused), port: None, ..request() };
    let announce = Announce { request: &odd, numwant: u32::MAX, ip: None, key: 0, url_data: b"", via: b"" };
    let packet = encode_announce(ConnectionId(0), SOME, &announce);
    assert_eq!(packet.len(), ANNOUNCE_LENGTH);
    assert_eq!(packet[64..72], STAND_IN_LEFT.to_be_bytes());
    let Some(Request::Announce { announce, url_data, .. }) = Request::parse(&packet) else { panic!() };
    let numwant = NumWant::AtMost(i32::MAX.unsigned_abs());
    assert_eq!(announce, AnnounceRequest { event: None, numwant, left: Some(STAND_IN_LEFT), ..odd });
    assert_eq!(*url_data, *b"");
    // A packet with -1 in `numwant` and in `left`.
    let mut packet = packet;
    packet[64..72].fill(0xff);
    packet[92..96].fill(0xff);
    let Some(Request::Announce { announce, .. }) = Request::parse(&packet) else { panic!() };
    assert_eq!((announce.left, announce.numwant), (None, NumWant::Default));
}

#[test]
fn options_of_every_kind() {
    for (options, expected) in [
        (&b""[..], &b""[..]),
        (b"\x02\x02/a", b"/a"),
        (b"\x02\x02/a\x00\x02\x01b", b"/a"),
        (b"\x01\x01\x02\x02/a\x01\x02\x01b", b"/ab"),
        // An unknown option, and URL data of length 0.
        (b"\x07\x03xyz\x02\x00\x02\x01b", b"b"),
        // The last option is cut off.
        (b"\x02\x02/a\x02", b"/a"),
        (b"\x02\x02/a\x02\x05bcd", b"/a"),
    ] {
        assert_eq!(*options::read(options).0, *expected, "{}", options.escape_ascii());
    }
}

#[test]
fn responses_byte_by_byte() {
    let connected = b"\0\0\0\0\x01\x02\x03\x04\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7";
    assert_eq!(encode_connected(SOME, ConnectionId(0xc0c1_c2c3_c4c5_c6c7)), connected);
    let mut peers = PeerLists::default();
    peers.push([10, 0, 0, 1].into(), NonZeroU16::new(6881).unwrap(), None);
    let announced = b"\0\0\0\x01\x01\x02\x03\x04\0\0\x07\x08\0\0\0\x09\0\0\0\x07\x0a\0\0\x01\x1a\xe1";
    assert_eq!(encode_announced(SOME, &reply(peers), V4), announced);
    let read = parse_announced(announced, V4).unwrap();
    assert_eq!((read.interval, read.complete, read.incomplete, read.peers.len()), (Some(1800), 7, 9, 1));
    assert_eq!(encode_refused(SOME, b"no"), b"\0\0\0\x03\x01\x02\x03\x04no");
}

#[test]
fn responses_that_give_nothing() {
    let refused = |reason: &[u8]| Err(ResponseError::Refused { reason: reason.to_vec() });
    for (response, expected) in [
        (&b"\0\0\0\x03\x01\x02\x03\x04no\0\0"[..], refused(b"no")),
        (b"\0\0\0\x03\x01\x02\x03\x04", refused(b"")),
        (b"\0\0\0\x03\x01\x02\x03", Err(ResponseError::Short)),
        (b"\0\0\0\x01\x01\x02\x03\x04\0\0\x07\x08\0\0\0\x09\0\0\0", Err(ResponseError::Short)),
        (b"\0\0\0\0\x01\x02\x03\x04\0\0\x07\x08\0\0\0\x09", Err(ResponseError::Action(0))),
        (b"", Err(ResponseError::Short)),
    ] {
        assert_eq!(parse_announced(response, V4), expected, "{}", response.escape_ascii());
    }
    assert_eq!(parse_connected(b"\0\0\0\0\x01\x02\x03\x04\0\0\0\0\0\0\0"), Err(ResponseError::Short));
    assert_eq!(transaction(b"\0\0\0\0\x01\x02\x03"), None);
    let negative = b"\0\0\0\x01\x01\x02\x03\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(parse_announced(negative, V4), Ok(UpstreamReply::default()));
}

#[test]
fn peers_are_bounded_and_what_is_no_entry_is_left_out() {
    let head = b"\0\0\0\x01\x01\x02\x03\x04\0\0\x07\x08\0\0\0\x09\0\0\0\x07";
    let flood = [&head[..], &vec![1; compact::V4 * (MAX_PEERS + 1)]].concat();
    let reply = parse_announced(&flood, V4).unwrap();
    assert_eq!(reply.peers.v4.len(), MAX_PEERS);
    assert_eq!(reply.dropped, DroppedPeers { excess: 1, ..DroppedPeers::default() });
    let portless = [&head[..], &[1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1]].concat();
    let reply = parse_announced(&portless, V4).unwrap();
    assert_eq!((reply.peers.v4.len(), reply.dropped.unusable), (1, 1));
    let odd = [&head[..], &[1; compact::V6 + 5]].concat();
    assert_eq!(parse_announced(&odd, V6).unwrap().peers.v6.len(), 1);
}

#[test]
fn keys_of_all_clients() {
    for (text, expected) in [
        (&b"deadBEEF"[..], 0xdead_beef),
        (b"1a", 0x1a),
        (b"0", 0),
        (b"", 0),
        // Keys that have other bytes than digits, or too many digits.
        (b"\x01\x02\x03\xff", 0x0102_03ff),
        (b"+1", 0x2b31),
        (b"123456789", 0x0404_0c3d),
    ] {
        let text = Key::from_slice(text);
        assert_eq!(key(Some(&text)), expected, "{}", text.escape_ascii());
    }
    assert_eq!(key(None), 0);
}

proptest! {
    #[test]
    fn announce_requests_round_trip(
        ids in any::<(u64, u32, [u8; 20], [u8; 20])>(), counters in (0..=MAX_COUNTER, 0..=MAX_COUNTER),
        left in (0..UNKNOWN_LEFT).prop_map(Some), port in any::<u16>(), number in 1..=u32::MAX,
        event in proptest::sample::select(vec![
            None, Some(Event::Started), Some(Event::Completed), Some(Event::Stopped),
        ]),
        numwant in 0..=i32::MAX.unsigned_abs(), ip in proptest::option::of(1..=u32::MAX),
        sent in proptest::collection::vec(any::<u8>(), 0..1000),
        names in proptest::collection::vec("[a-z0-9-]{1,60}", 0..6),
    ) {
        let (connection, transaction) = (ConnectionId(ids.0), TransactionId(ids.1));
        let ip = ip.map(Ipv4Addr::from);
        let via = names.iter().map(|name| format!("1.1 {name}")).collect::<Vec<_>>().join(", ");
        let expected = AnnounceRequest {
            info_hash: InfoHash(ids.2), peer_id: PeerId(ids.3), port: NonZeroU16::new(port),
            uploaded: counters.0, downloaded: counters.1, left, event,
            numwant: NumWant::AtMost(numwant), key: Some(Key::from_slice(format!("{number:08X}").as_bytes())),
            ids: false,
            claimed: ClaimedIps { ip: ip.map(IpAddr::from), ipv4: None, ipv6: None },
        };
        prop_assert_eq!(key(expected.key.as_ref()), number);
        let announce = Announce { request: &expected, numwant, ip, key: number, url_data: &sent, via: via.as_bytes() };
        let packet = encode_announce(connection, transaction, &announce);
        let via = Via::parse([via.as_bytes()]);
        let read = Request::parse(&packet);
        prop_assert_eq!(
            read,
            Some(Request::Announce { connection, transaction, announce: expected, url_data: sent.into(), via })
        );
    }

    #[test]
    fn short_packets_round_trip(
        number in any::<u32>(), id in any::<u64>(), reason in any::<Vec<u8>>(), tail in any::<Vec<u8>>(),
    ) {
        let id = ConnectionId(id);
        let some = TransactionId(number);
        let longer = |packet: Vec<u8>| [packet, tail.clone()].concat();
        prop_assert_eq!(
            Request::parse(&longer(encode_connect(some))),
            Some(Request::Connect { transaction: some })
        );
        let connected = longer(encode_connected(some, id));
        prop_assert_eq!((transaction(&connected), parse_connected(&connected)), (Some(some), Ok(id)));
        let refused = encode_refused(some, &reason);
        prop_assert_eq!(transaction(&refused), Some(some));
        let zeros = reason.iter().rev().take_while(|&&byte| byte == 0).count();
        let reason = reason[..reason.len() - zeros].to_vec();
        prop_assert_eq!(parse_connected(&refused), Err(ResponseError::Refused { reason }));
    }

    #[test]
    fn announce_responses_round_trip(
        v4 in proptest::collection::vec((any::<Ipv4Addr>(), any::<NonZeroU16>()), 0..50),
        v6 in proptest::collection::vec((any::<[u16; 7]>(), any::<NonZeroU16>()), 0..50),
        counts in proptest::array::uniform3(0..=i32::MAX.unsigned_abs()), number in any::<u32>(),
    ) {
        let mut peers = PeerLists::default();
        for (ip, port) in v4 {
            peers.push(ip.into(), port, None);
        }
        for ([b, c, d, e, f, g, h], port) in v6 {
            peers.push(Ipv6Addr::new(0x2001, b, c, d, e, f, g, h).into(), port, None);
        }
        let [interval, complete, incomplete] = counts;
        let sent = AnnounceReply { interval, complete, incomplete, ..reply(peers.clone()) };
        let expected = UpstreamReply {
            interval: Some(interval), complete, incomplete, ..UpstreamReply::default()
        };
        let some = TransactionId(number);
        let packet = encode_announced(some, &sent, V4);
        prop_assert_eq!(transaction(&packet), Some(some));
        let read = parse_announced(&packet, V4);
        let of_v4 = PeerLists { v4: peers.v4.clone(), v6: Vec::new() };
        prop_assert_eq!(read, Ok(UpstreamReply { peers: of_v4, ..expected.clone() }));
        let read = parse_announced(&encode_announced(some, &sent, V6), V6);
        let of_v6 = PeerLists { v4: Vec::new(), v6: peers.v6 };
        prop_assert_eq!(read, Ok(UpstreamReply { peers: of_v6, ..expected }));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        head in proptest::sample::select(vec![
            &b""[..], b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0", b"\0\0\0\0\0\0\0\0\0\0\0\x01", b"\0\0\0", b"\0\0\0\x01",
        ]),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let packet = [head, &tail].concat();
        let _ = Request::parse(&packet);
        let _ = (transaction(&packet), parse_connected(&packet), key(Some(&Key::from_slice(&packet))));
        let _ = (parse_announced(&packet, V4), parse_announced(&packet, V6));
    }
}
