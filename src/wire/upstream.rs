//! The HTTP announce as we speak it to upstream trackers: the query out, their replies in. What they really answer
//! is wilder than the BEPs: `peers` as a string or as dictionaries whatever was asked for, keys unsorted, types
//! wrong, line ends behind the last byte. What can be understood is; what cannot costs only itself.

use std::net::IpAddr;
use std::num::NonZeroU16;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use thiserror::Error;

use super::announce::parse_ip;
use super::bencode::{BencodeError, Reader, Value};
use super::compact;
use crate::bittorrent::{AnnounceRequest, PeerId, PeerLists};

/// Peers that are taken from one reply. No tracker is asked for as many; what is beyond is somebody's flood.
pub const MAX_PEERS: usize = 2_000;

/// The longest tracker id that is kept, in bytes: each session has one.
const MAX_TRACKER_ID: usize = 64;

/// What an upstream is told of a client that does not know what is left to download: one block, as libtorrent says it.
pub const STAND_IN_LEFT: u64 = 16 * 1024;

/// The largest counter that an upstream is told, in bytes: trackers that hold one in a signed number refuse larger ones.
pub const MAX_COUNTER: u64 = i64::MAX as u64;

/// The largest count of seeds or others that is believed. UDP replies and many clients hold it in a signed number.
const MAX_COUNT: u32 = i32::MAX as u32;

/// All but the unreserved characters of RFC 3986 section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends the query of an announce, from its first key, without `?`. `ip` is the address that the upstream is to record,
/// `tracker_id` what it gave with its last reply.
pub fn put_query(
    query: &mut String,
    request: &AnnounceRequest,
    numwant: u32,
    ip: Option<IpAddr>,
    tracker_id: Option<&[u8]>,
) {
    put_escaped(query, "info_hash", &request.info_hash.0);
    put_escaped(query, "&peer_id", &request.peer_id.0);
    put_number(query, "&port", u64::from(request.port.map_or(0, NonZeroU16::get)));
    put_number(query, "&uploaded", request.uploaded.min(MAX_COUNTER));
    put_number(query, "&downloaded", request.downloaded.min(MAX_COUNTER));
    put_number(query, "&left", told_left(request));
    query.push_str("&compact=1");
    put_number(query, "&numwant", u64::from(numwant));
    if let Some(event) = request.event {
        query.push_str("&event=");
        query.push_str(event.name());
    }
    if let Some(key) = &request.key {
        put_escaped(query, "&key", key);
    }
    if let Some(tracker_id) = tracker_id {
        put_escaped(query, "&trackerid", tracker_id);
    }
    if let Some(ip) = ip {
        put_escaped(query, "&ip", ip.to_string().as_bytes());
        let key = if ip.is_ipv4() { "&ipv4" } else { "&ipv6" };
        put_escaped(query, key, ip.to_string().as_bytes());
    }
}

/// What an upstream is told of the bytes that a client has still to download. Many trackers refuse numbers past
/// [`MAX_COUNTER`], which clients send that do not know: those want all of it, whatever that is.
pub fn told_left(request: &AnnounceRequest) -> u64 {
    request.left.filter(|&left| left < MAX_COUNTER).unwrap_or(STAND_IN_LEFT)
}

fn put_escaped(query: &mut String, key: &str, value: &[u8]) {
    query.push_str(key);
    query.push('=');
    query.extend(percent_encode(value, ESCAPED));
}

fn put_number(query: &mut String, key: &str, value: u64) {
    query.push_str(key);
    query.push('=');
    query.push_str(itoa::Buffer::new().format(value));
}

/// What an upstream tracker told. The intervals, the tracker id and the warning are for whoever keeps sessions with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamReply {
    /// Seconds until it wants to hear of this client again; none when it gave no sensible number.
    pub interval: Option<u32>,
    /// Seconds before which it does not want to.
    pub min_interval: Option<u32>,
    /// Seeds that it knows.
    pub complete: u32,
    /// Other peers that it knows.
    pub incomplete: u32,
    /// To be sent with the next announce; none when it is too long for that.
    pub tracker_id: Option<Vec<u8>>,
    /// The address that it sees the announce come from (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// Its `warning message`, as it came.
    pub warning: Option<Vec<u8>>,
    /// The peers; where they point is not yet examined.
    pub peers: PeerLists,
}

/// Why a body is not a list of peers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpstreamReplyError {
    /// The tracker refused the announce, whatever else it sent with the refusal.
    #[error("it refuses: {}", reason.escape_ascii())]
    Refused {
        /// Its `failure reason`, as it came.
        reason: Vec<u8>,
        /// When it may be asked again (BEP 31).
        retry: Retry,
    },
    /// The body is no bencode.
    #[error("its answer is junk: {0}")]
    NotBencode(#[from] BencodeError),
    /// The body is bencode, but no dictionary.
    #[error("its answer is junk: it is no dictionary")]
    NotADictionary,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It did not say, or not in a way to be understood.
    #[default]
    Unsaid,
    /// After so many minutes: `retry in`.
    Minutes(u32),
    /// After so many seconds: the interval that it named beside its refusal.
    Seconds(u32),
    /// Never.
    Never,
}

/// Reads the body of a reply: the first dictionary in it. Some trackers send a byte order mark or blank lines before it, or
/// comments, line ends and whole further dictionaries behind it.
pub fn parse_reply(body: &[u8]) -> Result<UpstreamReply, UpstreamReplyError> {
    let mut reader = Reader::new(without_preface(body));
    if reader.value()? != Value::Dict {
        return Err(UpstreamReplyError::NotADictionary);
    }
    let mut reply = UpstreamReply::default();
    let mut refused = None;
    let mut retry = Retry::Unsaid;
    while let Some(key) = reader.key()? {
        let value = reader.value()?;
        match (key, value) {
            (b"failure reason", Value::Bytes(reason)) => refused = Some(reason.to_vec()),
            (b"retry in", value) => {
                retry = self::retry(value);
                reader.skip(value)?;
            }
            (b"interval", Value::Int(seconds)) => reply.interval = positive(seconds),
            (b"min interval", Value::Int(seconds)) => reply.min_interval = positive(seconds),
            (b"complete", Value::Int(count)) => reply.complete = self::count(count),
            (b"incomplete", Value::Int(count)) => reply.incomplete = self::count(count),
            (b"tracker id", Value::Bytes(id)) if id.len() <= MAX_TRACKER_ID => reply.tracker_id = Some(id.to_vec()),
            (b"external ip", Value::Bytes(ip)) => reply.external_ip = address(ip),
            (b"warning message", Value::Bytes(text)) => reply.warning = Some(text.to_vec()),
            (b"peers", Value::Bytes(list)) => {
                take(&mut reply.peers, compact::decode_v4(list).map(|(ip, port)| (ip, port, None)));
            }
            (b"peers6", Value::Bytes(list)) => {
                take(&mut reply.peers, compact::decode_v6(list).map(|(ip, port)| (ip, port, None)));
            }
            (b"peers" | b"peers6", Value::List) => dictionaries(&mut reader, &mut reply.peers)?,
            (_, value) => reader.skip(value)?,
        }
    }
    match refused {
        // Some trackers send an empty one with every reply.
        Some(reason) if !reason.is_empty() || reply.peers.is_empty() => {
            if retry == Retry::Unsaid {
                retry = reply.interval.max(reply.min_interval).map_or(Retry::Unsaid, Retry::Seconds);
            }
            Err(UpstreamReplyError::Refused { reason, retry })
        }
        _ => Ok(reply),
    }
}

/// What follows a byte order mark and white space.
fn without_preface(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii_start();
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start()
}

/// The raw bytes of an address.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = bytes.try_into().map(|octets: [u8; 4]| IpAddr::from(octets));
    let v6 = bytes.try_into().map(|octets: [u8; 16]| IpAddr::from(octets).to_canonical());
    v4.or(v6).ok()
}

/// A list of peers as dictionaries. What is no dictionary, or names no reachable address, is passed over.
fn dictionaries(reader: &mut Reader<'_>, peers: &mut PeerLists) -> Result<(), BencodeError> {
    while !reader.end()? {
        match reader.value()? {
            Value::Dict => take(peers, dictionary(reader)?),
            other => reader.skip(other)?,
        }
    }
    Ok(())
}

fn dictionary(reader: &mut Reader<'_>) -> Result<Option<FoundPeer>, BencodeError> {
    let mut ip = None;
    let mut port = None;
    let mut id = None;
    while let Some(key) = reader.key()? {
        match (key, reader.value()?) {
            (b"ip", Value::Bytes(text)) => ip = std::str::from_utf8(text).ok().and_then(parse_ip),
            (b"port", Value::Int(n)) => port = u16::try_from(n).ok().and_then(NonZeroU16::new),
            (b"port", Value::Bytes(text)) => {
                port = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
            }
            (b"peer id" | b"id", Value::Bytes(bytes)) => id = bytes.try_into().ok().map(PeerId),
            (_, value) => reader.skip(value)?,
        }
    }
    Ok(ip.zip(port).map(|(ip, port)| (ip, port, id)))
}

type FoundPeer = (IpAddr, NonZeroU16, Option<PeerId>);

fn take(peers: &mut PeerLists, found: impl IntoIterator<Item = FoundPeer>) {
    let room = MAX_PEERS.saturating_sub(peers.len());
    found.into_iter().take(room).for_each(|(ip, port, id)| peers.push(ip, port, id));
}

fn retry(value: Value<'_>) -> Retry {
    match value {
        Value::Int(minutes) => positive(minutes).map_or(Retry::Unsaid, Retry::Minutes),
        Value::Bytes(b"never") => Retry::Never,
        Value::Bytes(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map_or(Retry::Unsaid, Retry::Minutes)
        }
        Value::List | Value::Dict => Retry::Unsaid,
    }
}

/// A count or a number of seconds; none when it is negative. Absurdly large ones are cut, and judged by the caller.
fn positive(n: i64) -> Option<u32> {
    (n >= 0).then(|| u32::try_from(n).unwrap_or(u32::MAX))
}

/// How many there are, as far as that can be believed.
fn count(n: i64) -> u32 {
    positive(n).unwrap_or(0).min(MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bittorrent::AnnounceReply;
    use crate::wire::announce::{self, PeerFormat};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    fn addresses(reply: &UpstreamReply) -> Vec<SocketAddr> {
        let v4 = reply.peers.v4.iter().map(|peer| peer.endpoint.into());
        v4.chain(reply.peers.v6.iter().map(|peer| peer.endpoint.into())).collect()
    }

    fn peers(body: &[u8]) -> Vec<String> {
        addresses(&parse_reply(body).unwrap()).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn compact_lists_of_both_families() {
        assert_eq!(
            peers(b"d5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers618:\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e"),
            ["10.0.0.1:6881", "[fd00::1]:6881"]
        );
    }

    #[test]
    fn dictionaries_in_every_dress() {
        assert_eq!(
            peers(
                b"d5:peersl\
                d2:ip8:10.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti1ee\
                d4:porti2e2:ip8:10.0.0.22:id20:bbbbbbbbbbbbbbbbbbbbe\
                d2:ip15:::ffff:10.0.0.34:porti3ee\
                d2:ip7:fd00::44:porti4ee\
                d2:ip11:example.com4:porti5ee\
                d2:ip8:10.0.0.64:porti0ee\
                d2:ip8:10.0.0.74:porti65536ee\
                d2:ip8:10.0.0.84:port2:80e\
                d2:ipi1e4:porti9ee\
                i7e0:lleee\
                e"
            ),
            ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.8:80", "[fd00::4]:4"]
        );
    }

    #[test]
    fn wrong_types_cost_only_themselves() {
        assert_eq!(
            peers(b"d8:completel1:xe8:intervali-5e5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers6i7ee"),
            ["10.0.0.1:6881"]
        );
        assert_eq!(peers(b"de"), [""; 0]);
        assert_eq!(peers(b"d5:peerslee\r\n"), [""; 0]);
        assert_eq!(peers(b"d5:peersd1:ai1eee"), [""; 0]);
        assert_eq!(parse_reply(b"d8:intervali-5ee").unwrap().interval, None);
        assert_eq!(parse_reply(b"d8:intervali99999999999999ee").unwrap().interval, Some(u32::MAX));
    }

    #[test]
    fn a_refusal_is_one_even_with_peers_beside_it() {
        let refused = |body: &[u8]| match parse_reply(body) {
            Err(UpstreamReplyError::Refused { retry, .. }) => retry,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(b"d14:failure reason2:no5:peers6:\x0a\0\0\x01\x1a\xe1e"), Retry::Unsaid);
        assert_eq!(refused(b"d14:failure reason2:no8:retry ini5ee"), Retry::Minutes(5));
        assert_eq!(refused(b"d14:failure reason2:no8:retry in2:15e"), Retry::Minutes(15));
        assert_eq!(refused(b"d8:retry in5:never14:failure reason2:noe"), Retry::Never);
        assert_eq!(refused(b"d8:retry inle14:failure reason2:noe"), Retry::Unsaid);
        assert_eq!(refused(b"d14:failure reason2:no8:intervali60ee"), Retry::Seconds(60));
        assert_eq!(refused(b"d14:failure reason2:no8:intervali60e12:min intervali3600ee"), Retry::Seconds(3600));
        assert_eq!(refused(b"d14:failure reason2:no8:intervali60e8:retry ini5ee"), Retry::Minutes(5));
        assert_eq!(refused(b"d14:failure reason2:no8:intervali-1ee"), Retry::Unsaid);
        assert_eq!(refused(b"d14:failure reason0:e"), Retry::Unsaid, "without peers there is nothing to take");
    }

    #[test]
    fn the_first_whole_dictionary_counts_whatever_stands_around_it() {
        let list = b"d8:intervali9e5:peers6:\x0a\x00\x00\x01\x1a\xe1e";
        for before in [&b""[..], b"\xef\xbb\xbf", b"\r\n\r\n", b" \t", b"\n\xef\xbb\xbf \n"] {
            for behind in [&b""[..], b"6:peers60:", b"<!-- 3 ms -->", b"\0", b"\r\n", b"e", list] {
                assert_eq!(peers(&[before, list, behind].concat()), ["10.0.0.1:6881"]);
            }
        }
        assert!(parse_reply(list.strip_suffix(b"e").unwrap()).is_err(), "it is not whole");
    }

    #[test]
    fn an_empty_failure_reason_beside_peers_is_none() {
        assert_eq!(peers(b"d14:failure reason0:5:peers6:\x0a\x00\x00\x01\x1a\xe1e"), ["10.0.0.1:6881"]);
    }

    #[test]
    fn counts_that_cannot_be_are_capped() {
        for (count, complete) in [("4294967295", MAX_COUNT), ("-1", 0), ("9223372036854775807", MAX_COUNT), ("7", 7)] {
            let reply = parse_reply(format!("d8:completei{count}e10:incompletei{count}ee").as_bytes()).unwrap();
            assert_eq!((reply.complete, reply.incomplete), (complete, complete), "{count}");
        }
    }

    #[test]
    fn upstreams_get_numbers_that_they_accept() {
        use crate::bittorrent::{AnnounceRequest, InfoHash};
        let query = |left, counter| {
            let request = AnnounceRequest {
                left,
                uploaded: counter,
                downloaded: counter,
                ..announce::parse(b"info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1").unwrap().0
            };
            assert_eq!(request.info_hash, InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"));
            let mut query = String::new();
            put_query(&mut query, &request, 1, None, None);
            query.split('&').skip(3).take(3).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(query(Some(0), 5), "uploaded=5 downloaded=5 left=0", "a seed is one");
        assert_eq!(query(Some(7), u64::MAX), "uploaded=9223372036854775807 downloaded=9223372036854775807 left=7");
        for unknown in [None, Some(MAX_COUNTER), Some(u64::MAX)] {
            assert_eq!(query(unknown, 0), "uploaded=0 downloaded=0 left=16384", "{unknown:?}");
        }
    }

    #[test]
    fn junk_is_junk() {
        for body in
            [&b""[..], b"<html>", b"5:peers", b"le", b"i1e", b"d5:peers60:", b"d5:peersle", b"\xef\xbb\xbf", b"  "]
        {
            assert!(parse_reply(body).is_err(), "{}", body.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn reads_what_we_write(
            v4 in proptest::collection::vec((any::<Ipv4Addr>(), any::<NonZeroU16>(), any::<[u8; 20]>()), 0..20),
            v6 in proptest::collection::vec((any::<[u16; 7]>(), any::<NonZeroU16>(), any::<[u8; 20]>()), 0..20),
            counts in any::<[u32; 5]>(),
        ) {
            let mut lists = PeerLists::default();
            for (ip, port, id) in v4 {
                lists.push(ip.into(), port, Some(PeerId(id)));
            }
            for ([b, c, d, e, f, g, h], port, id) in v6 {
                lists.push(Ipv6Addr::new(0x2001, b, c, d, e, f, g, h).into(), port, Some(PeerId(id)));
            }
            let [interval, min_interval, complete, incomplete, downloaded] = counts;
            let reply = AnnounceReply {
                interval, min_interval, complete, incomplete, downloaded,
                external_ip: Some(Ipv4Addr::LOCALHOST.into()), warning: Some("careful".into()), peers: lists,
            };
            for format in [PeerFormat::Compact, PeerFormat::Dictionaries { ids: true }] {
                let mut body = Vec::new();
                announce::encode(&reply, format, &mut body);
                let read = parse_reply(&body).unwrap();
                prop_assert_eq!(read.interval, Some(interval));
                prop_assert_eq!(read.min_interval, Some(min_interval));
                prop_assert_eq!((read.complete, read.incomplete), (complete.min(MAX_COUNT), incomplete.min(MAX_COUNT)));
                prop_assert_eq!(read.warning.as_deref(), Some(&b"careful"[..]));
                prop_assert_eq!(read.external_ip, reply.external_ip);
                if format == PeerFormat::Compact {
                    let endpoints: Vec<_> = reply.peers.v4.iter().map(|peer| peer.endpoint).collect();
                    prop_assert_eq!(read.peers.v4.iter().map(|peer| peer.endpoint).collect::<Vec<_>>(), endpoints);
                } else {
                    prop_assert_eq!(&read.peers, &reply.peers);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in any::<Vec<u8>>()) {
            let _ = parse_reply(&body);
        }

        #[test]
        fn our_queries_are_read_as_they_were_meant(
            info_hash in any::<[u8; 20]>(), peer_id in any::<[u8; 20]>(), key in any::<[u8; 8]>(),
            port in any::<u16>(), left in 0..announce::UNKNOWN_LEFT, ip in any::<Ipv4Addr>(), numwant in any::<u32>(),
        ) {
            use crate::bittorrent::*;
            let request = AnnounceRequest {
                info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), port: NonZeroU16::new(port),
                uploaded: 1, downloaded: 2, left: Some(left), event: Some(Event::Completed),
                numwant: NumWant::AtMost(numwant), key: Some(Key::from_slice(&key)),
                ids: false,
                claimed: ClaimedIps { ip: Some(ip.into()), ipv4: Some(ip), ipv6: None },
            };
            let mut query = String::new();
            put_query(&mut query, &request, numwant, Some(ip.into()), Some(&key));
            prop_assert_eq!(crate::wire::announce::parse(query.as_bytes()), Ok((request, PeerFormat::Compact)));
        }
    }
}
