//! The UDP tracker protocol, both ways: what a client sends and what a tracker answers (BEP 15, with the URL data of
//! BEP 41). All numbers are in network order. A packet may be longer than what is read of it: so BEP 15 leaves room for
//! extensions.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use thiserror::Error;

use super::compact;
use super::upstream::{MAX_PEERS, UpstreamReply};
use crate::bittorrent::{AnnounceReply, AnnounceRequest, ClaimedIps, Event, InfoHash, Key, NumWant, PeerId};

/// Begins a connect request, where others have a connection id (BEP 15, "Connect").
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const ERROR: u32 = 3;

/// Bytes of an announce request before its options (BEP 15, "IPv4 announce request").
const ANNOUNCE_LENGTH: usize = 98;
/// Bytes of an announce response before its peers (BEP 15, "IPv4 announce response").
const ANNOUNCED_LENGTH: usize = 20;

/// Ends the options. As the packet's end does so too, it is read but not written (BEP 41, "Option Format").
const END_OF_OPTIONS: u8 = 0;
/// Fills space; has no length (BEP 41).
const NOP: u8 = 1;
/// Path and query of the announce URL, or the next 255 bytes of them (BEP 41).
const URL_DATA: u8 = 2;
/// An option's length is one byte.
const MAX_OPTION: usize = 255;

/// As much as can be left in a signed number, which many trackers read it as. So says a client that does not know.
const UNKNOWN_LEFT: u64 = i64::MAX.unsigned_abs();

/// What a tracker gives to those who really are at the address that they send from (BEP 15, "UDP connections /
/// spoofing"). Any value is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// What a client puts into a request, and the tracker into the response to it (BEP 15, "Connect").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u32);

/// A request, as a tracker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for a connection id (BEP 15, "Connect").
    Connect {
        /// To be repeated in the response.
        transaction: TransactionId,
    },
    /// Announces a client (BEP 15, "Announce").
    Announce {
        /// What the tracker gave; whether it did is for the tracker to judge.
        connection: ConnectionId,
        /// To be repeated in the response.
        transaction: TransactionId,
        /// What is announced. Its key is the packet's in 8 hexadecimal digits, as clients write it over HTTP.
        announce: AnnounceRequest,
        /// Path and query of the announce URL; empty when the client did not tell (BEP 41).
        url_data: Vec<u8>,
    },
}

/// What goes into an announce request (BEP 15, "IPv4 announce request").
#[derive(Clone, Copy, Debug)]
pub struct Announce<'a> {
    /// The client's announce. Its key, its `numwant` and the addresses that it claims are not looked at.
    pub request: &'a AnnounceRequest,
    /// How many peers are asked for.
    pub numwant: u32,
    /// The address that the tracker is to record; none for the one that the packet comes from. Only over IPv4: to a
    /// tracker's IPv6 address it cannot be said (BEP 15, "IPv6").
    pub ip: Option<Ipv4Addr>,
    /// By what the client is known when its address has changed, see [`key`]; 0 for nothing.
    pub key: u32,
    /// Path and query of the announce URL; empty to send none (BEP 41).
    pub url_data: &'a [u8],
}

/// Why a response does not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The tracker refused (BEP 15, "Errors").
    #[error("it refuses: {}", .reason.escape_ascii())]
    Refused {
        /// Its words, as they came, but without the zeros that some trackers end them with.
        reason: Vec<u8>,
    },
    /// Something is missing at the end.
    #[error("it is too short")]
    Short,
    /// It answers another kind of request.
    #[error("it answers a request with action {0}, which was not made")]
    Action(u32),
}

/// Writes a connect request.
pub fn encode_connect(transaction: TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.extend_from_slice(&PROTOCOL_ID.to_be_bytes());
    put_head(&mut out, CONNECT, transaction);
    out
}

/// Writes an announce request.
pub fn encode_announce(connection: ConnectionId, transaction: TransactionId, announce: &Announce<'_>) -> Vec<u8> {
    let Announce { request, numwant, ip, key, url_data } = *announce;
    let options = url_data.len() + 2 * url_data.len().div_ceil(MAX_OPTION);
    let mut out = Vec::with_capacity(ANNOUNCE_LENGTH + options);
    out.extend_from_slice(&connection.0.to_be_bytes());
    put_head(&mut out, ANNOUNCE, transaction);
    out.extend_from_slice(&request.info_hash.0);
    out.extend_from_slice(&request.peer_id.0);
    out.extend_from_slice(&request.downloaded.to_be_bytes());
    out.extend_from_slice(&request.left.unwrap_or(UNKNOWN_LEFT).min(UNKNOWN_LEFT).to_be_bytes());
    out.extend_from_slice(&request.uploaded.to_be_bytes());
    put_u32(&mut out, event_number(request.event));
    out.extend_from_slice(&ip.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    put_u32(&mut out, key);
    // It is signed: -1 stands for the tracker's own default.
    put_u32(&mut out, numwant.min(i32::MAX.unsigned_abs()));
    out.extend_from_slice(&request.port.map_or(0, NonZeroU16::get).to_be_bytes());
    for part in url_data.chunks(MAX_OPTION) {
        out.extend_from_slice(&[URL_DATA, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(part);
    }
    out
}

/// The transaction id of a response of whatever kind; none when the packet is too short to have one.
pub fn transaction(response: &[u8]) -> Option<TransactionId> {
    let mut fields = Fields(response);
    let _action = fields.u32()?;
    fields.u32().map(TransactionId)
}

/// Reads the response to a connect request.
pub fn parse_connected(response: &[u8]) -> Result<ConnectionId, ResponseError> {
    let mut body = body(response, CONNECT)?;
    body.u64().map(ConnectionId).ok_or(ResponseError::Short)
}

/// Reads the response to an announce request. `from` is the tracker's address: its family is that of the peers (BEP 15,
/// "IPv6").
pub fn parse_announced(response: &[u8], from: IpAddr) -> Result<UpstreamReply, ResponseError> {
    let mut body = body(response, ANNOUNCE)?;
    let mut number = || body.u32().ok_or(ResponseError::Short);
    let (interval, leechers, seeders) = (number()?, number()?, number()?);
    let mut reply = UpstreamReply {
        interval: not_negative(interval),
        complete: not_negative(seeders).unwrap_or(0),
        incomplete: not_negative(leechers).unwrap_or(0),
        ..UpstreamReply::default()
    };
    let Fields(list) = body;
    let mut push = |(ip, port)| reply.peers.push(ip, port, None);
    match from.to_canonical() {
        IpAddr::V4(_) => compact::decode_v4(list).take(MAX_PEERS).for_each(&mut push),
        IpAddr::V6(_) => compact::decode_v6(list).take(MAX_PEERS).for_each(&mut push),
    }
    Ok(reply)
}

impl Request {
    /// Reads a packet that came to a tracker; none when it is no such request.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let mut fields = Fields(packet);
        let id = fields.u64()?;
        let action = fields.u32()?;
        let transaction = TransactionId(fields.u32()?);
        match action {
            CONNECT if id == PROTOCOL_ID => Some(Self::Connect { transaction }),
            ANNOUNCE => {
                let announce = announce(&mut fields)?;
                let Fields(options) = fields;
                let url_data = url_data(options);
                Some(Self::Announce { connection: ConnectionId(id), transaction, announce, url_data })
            }
            _ => None,
        }
    }
}

/// Writes the response to a connect request.
pub fn encode_connected(transaction: TransactionId, connection: ConnectionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    put_head(&mut out, CONNECT, transaction);
    out.extend_from_slice(&connection.0.to_be_bytes());
    out
}

/// Writes the response to an announce request. `to` is the client's address: it is told the peers of that family, as
/// the packet has no place for others (BEP 15, "IPv6").
pub fn encode_announced(transaction: TransactionId, reply: &AnnounceReply, to: IpAddr) -> Vec<u8> {
    let peers = &reply.peers;
    let room = (compact::V4 * peers.v4.len()).max(compact::V6 * peers.v6.len());
    let mut out = Vec::with_capacity(ANNOUNCED_LENGTH + room);
    put_head(&mut out, ANNOUNCE, transaction);
    put_u32(&mut out, reply.interval);
    put_u32(&mut out, reply.incomplete);
    put_u32(&mut out, reply.complete);
    match to.to_canonical() {
        IpAddr::V4(_) => compact::encode(&peers.v4, &mut out),
        IpAddr::V6(_) => compact::encode(&peers.v6, &mut out),
    }
    out
}

/// Writes the response that refuses a request of whatever kind. `reason` is for the client's user.
pub fn encode_refused(transaction: TransactionId, reason: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + reason.len());
    put_head(&mut out, ERROR, transaction);
    out.extend_from_slice(reason);
    out
}

/// The number that a client's opaque key becomes in an announce request: 0 when there is none. Up to 8 hexadecimal digits
/// are the number itself, as libtorrent and Transmission write over HTTP what they send over UDP; so a tracker that hears
/// of a client both ways sees one key. Of anything else all bytes play a part.
pub fn key(key: Option<&Key>) -> u32 {
    let bytes = key.map_or(&[][..], |key| key.as_slice());
    let digits = (1..=8).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_hexdigit);
    let number = || u32::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok();
    digits.then(number).flatten().unwrap_or_else(|| fold(bytes))
}

/// Four bytes become themselves.
fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, &byte| sum.rotate_left(8) ^ u32::from(byte))
}

fn put_head(out: &mut Vec<u8>, action: u32, transaction: TransactionId) {
    put_u32(out, action);
    put_u32(out, transaction.0);
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_be_bytes());
}

/// What is behind the head of a response, if it is of the kind that was asked for.
fn body(response: &[u8], asked: u32) -> Result<Fields<'_>, ResponseError> {
    let mut fields = Fields(response);
    let action = fields.u32().ok_or(ResponseError::Short)?;
    let _transaction = fields.u32().ok_or(ResponseError::Short)?;
    match action {
        ERROR => {
            let Fields(mut reason) = fields;
            while let [words @ .., 0] = reason {
                reason = words;
            }
            Err(ResponseError::Refused { reason: reason.to_vec() })
        }
        action if action == asked => Ok(fields),
        action => Err(ResponseError::Action(action)),
    }
}

/// The fields of an announce request behind its head, in their order.
fn announce(fields: &mut Fields<'_>) -> Option<AnnounceRequest> {
    let info_hash = InfoHash(fields.take()?);
    let peer_id = PeerId(fields.take()?);
    let downloaded = fields.u64()?;
    let left = fields.u64()?;
    let uploaded = fields.u64()?;
    let event = event(fields.u32()?);
    let ip = Ipv4Addr::from(fields.u32()?);
    let key = fields.u32()?;
    let numwant = fields.u32()?;
    let port = u16::from_be_bytes(fields.take()?);
    Some(AnnounceRequest {
        info_hash,
        peer_id,
        port: NonZeroU16::new(port),
        uploaded,
        downloaded,
        // -1 is another way to say that one does not know.
        left: (left < UNKNOWN_LEFT).then_some(left),
        event,
        numwant: not_negative(numwant).map_or(NumWant::Default, NumWant::AtMost),
        key: (key != 0).then(|| Key::from_slice(format!("{key:08X}").as_bytes())),
        claimed: ClaimedIps { ip: (!ip.is_unspecified()).then_some(ip.into()), ..ClaimedIps::default() },
    })
}

/// The URL data among the options. What comes after a broken option is lost with it.
fn url_data(mut options: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let [option, behind @ ..] = options {
        options = match *option {
            END_OF_OPTIONS => break,
            NOP => behind,
            option => {
                let Some((&length, behind)) = behind.split_first() else { break };
                let Some((value, behind)) = behind.split_at_checked(length.into()) else { break };
                if option == URL_DATA {
                    data.extend_from_slice(value);
                }
                behind
            }
        };
    }
    data
}

/// BEP 15 has no number for `paused`: it is an announce like those that time brings.
fn event_number(event: Option<Event>) -> u32 {
    match event {
        None | Some(Event::Paused) => 0,
        Some(Event::Completed) => 1,
        Some(Event::Started) => 2,
        Some(Event::Stopped) => 3,
    }
}

fn event(number: u32) -> Option<Event> {
    match number {
        1 => Some(Event::Completed),
        2 => Some(Event::Started),
        3 => Some(Event::Stopped),
        _ => None,
    }
}

/// The protocol's numbers are signed, though few make sense below zero.
fn not_negative(n: u32) -> Option<u32> {
    i32::try_from(n).is_ok().then_some(n)
}

/// The rest of a packet. What is taken from its front comes off.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, behind) = self.0.split_first_chunk()?;
        self.0 = behind;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bittorrent::PeerLists;
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
            external_ip: V4,
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
        let announce = Announce { request: &request(), numwant: 50, ip, key: 0xdead_beef, url_data: b"/a?b=c" };
        let expected = [
            &b"\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\x00\x00\x00\x01\x01\x02\x03\x04"[..],
            b"aaaaaaaaaaaaaaaaaaaa-TR4050-bbbbbbbbbbbb",
            b"\x11\x12\x13\x14\x15\x16\x17\x18\x21\x22\x23\x24\x25\x26\x27\x28\x01\x02\x03\x04\x05\x06\x07\x08",
            b"\x00\x00\x00\x02\xc0\xa8\x01\x0f\xde\xad\xbe\xef\x00\x00\x00\x32\x1a\xe1",
            b"\x02\x06/a?b=c",
        ]
        .concat();
        assert_eq!(encode_announce(ConnectionId(0xc0c1_c2c3_c4c5_c6c7), SOME, &announce), expected);
        assert_eq!(expected.len(), ANNOUNCE_LENGTH + 8);
    }

    #[test]
    fn what_a_client_does_not_know_and_what_the_protocol_cannot_say() {
        let odd = AnnounceRequest { left: None, event: Some(Event::Paused), port: None, ..request() };
        let announce = Announce { request: &odd, numwant: u32::MAX, ip: None, key: 0, url_data: b"" };
        let packet = encode_announce(ConnectionId(0), SOME, &announce);
        assert_eq!(packet.len(), ANNOUNCE_LENGTH);
        assert_eq!(packet[64..72], i64::MAX.to_be_bytes());
        let Some(Request::Announce { announce, url_data, .. }) = Request::parse(&packet) else { panic!() };
        let numwant = NumWant::AtMost(i32::MAX.unsigned_abs());
        assert_eq!(announce, AnnounceRequest { event: None, numwant, ..odd });
        assert_eq!(url_data, b"");
        // -1 peers, and -1 bytes left.
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
            // One of another kind, one of no length.
            (b"\x07\x03xyz\x02\x00\x02\x01b", b"b"),
            // Cut off.
            (b"\x02\x02/a\x02", b"/a"),
            (b"\x02\x02/a\x02\x05bcd", b"/a"),
        ] {
            assert_eq!(url_data(options), expected, "{}", options.escape_ascii());
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
        assert_eq!(parse_announced(&flood, V4).unwrap().peers.v4.len(), MAX_PEERS);
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
            // No digits, or too many of them.
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
            ids in any::<(u64, u32, [u8; 20], [u8; 20])>(), counters in any::<(u64, u64)>(),
            left in proptest::option::of(0..UNKNOWN_LEFT), port in any::<u16>(), number in 1..=u32::MAX,
            event in proptest::sample::select(vec![
                None, Some(Event::Started), Some(Event::Completed), Some(Event::Stopped),
            ]),
            numwant in 0..=i32::MAX.unsigned_abs(), ip in proptest::option::of(1..=u32::MAX),
            sent in proptest::collection::vec(any::<u8>(), 0..1000),
        ) {
            let (connection, transaction) = (ConnectionId(ids.0), TransactionId(ids.1));
            let ip = ip.map(Ipv4Addr::from);
            let expected = AnnounceRequest {
                info_hash: InfoHash(ids.2), peer_id: PeerId(ids.3), port: NonZeroU16::new(port),
                uploaded: counters.0, downloaded: counters.1, left, event,
                numwant: NumWant::AtMost(numwant), key: Some(Key::from_slice(format!("{number:08X}").as_bytes())),
                claimed: ClaimedIps { ip: ip.map(IpAddr::from), ipv4: None, ipv6: None },
            };
            prop_assert_eq!(key(expected.key.as_ref()), number);
            let announce = Announce { request: &expected, numwant, ip, key: number, url_data: &sent };
            let packet = encode_announce(connection, transaction, &announce);
            let read = Request::parse(&packet);
            prop_assert_eq!(
                read,
                Some(Request::Announce { connection, transaction, announce: expected, url_data: sent })
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
}
