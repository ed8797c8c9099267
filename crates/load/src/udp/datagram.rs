//! The datagrams of an announce over UDP (BEP 15).

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
        &peer.ip().octets(),
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

/// Whether a reply is correct.
pub(super) fn check(reply: &[u8], may_be_empty: bool) -> Result<(), &'static str> {
    match number(reply, 0) {
        Some(ANNOUNCE_ACTION) if reply.len() < HEADER_LENGTH => Err("a reply that is too short"),
        Some(ANNOUNCE_ACTION) if !(reply.len() - HEADER_LENGTH).is_multiple_of(6) => {
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
