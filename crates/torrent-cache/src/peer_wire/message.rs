//! The messages that peers send after the handshakes, and how they are written (BEP 3, BEP 10).

use bytes::{BufMut, Bytes, BytesMut};

use super::piece_set::PieceSet;

/// The most bytes of one block. Clients close the connection of a peer that requests longer blocks.
pub const MAX_BLOCK: u32 = 16 * 1024;

/// The bytes of a [`PeerMessage::Piece`] before its data.
pub const PIECE_HEAD_LENGTH: usize = 13;

/// The message kinds, as numbers (BEP 3, BEP 10).
pub(super) mod id {
    pub(in super::super) const CHOKE: u8 = 0;
    pub(in super::super) const UNCHOKE: u8 = 1;
    pub(in super::super) const INTERESTED: u8 = 2;
    pub(in super::super) const NOT_INTERESTED: u8 = 3;
    pub(in super::super) const HAVE: u8 = 4;
    pub(in super::super) const BITFIELD: u8 = 5;
    pub(in super::super) const REQUEST: u8 = 6;
    pub(in super::super) const PIECE: u8 = 7;
    pub(in super::super) const CANCEL: u8 = 8;
    pub(in super::super) const EXTENDED: u8 = 20;
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Carries nothing, but keeps the connection from being idle. Clients send it every two minutes.
    KeepAlive,
    /// The sender answers no requests until it sends [`Self::Unchoke`]. It forgets the requests that it has not
    /// answered.
    Choke,
    /// The sender answers requests.
    Unchoke,
    /// The receiver has pieces that the sender wants.
    Interested,
    /// The receiver has no piece that the sender wants.
    NotInterested,
    /// The sender has the piece of this index now.
    Have(u32),
    /// The pieces that the sender has. A bitfield comes before the sender's first [`Self::Have`]. A sender without
    /// pieces can leave the bitfield out.
    Bitfield(PieceSet),
    /// Requests a block.
    Request(BlockRequest),
    /// Withdraws a request.
    Cancel(BlockRequest),
    /// A block: a part of a piece.
    Piece {
        /// The index of the piece.
        piece: u32,
        /// Where in the piece the data begin, in bytes.
        begin: u32,
        /// The data.
        data: Bytes,
    },
    /// A message of an extension (BEP 10).
    Extended {
        /// Which extension: the number that the receiver chose in its
        /// [`ExtensionHandshake`](super::ExtensionHandshake), or 0 for an extension handshake.
        id: u8,
        /// The bytes that the extension defines.
        payload: Bytes,
    },
}

/// A block that a peer requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRequest {
    /// The index of the piece.
    pub piece: u32,
    /// Where in the piece the block begins, in bytes.
    pub begin: u32,
    /// The length of the block in bytes.
    pub length: u32,
}

impl BlockRequest {
    /// Returns whether the request is for 1 to [`MAX_BLOCK`] bytes that are inside a piece of `piece_length` bytes.
    pub fn is_inside(&self, piece_length: u32) -> bool {
        let end = u64::from(self.begin) + u64::from(self.length);
        (1..=MAX_BLOCK).contains(&self.length) && end <= u64::from(piece_length)
    }

    /// Returns the head of the [`PeerMessage::Piece`] that answers this request. The data are not part of the head, so
    /// that the sender need not copy them. The data must have `length` bytes.
    pub fn piece_head(&self) -> [u8; PIECE_HEAD_LENGTH] {
        let mut head = [0; PIECE_HEAD_LENGTH];
        let mut out = &mut head[..];
        out.put_u32(self.length.saturating_add(9));
        out.put_u8(id::PIECE);
        out.put_u32(self.piece);
        out.put_u32(self.begin);
        head
    }
}

impl PeerMessage {
    /// Appends the length of the message and the message. Peers accept at most [`MAX_BLOCK`] bytes of data in a piece,
    /// and 32 KiB of payload in an extension message.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => put_head(out, id::CHOKE, 0),
            Self::Unchoke => put_head(out, id::UNCHOKE, 0),
            Self::Interested => put_head(out, id::INTERESTED, 0),
            Self::NotInterested => put_head(out, id::NOT_INTERESTED, 0),
            Self::Have(piece) => {
                put_head(out, id::HAVE, 4);
                out.put_u32(*piece);
            }
            Self::Bitfield(pieces) => {
                put_head(out, id::BITFIELD, pieces.as_bitfield().len());
                out.put_slice(pieces.as_bitfield());
            }
            Self::Request(request) => put_request(out, id::REQUEST, request),
            Self::Cancel(request) => put_request(out, id::CANCEL, request),
            Self::Piece { piece, begin, data } => {
                put_head(out, id::PIECE, 8 + data.len());
                out.put_u32(*piece);
                out.put_u32(*begin);
                out.put_slice(data);
            }
            Self::Extended { id, payload } => {
                put_head(out, id::EXTENDED, 1 + payload.len());
                out.put_u8(*id);
                out.put_slice(payload);
            }
        }
    }
}

/// Appends the length of a message, and its id. The message has `rest` bytes after the id.
fn put_head(out: &mut BytesMut, id: u8, rest: usize) {
    out.put_u32(u32::try_from(1 + rest).unwrap_or(u32::MAX));
    out.put_u8(id);
}

fn put_request(out: &mut BytesMut, id: u8, request: &BlockRequest) {
    put_head(out, id, 12);
    out.put_u32(request.piece);
    out.put_u32(request.begin);
    out.put_u32(request.length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(message: &PeerMessage) -> BytesMut {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn messages_have_the_bytes_of_bep_3_and_bep_10() {
        let request = BlockRequest { piece: 1, begin: 0x4000, length: 0x4000 };
        let pieces = PieceSet::from_bitfield(&[0xa0], 3).unwrap();
        let data = Bytes::from_static(b"data");
        let cases: [(PeerMessage, &[u8]); 11] = [
            (PeerMessage::KeepAlive, b"\0\0\0\0"),
            (PeerMessage::Choke, b"\0\0\0\x01\0"),
            (PeerMessage::Unchoke, b"\0\0\0\x01\x01"),
            (PeerMessage::Interested, b"\0\0\0\x01\x02"),
            (PeerMessage::NotInterested, b"\0\0\0\x01\x03"),
            (PeerMessage::Have(0x0102), b"\0\0\0\x05\x04\0\0\x01\x02"),
            (PeerMessage::Bitfield(pieces), b"\0\0\0\x02\x05\xa0"),
            (PeerMessage::Request(request), b"\0\0\0\x0d\x06\0\0\0\x01\0\0\x40\0\0\0\x40\0"),
            (PeerMessage::Piece { piece: 1, begin: 2, data }, b"\0\0\0\x0d\x07\0\0\0\x01\0\0\0\x02data"),
            (PeerMessage::Cancel(request), b"\0\0\0\x0d\x08\0\0\0\x01\0\0\x40\0\0\0\x40\0"),
            (PeerMessage::Extended { id: 0, payload: Bytes::from_static(b"de") }, b"\0\0\0\x04\x14\0de"),
        ];
        for (message, bytes) in cases {
            assert_eq!(&written(&message)[..], bytes, "{message:?}");
        }
    }

    #[test]
    fn a_request_is_for_bytes_inside_the_piece() {
        let inside = |begin, length| BlockRequest { piece: 0, begin, length }.is_inside(20_000);
        assert!(inside(0, MAX_BLOCK) && inside(19_999, 1) && inside(20_000 - MAX_BLOCK, MAX_BLOCK));
        assert!(!inside(0, 0) && !inside(20_000, 1) && !inside(20_001 - MAX_BLOCK, MAX_BLOCK));
        assert!(!inside(0, MAX_BLOCK + 1) && !inside(u32::MAX, 1) && !inside(1, u32::MAX));
    }

    proptest! {
        #[test]
        fn the_head_of_a_piece_is_what_stands_before_its_data(piece: u32, begin: u32, data: Vec<u8>) {
            let head = BlockRequest { piece, begin, length: u32::try_from(data.len()).unwrap() }.piece_head();
            let together = [&head[..], &data].concat();
            prop_assert_eq!(&written(&PeerMessage::Piece { piece, begin, data: data.into() })[..], together);
        }
    }
}
