//! The datagrams of an announce over UDP (BEP 15).

use std::net::IpAddr;

use crate::crowd::{CrowdPeer, info_hash};

/// An announce. [`address`] fills in the connection id and the transaction id.
pub(super) type AnnounceDatagram = [u8; 98];

/// A connect request.
pub(super) const CONNECT: [u8; 16] = [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, b'c', b'o', b'n', b'n'];

const ANNOUNCE_ACTION: u32 = 1;
const ERROR_ACTION: u32 = 3;

/// The length of a reply without peers.
const HEADER_LENGTH: usize = 20;

/// Reads the connection id in a connect reply.
pub(super) fn connection_id(reply: &[u8]) -> Option<[u8; 8]> {
    let rest = reply.strip_prefix(&[0, 0, 0, 0])?.strip_prefix(&CONNECT[12..])?;
    rest.try_into().ok()
}

pub(super) fn announce(peer: CrowdPeer, numwant: u32) -> AnnounceDatagram {
    let params = peer.params();
    // The field has room for IPv4 only. An IPv6 peer has the source address of the datagram.
    let ip = if let IpAddr::V4(ip) = peer.ip() { ip.octets() } else { [0; 4] };
    let mut datagram = [0; 98];
    let fields: [&[u8]; 12] = [
        &ANNOUNCE_ACTION.to_be_bytes(),
        &[0; 4],
        &info_hash(peer.swarm),
        &params.id,
        &params.downloaded.to_be_bytes(),
        &params.left.to_be_bytes(),
        &params.uploaded.to_be_bytes(),
        &[0; 4],
        &ip,
        &params.key.to_be_bytes(),
        &numwant.to_be_bytes(),
        &params.port.to_be_bytes(),
    ];
    datagram[8..].copy_from_slice(&fields.concat());
    datagram
}

pub(super) fn address(datagram: &mut AnnounceDatagram, connection: [u8; 8], transaction: u32) {
    datagram[..8].copy_from_slice(&connection);
    datagram[12..16].copy_from_slice(&transaction.to_be_bytes());
}

/// Reads the transaction id of a reply.
pub(super) fn transaction(reply: &[u8]) -> Option<u32> {
    number(reply, 4)
}

/// Whether a reply is correct. `is_v6` is whether the tracker has an IPv6 address: then its peers have too.
pub(super) fn check(reply: &[u8], is_v6: bool, may_be_empty: bool) -> Result<(), &'static str> {
    let peer_length = if is_v6 { 18 } else { 6 };
    match number(reply, 0) {
        Some(ANNOUNCE_ACTION) if reply.len() < HEADER_LENGTH => Err("a reply that is too short"),
        Some(ANNOUNCE_ACTION) if !(reply.len() - HEADER_LENGTH).is_multiple_of(peer_length) => {
            Err("a list of peers of the wrong length")
        }
        Some(ANNOUNCE_ACTION) if reply.len() == HEADER_LENGTH && !may_be_empty => Err("no peer"),
        Some(ANNOUNCE_ACTION) => Ok(()),
        Some(ERROR_ACTION) => Err("a failure"),
        _ => Err("a reply with another action"),
    }
}

fn number(reply: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(reply.get(at..at + 4)?.try_into().ok()?))
}
