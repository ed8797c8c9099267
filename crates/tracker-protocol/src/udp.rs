//! The UDP tracker protocol (BEP 15, with the URL data of BEP 41), for clients and trackers. All numbers are in network
//! order. A packet may be longer than what is read here: BEP 15 allows extensions at its end.

mod key;
mod options;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use thiserror::Error;

use super::announce::UNKNOWN_LEFT;
use super::compact::{self, CompactIp};
use super::upstream::UpstreamReply;
use super::upstream::{MAX_COUNTER, upstream_left};
use super::via::Via;
use crate::{AnnounceReply, AnnounceRequest, ClaimedIps, Event, InfoHash, NumWant, Peer, PeerId, SwarmCounts};
pub use key::key;
pub use options::OptionData;

/// The number that begins a connect request, where other requests have a connection id (BEP 15, "Connect").
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Bytes of an announce request before its options (BEP 15, "IPv4 announce request").
const ANNOUNCE_LENGTH: usize = 98;
/// Bytes of an announce response before its peers (BEP 15, "IPv4 announce response").
const ANNOUNCED_LENGTH: usize = 20;

/// The largest response, in bytes: every IPv6 network carries 1280 bytes without fragmentation, and the headers of IPv6
/// and UDP take 48. This is room for 202 peers over IPv4 and for 67 over IPv6.
pub const MAX_RESPONSE: usize = 1232;

/// The most torrents in one scrape (BEP 15, "Scrape"). If a scrape has more torrents, only the first torrents are
/// answered.
pub const MAX_SCRAPED: usize = 74;

/// The number with which a client proves that it receives packets at the address from which it sends (BEP 15, "UDP
/// connections / spoofing"). Any value is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// The number by which a client recognises the response to its request (BEP 15, "Connect").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u32);

/// A request, as a tracker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a request lives only until it is answered, and a box would need an allocation for each announce"
)]
pub enum Request {
    /// Asks for a connection id (BEP 15, "Connect").
    Connect {
        /// The response repeats this id.
        transaction: TransactionId,
    },
    /// Announces a client (BEP 15, "Announce").
    Announce {
        /// The tracker must verify that it issued this id.
        connection: ConnectionId,
        /// The response repeats this id.
        transaction: TransactionId,
        /// The announce. Its `key` is the packet's key in 8 hexadecimal digits, as clients write a key over HTTP.
        announce: AnnounceRequest,
        /// Path and query of the announce URL; empty when the client did not send them (BEP 41).
        url_data: OptionData,
        /// The retrackers that have forwarded the announce; empty when the announce comes directly from a client.
        via: Via,
    },
    /// Asks for the counts of swarms (BEP 15, "Scrape").
    Scrape {
        /// The tracker must verify that it issued this id.
        connection: ConnectionId,
        /// The response repeats this id.
        transaction: TransactionId,
        /// The torrents, in the order of the response; at most [`MAX_SCRAPED`]. The list is empty if the packet ends
        /// too soon.
        info_hashes: Vec<InfoHash>,
    },
}

/// The contents of an announce request (BEP 15, "IPv4 announce request").
#[derive(Clone, Copy, Debug)]
pub struct Announce<'a> {
    /// The client's announce. Its key, its `numwant` and the addresses that it claims are not used.
    pub request: &'a AnnounceRequest,
    /// How many peers are asked for.
    pub numwant: u32,
    /// The address that the tracker should record; `None` for the address that the packet comes from. An announce over
    /// IPv6 cannot name another address (BEP 15, "IPv6").
    pub ip: Option<Ipv4Addr>,
    /// The number by which the tracker recognises the client after the client's address has changed, see [`key()`]; 0
    /// for none.
    pub key: u32,
    /// Path and query of the announce URL; empty to send none (BEP 41).
    pub url_data: &'a [u8],
    /// The retrackers that have forwarded the announce, as in HTTP's `Via`; empty to send none.
    pub via: &'a [u8],
}

/// Why a response is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The tracker refused (BEP 15, "Errors").
    #[error("it refuses: {}", .reason.escape_ascii())]
    Refused {
        /// The tracker's reason as the tracker sent it, without the zeros that some trackers append.
        reason: Vec<u8>,
    },
    /// The response ends too soon.
    #[error("it is too short")]
    Short,
    /// The response answers another kind of request.
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
    let Announce { request, numwant, ip, key, url_data, via } = *announce;
    let mut out = Vec::with_capacity(ANNOUNCE_LENGTH + options::encoded_len(url_data) + options::encoded_len(via));
    out.extend_from_slice(&connection.0.to_be_bytes());
    put_head(&mut out, ANNOUNCE, transaction);
    out.extend_from_slice(&request.info_hash.0);
    out.extend_from_slice(&request.peer_id.0);
    out.extend_from_slice(&request.downloaded.min(MAX_COUNTER).to_be_bytes());
    out.extend_from_slice(&upstream_left(request).to_be_bytes());
    out.extend_from_slice(&request.uploaded.min(MAX_COUNTER).to_be_bytes());
    put_u32(&mut out, event_number(request.event));
    out.extend_from_slice(&ip.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    put_u32(&mut out, key);
    // `numwant` is a signed number in the packet, and -1 stands for the tracker's own default. The limit keeps a large
    // number from becoming negative.
    put_u32(&mut out, numwant.min(i32::MAX.unsigned_abs()));
    out.extend_from_slice(&request.port.map_or(0, NonZeroU16::get).to_be_bytes());
    options::put(&mut out, url_data, via);
    out
}

/// Returns the transaction id of any response; `None` when the packet is too short to have one.
pub fn transaction(response: &[u8]) -> Option<TransactionId> {
    let mut fields = PacketFields(response);
    let _action = fields.u32()?;
    fields.u32().map(TransactionId)
}

/// Reads the response to a connect request.
pub fn parse_connected(response: &[u8]) -> Result<ConnectionId, ResponseError> {
    let mut body = body(response, CONNECT)?;
    body.u64().map(ConnectionId).ok_or(ResponseError::Short)
}

/// Reads the response to an announce request. `from` is the tracker's address. The peers have the family of this
/// address (BEP 15, "IPv6").
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
    let PacketFields(list) = body;
    match from.to_canonical() {
        IpAddr::V4(_) => reply.take_compact(list.len() / compact::V4, compact::decode_v4(list)),
        IpAddr::V6(_) => reply.take_compact(list.len() / compact::V6, compact::decode_v6(list)),
    }
    Ok(reply)
}

impl Request {
    /// Reads a packet that a tracker has received; `None` when the packet is not a request.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let mut fields = PacketFields(packet);
        let id = fields.u64()?;
        let action = fields.u32()?;
        let transaction = TransactionId(fields.u32()?);
        match action {
            CONNECT if id == PROTOCOL_ID => Some(Self::Connect { transaction }),
            ANNOUNCE => {
                let announce = announce(&mut fields)?;
                let PacketFields(options) = fields;
                let (url_data, via) = options::read(options);
                let via = Via::parse([via.as_slice()]);
                Some(Self::Announce { connection: ConnectionId(id), transaction, announce, url_data, via })
            }
            SCRAPE => {
                let PacketFields(hashes) = fields;
                let hashes = hashes.as_chunks().0.iter().take(MAX_SCRAPED);
                let info_hashes = hashes.map(|hash| InfoHash(*hash)).collect();
                Some(Self::Scrape { connection: ConnectionId(id), transaction, info_hashes })
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

/// Returns the most peers in a response to a client at this address.
pub fn max_peers(to: IpAddr) -> usize {
    let length = if to.to_canonical().is_ipv4() { compact::V4 } else { compact::V6 };
    (MAX_RESPONSE - ANNOUNCED_LENGTH) / length
}

/// Writes the response to an announce request, of at most [`MAX_RESPONSE`] bytes. `to` is the client's address. The
/// packet has room for one family only, so it has the peers of the family of `to` (BEP 15, "IPv6").
pub fn encode_announced(transaction: TransactionId, reply: &AnnounceReply, to: IpAddr) -> Vec<u8> {
    let peers = &reply.peers;
    match to.to_canonical() {
        IpAddr::V4(_) => encode_peers(transaction, reply, peers.v4.get(..max_peers(to)).unwrap_or(&peers.v4)),
        IpAddr::V6(_) => encode_peers(transaction, reply, peers.v6.get(..max_peers(to)).unwrap_or(&peers.v6)),
    }
}

fn encode_peers<A: CompactIp>(transaction: TransactionId, reply: &AnnounceReply, peers: &[Peer<A>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_RESPONSE.min(ANNOUNCED_LENGTH + compact::V6 * peers.len()));
    put_head(&mut out, ANNOUNCE, transaction);
    put_u32(&mut out, reply.interval);
    put_u32(&mut out, reply.incomplete);
    put_u32(&mut out, reply.complete);
    compact::encode(peers, &mut out);
    out
}

/// Writes the response to a scrape request: the counts in the order of its torrents (BEP 15, "Scrape").
pub fn encode_scraped(transaction: TransactionId, counts: impl IntoIterator<Item = SwarmCounts>) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 12 * MAX_SCRAPED);
    put_head(&mut out, SCRAPE, transaction);
    for counts in counts.into_iter().take(MAX_SCRAPED) {
        put_u32(&mut out, counts.complete);
        put_u32(&mut out, counts.downloaded);
        put_u32(&mut out, counts.incomplete);
    }
    out
}

/// Writes the response that refuses a request of any kind. `reason` is for the client's user.
pub fn encode_refused(transaction: TransactionId, reason: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + reason.len());
    put_head(&mut out, ERROR, transaction);
    out.extend_from_slice(reason);
    out
}

fn put_head(out: &mut Vec<u8>, action: u32, transaction: TransactionId) {
    put_u32(out, action);
    put_u32(out, transaction.0);
}

fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_be_bytes());
}

/// Returns the fields after the head of a response. Fails if the response and the request differ in their action.
fn body(response: &[u8], asked: u32) -> Result<PacketFields<'_>, ResponseError> {
    let mut fields = PacketFields(response);
    let action = fields.u32().ok_or(ResponseError::Short)?;
    let _transaction = fields.u32().ok_or(ResponseError::Short)?;
    match action {
        ERROR => {
            let PacketFields(mut reason) = fields;
            while let [words @ .., 0] = reason {
                reason = words;
            }
            Err(ResponseError::Refused { reason: reason.to_vec() })
        }
        action if action == asked => Ok(fields),
        action => Err(ResponseError::Action(action)),
    }
}

/// Reads the fields of an announce request after its head, in their order.
fn announce(fields: &mut PacketFields<'_>) -> Option<AnnounceRequest> {
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
        // Clients also send -1 when they do not know how much is left.
        left: (left < UNKNOWN_LEFT).then_some(left),
        event,
        numwant: not_negative(numwant).map_or(NumWant::Default, NumWant::AtMost),
        key: (key != 0).then(|| key::digits(key)),
        ids: false,
        claimed: ClaimedIps { ip: (!ip.is_unspecified()).then_some(ip.into()), ..ClaimedIps::default() },
    })
}

/// Returns the number of an event. BEP 15 has no number for `paused`, so `paused` gets the number of an announce
/// without an event.
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

/// Reads a number of the protocol, which is signed. Returns `None` for a negative number, because negative numbers make
/// no sense here.
fn not_negative(n: u32) -> Option<u32> {
    i32::try_from(n).is_ok().then_some(n)
}

/// The part of a packet that has not been read yet. Fields are taken from its front.
struct PacketFields<'a>(&'a [u8]);

impl PacketFields<'_> {
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
mod tests;
