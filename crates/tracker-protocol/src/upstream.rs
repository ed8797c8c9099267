//! The HTTP announce to other trackers: writes the query and reads the reply.
//!
//! Real replies differ from the BEPs: `peers` may be a string or dictionaries, no matter which was asked for; keys are
//! unsorted, types are wrong, and newlines follow the dictionary. Each part that can be understood is used.

use std::net::IpAddr;
use std::num::NonZeroU16;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use thiserror::Error;

use super::announce::parse_ip;
use super::bencode::{BencodeError, Reader, Value};
use super::compact;
use crate::{AnnounceRequest, PeerId, PeerLists};

/// The most peers that are taken from one reply. Every announce asks for fewer peers.
pub const MAX_PEERS: usize = 2_000;

/// The longest tracker id that is kept, in bytes. There is a limit because every session keeps a tracker id in memory.
const MAX_TRACKER_ID: usize = 64;

/// The `left` that upstreams get when the client does not know how much is left. It is one block, as with libtorrent.
pub const STAND_IN_LEFT: u64 = 16 * 1024;

/// The largest counter that is sent to upstreams, in bytes. Trackers that hold counters in signed numbers refuse larger
/// counters.
pub const MAX_COUNTER: u64 = i64::MAX as u64;

/// The largest number of seeds or of other peers that is accepted. UDP replies and many clients hold it in 32 bits with
/// a sign.
const MAX_COUNT: u32 = i32::MAX as u32;

/// The characters that are escaped: all but the unreserved characters of RFC 3986, section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends the query of an announce; the query begins with its first key, not with `?`. `ip` is the address that the
/// upstream should record. `tracker_id` is the tracker id from the upstream's last reply.
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
    put_number(query, "&left", upstream_left(request));
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

/// Returns `left` as upstreams get it. Many trackers refuse numbers past [`MAX_COUNTER`], which clients send when they
/// do not know how much is left.
pub fn upstream_left(request: &AnnounceRequest) -> u64 {
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

/// The reply of an upstream tracker. The intervals, the tracker id and the warning belong to the session with that
/// tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamReply {
    /// Seconds until the next announce of this client; `None` when the tracker gave no sensible number.
    pub interval: Option<u32>,
    /// At least this many seconds must pass before the next announce of this client.
    pub min_interval: Option<u32>,
    /// Seeds in the swarm.
    pub complete: u32,
    /// Other peers in the swarm.
    pub incomplete: u32,
    /// The tracker id, which the next announce repeats; `None` if the tracker sent no id, or an id that is too long to
    /// keep.
    pub tracker_id: Option<Vec<u8>>,
    /// The address from which the tracker got the announce (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// The tracker's `warning message`, as the tracker sent it.
    pub warning: Option<Vec<u8>>,
    /// The peers. Their addresses are not checked yet.
    pub peers: PeerLists,
    /// How many entries of the tracker's list are not among `peers`.
    pub dropped: DroppedPeers,
}

/// How many entries of a reply's list of peers were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedPeers {
    /// Entries that are clients of the tracker that asked.
    pub own: u32,
    /// Entries that repeat an earlier entry.
    pub repeats: u32,
    /// Entries that no client can use: with port 0, without an address, or with an address that cannot be a peer's.
    pub unusable: u32,
    /// Entries beyond the number of peers that are kept.
    pub excess: u32,
}

impl DroppedPeers {
    /// Returns how many entries were dropped in total.
    pub fn total(self) -> u32 {
        let Self { own, repeats, unusable, excess } = self;
        [own, repeats, unusable, excess].into_iter().fold(0, u32::saturating_add)
    }
}

/// Why a body has no list of peers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpstreamReplyError {
    /// The tracker refused the announce. The rest of the reply does not count then.
    #[error("it refuses: {}", reason.escape_ascii())]
    Refused {
        /// The tracker's `failure reason`, as the tracker sent it.
        reason: Vec<u8>,
        /// When the tracker may be asked again (BEP 31).
        retry: Retry,
    },
    /// The body is not bencode.
    #[error("its answer is junk: {0}")]
    NotBencode(#[from] BencodeError),
    /// The body is bencode, but no dictionary.
    #[error("its answer is junk: it is no dictionary")]
    NotADictionary,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// The tracker sent no time, or a time that cannot be read.
    #[default]
    Unsaid,
    /// After this many minutes: `retry in`.
    Minutes(u32),
    /// After this many seconds: the interval that the tracker sent with its refusal.
    Seconds(u32),
    /// Never.
    Never,
}

/// Reads the first dictionary in the body of a reply. Some trackers send a byte order mark or blank lines before this
/// dictionary, and comments, line ends or further dictionaries after it.
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
                reply.take_compact(list.len() / compact::V4, compact::decode_v4(list));
            }
            (b"peers6", Value::Bytes(list)) => {
                reply.take_compact(list.len() / compact::V6, compact::decode_v6(list));
            }
            (b"peers" | b"peers6", Value::List) => dictionaries(&mut reader, &mut reply)?,
            (_, value) => reader.skip(value)?,
        }
    }
    match refused {
        // Some trackers send an empty `failure reason` with every reply. So an empty `failure reason` is no refusal if
        // there are peers.
        Some(reason) if !reason.is_empty() || reply.peers.is_empty() => {
            if retry == Retry::Unsaid {
                retry = reply.interval.max(reply.min_interval).map_or(Retry::Unsaid, Retry::Seconds);
            }
            Err(UpstreamReplyError::Refused { reason, retry })
        }
        _ => Ok(reply),
    }
}

/// Returns the body after a byte order mark and white space.
fn without_preface(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii_start();
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start()
}

/// Reads the raw bytes of an address.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = bytes.try_into().map(|octets: [u8; 4]| IpAddr::from(octets));
    let v6 = bytes.try_into().map(|octets: [u8; 16]| IpAddr::from(octets).to_canonical());
    v4.or(v6).ok()
}

/// Reads a list of peers that are dictionaries. Other values, and dictionaries without a usable address, are skipped.
fn dictionaries(reader: &mut Reader<'_>, reply: &mut UpstreamReply) -> Result<(), BencodeError> {
    while !reader.end()? {
        let found = match reader.value()? {
            Value::Dict => dictionary(reader)?,
            other => {
                reader.skip(other)?;
                None
            }
        };
        match found {
            Some(peer) => reply.take(peer),
            None => reply.dropped.unusable = reply.dropped.unusable.saturating_add(1),
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

impl UpstreamReply {
    /// Takes the peers of a compact list of this many entries.
    pub(crate) fn take_compact(&mut self, entries: usize, usable: impl Iterator<Item = (IpAddr, NonZeroU16)>) {
        let mut unusable = u32::try_from(entries).unwrap_or(u32::MAX);
        for (ip, port) in usable {
            unusable = unusable.saturating_sub(1);
            self.take((ip, port, None));
        }
        self.dropped.unusable = self.dropped.unusable.saturating_add(unusable);
    }

    /// Takes a peer if there is room.
    fn take(&mut self, (ip, port, id): FoundPeer) {
        if self.peers.len() < MAX_PEERS {
            self.peers.push(ip, port, id);
        } else {
            self.dropped.excess = self.dropped.excess.saturating_add(1);
        }
    }
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

/// Converts a count or a number of seconds; `None` when the number is negative. A number beyond 32 bits becomes the
/// largest number that fits.
fn positive(n: i64) -> Option<u32> {
    (n >= 0).then(|| u32::try_from(n).unwrap_or(u32::MAX))
}

/// Limits a number of peers to [`MAX_COUNT`]. A negative number becomes 0.
fn count(n: i64) -> u32 {
    positive(n).unwrap_or(0).min(MAX_COUNT)
}

#[cfg(test)]
mod tests;
