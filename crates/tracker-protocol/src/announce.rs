//! The HTTP announce, as a tracker reads and answers it: query and bencoded reply (BEP 3, 7, 21, 23, 24, 31).

use std::net::IpAddr;
use std::num::NonZeroU16;

use bendy::encoding::ToBencode;
use smallvec::SmallVec;

use super::bencode::{put_bytes, put_length, put_pair};
use super::compact;
use super::query::{self, Number};
use crate::{
    AnnounceReply, AnnounceRequest, ClaimedIps, Event, InfoHash, Ip, NumWant, Parameter, Peer, PeerId, Refusal,
};

/// The form in which the client wants the peers of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFormat {
    /// `peers` and `peers6` as strings of 6 and 18 bytes a peer (BEP 23, BEP 7).
    Compact,
    /// `peers` as a list of dictionaries, with or without `peer id` (BEP 3).
    Dictionaries {
        /// Whether each peer has its `peer id`.
        ids: bool,
    },
}

/// The longest `key` that is kept, in bytes. aria2 sends 8 bytes; other clients send 4 bytes as 8 hexadecimal digits.
pub const MAX_KEY: usize = 64;

/// A `left` of this value or more means that the client does not know how much is left. Transmission sends this value
/// for magnet links. Other clients turn -1 into an unsigned number.
pub const UNKNOWN_LEFT: u64 = i64::MAX.unsigned_abs();

/// Reads the query of an announce: the part of the request's target after the first `?`.
pub fn parse(raw: &[u8]) -> Result<(AnnounceRequest, PeerFormat), Refusal> {
    let mut fields = AnnounceFields::default();
    for (parameter, value) in query::pairs(raw) {
        fields.take(parameter, value)?;
    }
    fields.check()
}

/// The parameters of an announce that have been read so far. A parameter that is missing is `None`.
#[derive(Default)]
struct AnnounceFields {
    info_hash: Option<[u8; 20]>,
    peer_id: Option<[u8; 20]>,
    port: FirstValue<Result<Option<NonZeroU16>, Refusal>>,
    uploaded: FirstValue<u64>,
    downloaded: FirstValue<u64>,
    left: FirstValue<Option<u64>>,
    event: FirstValue<Option<Event>>,
    numwant: FirstValue<NumWant>,
    compact: FirstValue<ShortText>,
    no_peer_id: FirstValue<ShortText>,
    key: FirstValue<ShortText>,
    claimed: ClaimedIps,
}

type ShortText = SmallVec<[u8; 32]>;

/// The first value of a parameter, even if that value is not valid; `None` for a parameter that is missing.
struct FirstValue<T>(Option<T>);

impl<T> Default for FirstValue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> FirstValue<T> {
    fn take(&mut self, read: impl FnOnce() -> T) {
        if self.0.is_none() {
            self.0 = Some(read());
        }
    }
}

impl AnnounceFields {
    /// Takes a parameter. If an address is repeated, the first valid one counts. A repeated `info_hash` or `peer_id`
    /// must have the same value. Of any other parameter the first value counts, valid or not.
    fn take(&mut self, parameter: Parameter, value: &[u8]) -> Result<(), Refusal> {
        match parameter {
            Parameter::InfoHash => same(&mut self.info_hash, parameter, value)?,
            Parameter::PeerId => same(&mut self.peer_id, parameter, value)?,
            Parameter::Port => self.port.take(|| port(value)),
            Parameter::Uploaded => self.uploaded.take(|| counter(value)),
            Parameter::Downloaded => self.downloaded.take(|| counter(value)),
            Parameter::Left => self.left.take(|| left(value)),
            Parameter::Event => self.event.take(|| event(value)),
            Parameter::NumWant => self.numwant.take(|| numwant(value)),
            Parameter::Compact => self.compact.take(|| query::bytes(value)),
            Parameter::NoPeerId => self.no_peer_id.take(|| query::bytes(value)),
            Parameter::Key => self.key.take(|| query::bytes(value)),
            Parameter::Ip => self.claimed.ip = self.claimed.ip.or_else(|| ip(value)),
            Parameter::Ipv4 => {
                if let Some(IpAddr::V4(ip)) = ip(value) {
                    self.claimed.ipv4.get_or_insert(ip);
                }
            }
            Parameter::Ipv6 => {
                if let Some(IpAddr::V6(ip)) = ip(value) {
                    self.claimed.ipv6.get_or_insert(ip);
                }
            }
        }
        Ok(())
    }

    fn check(self) -> Result<(AnnounceRequest, PeerFormat), Refusal> {
        let event = self.event.0.flatten();
        let port = match self.port.0 {
            // An invalid port does no harm here, because a client that leaves is found by its address and peer id.
            Some(Err(_)) if event == Some(Event::Stopped) => None,
            port => port.transpose()?.flatten(),
        };
        let format = match (self.compact.0.as_deref(), self.no_peer_id.0.as_deref()) {
            (Some(b"0"), no_peer_id) => PeerFormat::Dictionaries { ids: no_peer_id != Some(b"1") },
            _ => PeerFormat::Compact,
        };
        let request = AnnounceRequest {
            info_hash: InfoHash(self.info_hash.ok_or(Refusal::Missing(Parameter::InfoHash))?),
            peer_id: PeerId(self.peer_id.ok_or(Refusal::Missing(Parameter::PeerId))?),
            port,
            uploaded: self.uploaded.0.unwrap_or(0),
            downloaded: self.downloaded.0.unwrap_or(0),
            left: self.left.0.flatten(),
            event,
            numwant: self.numwant.0.unwrap_or_default(),
            // A key longer than `MAX_KEY` is dropped, because all clients send shorter keys.
            key: self.key.0.filter(|key| (1..=MAX_KEY).contains(&key.len())).map(|key| key.into_iter().collect()),
            ids: format == PeerFormat::Dictionaries { ids: true },
            claimed: self.claimed,
        };
        Ok((request, format))
    }
}

/// Reads an identifier. If the identifier is given twice, both values must be the same, because otherwise it is unclear
/// which value is meant.
fn same(slot: &mut Option<[u8; 20]>, parameter: Parameter, value: &[u8]) -> Result<(), Refusal> {
    let found = query::identifier(parameter, value)?;
    if slot.is_some_and(|known| known != found) {
        return Err(Refusal::Repeated(parameter));
    }
    *slot = Some(found);
    Ok(())
}

/// Reads a port. `None` for 0 and for an empty value: clients that cannot be reached send port 0 or no port number
/// (aria2, rTorrent, qBittorrent behind a proxy).
fn port(value: &[u8]) -> Result<Option<NonZeroU16>, Refusal> {
    let not_a_port = Refusal::NotANumber { parameter: Parameter::Port, min: 0, max: u64::from(u16::MAX) };
    if value.is_empty() {
        return Ok(None);
    }
    match query::number(value) {
        Number::Value(n) => u16::try_from(n).map(NonZeroU16::new).map_err(|_| not_a_port),
        Number::NotDecimal | Number::TooLarge => Err(not_a_port),
    }
}

/// Reads a counter. Counters are passed to upstream trackers, but they affect no reply. So a value that is not a number
/// counts as 0.
fn counter(value: &[u8]) -> u64 {
    match query::number(value) {
        Number::Value(n) => n,
        Number::TooLarge => u64::MAX,
        Number::NotDecimal => 0,
    }
}

/// Reads `left`. Clients that do not know how much is left send -1, the largest number of 63 or 64 bits, or nothing.
fn left(value: &[u8]) -> Option<u64> {
    match query::number(value) {
        Number::Value(n) => Some(n).filter(|&n| n < UNKNOWN_LEFT),
        Number::TooLarge | Number::NotDecimal => None,
    }
}

fn event(value: &[u8]) -> Option<Event> {
    let named = |name: &[u8]| {
        let events = [Event::Started, Event::Completed, Event::Stopped, Event::Paused];
        events.into_iter().find(|event| event.name().as_bytes() == name)
    };
    // Only few clients write the name in another case or add spaces, so the exact name is tried first.
    let event = named(value);
    if event.is_some() || value.is_empty() {
        return event;
    }
    named(&query::bytes(value).trim_ascii().to_ascii_lowercase())
}

fn numwant(value: &[u8]) -> NumWant {
    match query::number(value) {
        Number::Value(n) => NumWant::AtMost(u32::try_from(n).unwrap_or(u32::MAX)),
        Number::TooLarge => NumWant::AtMost(u32::MAX),
        Number::NotDecimal => NumWant::Default,
    }
}

/// Reads an address in the notations that clients use: bare, in brackets, followed by a port or a zone. `None` for a
/// host name or an `.i2p` name; the announce is accepted all the same.
fn ip(value: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(&query::bytes(value)).ok().and_then(parse_ip)
}

/// Reads an address as trackers and clients write it. The zone of an IPv6 address is dropped: it means nothing to other
/// hosts. An IPv4-mapped address becomes IPv4.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.0,
        None => match text.split_once(':') {
            Some((ipv4, port)) if !port.contains(':') => ipv4,
            _ => text,
        },
    };
    let without_zone = bare.split_once('%').map_or(bare, |(ip, _)| ip);
    without_zone.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Appends a reply. This is written by hand for the fast path: bendy's encoder takes twenty times as long. Tests
/// compare the bytes with bendy's.
pub fn encode(reply: &AnnounceReply, format: PeerFormat, out: &mut Vec<u8>) {
    out.reserve(capacity(reply, format));
    out.push(b'd');
    put_pair(out, b"8:complete", reply.complete);
    put_pair(out, b"10:downloaded", reply.downloaded);
    if let Some(external_ip) = reply.external_ip {
        out.extend_from_slice(b"11:external ip");
        match external_ip {
            IpAddr::V4(ip) => put_bytes(out, &ip.octets()),
            IpAddr::V6(ip) => put_bytes(out, &ip.octets()),
        }
    }
    put_pair(out, b"10:incomplete", reply.incomplete);
    put_pair(out, b"8:interval", reply.interval);
    put_pair(out, b"12:min interval", reply.min_interval);
    // `peers` is always present, even if it is empty, because rTorrent fails when both lists are absent.
    out.extend_from_slice(b"5:peers");
    match format {
        PeerFormat::Compact => {
            put_length(out, reply.peers.v4.len() * compact::V4);
            compact::encode(&reply.peers.v4, out);
            // An empty `peers6` is left out, because old µTorrents fail on it.
            if !reply.peers.v6.is_empty() {
                out.extend_from_slice(b"6:peers6");
                put_length(out, reply.peers.v6.len() * compact::V6);
                compact::encode(&reply.peers.v6, out);
            }
        }
        PeerFormat::Dictionaries { ids } => {
            out.push(b'l');
            reply.peers.v4.iter().for_each(|peer| put_dictionary(out, peer, ids));
            reply.peers.v6.iter().for_each(|peer| put_dictionary(out, peer, ids));
            out.push(b'e');
        }
    }
    if let Some(warning) = &reply.warning {
        out.extend_from_slice(b"15:warning message");
        put_bytes(out, warning.as_bytes());
    }
    out.push(b'e');
}

/// Writes a refusal. `interval` is in seconds. `retry in` (BEP 31) is in minutes, or `never` for a request that
/// would be refused again.
pub fn encode_refusal(refusal: &Refusal, interval: u32) -> Vec<u8> {
    let minutes = if let Refusal::NotNow { minutes, .. } = refusal { Some(*minutes) } else { None };
    Failure { reason: refusal.to_string(), interval, minutes }
        .to_bencode()
        .unwrap_or_else(|_| b"d14:failure reason0:e".to_vec())
}

struct Failure {
    reason: String,
    interval: u32,
    /// After how many minutes the client may try again; `None` if the client may never try again.
    minutes: Option<u32>,
}

impl ToBencode for Failure {
    const MAX_DEPTH: usize = 1;

    fn encode(&self, encoder: bendy::encoding::SingleItemEncoder<'_>) -> Result<(), bendy::encoding::Error> {
        encoder.emit_dict(|mut dict| {
            dict.emit_pair(b"failure reason", &self.reason)?;
            dict.emit_pair(b"interval", self.interval)?;
            match self.minutes {
                Some(minutes) => dict.emit_pair(b"retry in", minutes),
                None => dict.emit_pair(b"retry in", "never"),
            }
        })
    }
}

/// Returns a number of bytes that the body does not exceed, so that one allocation is enough. The constants are the
/// greatest lengths of the parts whose length is limited.
fn capacity(reply: &AnnounceReply, format: PeerFormat) -> usize {
    let peers = match format {
        PeerFormat::Compact => reply.peers.v4.len() * compact::V4 + reply.peers.v6.len() * compact::V6,
        PeerFormat::Dictionaries { .. } => reply.peers.v4.len() * 82 + reply.peers.v6.len() * 106,
    };
    224 + peers + reply.warning.as_ref().map_or(0, |warning| warning.len() + 24)
}

fn put_dictionary<A: Ip>(out: &mut Vec<u8>, peer: &Peer<A>, ids: bool) {
    out.extend_from_slice(b"d2:ip");
    put_bytes(out, peer.endpoint.ip.into().to_string().as_bytes());
    if let Some(id) = peer.id.filter(|_| ids) {
        out.extend_from_slice(b"7:peer id");
        put_bytes(out, &id.0);
    }
    put_pair(out, b"4:port", u32::from(peer.endpoint.port.get()));
    out.push(b'e');
}

#[cfg(test)]
mod tests;
