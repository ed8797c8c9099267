//! Announces over UDP, to the byte (BEP 15).

use super::super::crowd::{Peer, info_hash};

/// One without connection id and transaction id, which [`address`] fills in.
pub(super) type Announce = [u8; 98];

/// What asks for a connection id.
pub(super) const CONNECT: [u8; 16] = [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, b'c', b'o', b'n', b'n'];

const ANNOUNCED: u32 = 1;
const REFUSED: u32 = 3;

/// Bytes of a reply before the peers.
const HEAD: usize = 20;

/// What a connect reply grants.
pub(super) fn connection_id(reply: &[u8]) -> Option<[u8; 8]> {
    let rest = reply.strip_prefix(&[0, 0, 0, 0])?.strip_prefix(&CONNECT[12..])?;
    rest.try_into().ok()
}

pub(super) fn announce(peer: Peer, numwant: u32) -> Announce {
    let client = peer.client();
    let mut datagram = [0; 98];
    let fields: [&[u8]; 12] = [
        &ANNOUNCED.to_be_bytes(),
        &[0; 4],
        &info_hash(peer.swarm),
        &client.id,
        &client.downloaded.to_be_bytes(),
        &client.left.to_be_bytes(),
        &client.uploaded.to_be_bytes(),
        &[0; 4],
        &peer.ip().octets(),
        &client.key.to_be_bytes(),
        &numwant.to_be_bytes(),
        &client.port.to_be_bytes(),
    ];
    datagram[8..].copy_from_slice(&fields.concat());
    datagram
}

pub(super) fn address(datagram: &mut Announce, connection: [u8; 8], transaction: u32) {
    datagram[..8].copy_from_slice(&connection);
    datagram[12..16].copy_from_slice(&transaction.to_be_bytes());
}

/// The transaction that a reply belongs to.
pub(super) fn transaction(reply: &[u8]) -> Option<u32> {
    number(reply, 4)
}

/// Whether there is nothing wrong with a reply.
pub(super) fn check(reply: &[u8], alone: bool) -> Result<(), &'static str> {
    match number(reply, 0) {
        Some(ANNOUNCED) if reply.len() < HEAD => Err("a reply that is too short"),
        Some(ANNOUNCED) if !(reply.len() - HEAD).is_multiple_of(6) => Err("a list of peers of the wrong length"),
        Some(ANNOUNCED) if reply.len() == HEAD && !alone => Err("no peer"),
        Some(ANNOUNCED) => Ok(()),
        Some(REFUSED) => Err("a refusal"),
        _ => Err("a reply to something else"),
    }
}

fn number(reply: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(reply.get(at..at + 4)?.try_into().ok()?))
}
