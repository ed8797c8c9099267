//! Reads messages from bytes as they arrive.

use std::ops::RangeInclusive;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::message::{BlockRequest, PeerMessage, id};
use super::piece_set::{BitfieldFault, PieceSet};

/// The most bytes of a message after its length: a piece with 32 KiB of data. Only a bitfield can be longer, in a
/// torrent with many pieces.
const MAX_LENGTH: u32 = 32 * 1024 + 9;

/// Reads the messages of a peer about one torrent.
#[derive(Clone, Copy, Debug)]
pub struct PeerMessageDecoder {
    pieces: u32,
}

/// How a peer broke the protocol. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeerMessageFault {
    /// A message is longer than any message about this torrent can be.
    #[error("a message has {length} bytes, more than any message about this torrent can have")]
    TooLong {
        /// The bytes of the message after its length.
        length: u32,
    },
    /// A message has more or fewer bytes than a message of its kind has.
    #[error("a message of kind {id} has {length} bytes, expected {fewest} to {most}")]
    WrongLength {
        /// The kind of the message (BEP 3).
        id: u8,
        /// The bytes of the message after its length.
        length: u32,
        /// The fewest bytes that a message of this kind has.
        fewest: u32,
        /// The most bytes that a message of this kind has.
        most: u32,
    },
    /// A message is about a piece that the torrent does not have.
    #[error("a message is about piece {piece}, but the torrent has {pieces} pieces")]
    NoSuchPiece {
        /// The index of the piece.
        piece: u32,
        /// How many pieces the torrent has.
        pieces: u32,
    },
    /// A bitfield is wrong.
    #[error(transparent)]
    Bitfield(#[from] BitfieldFault),
}

impl PeerMessageDecoder {
    /// Makes a decoder of messages about a torrent with this many pieces.
    pub fn new(pieces: u32) -> Self {
        Self { pieces }
    }

    /// Takes the next message from the beginning of `buffer`. Returns `None` if more bytes are needed. The data of a
    /// piece and the payload of an extension message are not copied, but share the memory of the buffer.
    ///
    /// Messages of an unknown kind are skipped, because clients send some that the handshake has not offered: the port
    /// of the DHT (BEP 5), the Fast extension (BEP 6).
    ///
    /// # Errors
    /// A message breaks the protocol. A wrong length is an error as soon as the length and the kind have come, so
    /// `buffer` needs room for one message only. After an error the rest of `buffer` means nothing.
    pub fn decode(self, buffer: &mut BytesMut) -> Result<Option<PeerMessage>, PeerMessageFault> {
        while let Some(message) = self.take(buffer)? {
            if let Some(message) = self.read(message)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Takes the next message and checks its length. Returns the bytes after the length.
    fn take(self, buffer: &mut BytesMut) -> Result<Option<Bytes>, PeerMessageFault> {
        let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix);
        if length > MAX_LENGTH.max(self.bitfield_length()) {
            return Err(PeerMessageFault::TooLong { length });
        }
        if length > 0 {
            let Some(&id) = buffer.get(4) else { return Ok(None) };
            if !self.lengths(id).contains(&length) {
                return Err(self.wrong_length(id, length));
            }
        }
        let end = 4 + length as usize;
        if buffer.len() < end {
            return Ok(None);
        }
        let mut message = buffer.split_to(end).freeze();
        message.advance(4);
        Ok(Some(message))
    }

    /// Reads the bytes of a message after its length. Returns `None` if the kind is unknown.
    fn read(self, message: Bytes) -> Result<Option<PeerMessage>, PeerMessageFault> {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut rest = message;
        let Ok(id) = rest.try_get_u8() else { return Ok(Some(PeerMessage::KeepAlive)) };
        let number = |rest: &mut Bytes| rest.try_get_u32().map_err(|_| self.wrong_length(id, length));
        let piece = |rest: &mut Bytes| self.known(number(rest)?);
        Ok(Some(match id {
            id::CHOKE => PeerMessage::Choke,
            id::UNCHOKE => PeerMessage::Unchoke,
            id::INTERESTED => PeerMessage::Interested,
            id::NOT_INTERESTED => PeerMessage::NotInterested,
            id::HAVE => PeerMessage::Have(piece(&mut rest)?),
            id::BITFIELD => PeerMessage::Bitfield(PieceSet::from_bitfield(&rest, self.pieces)?),
            id::REQUEST | id::CANCEL => {
                let request =
                    BlockRequest { piece: piece(&mut rest)?, begin: number(&mut rest)?, length: number(&mut rest)? };
                if id == id::REQUEST { PeerMessage::Request(request) } else { PeerMessage::Cancel(request) }
            }
            id::PIECE => {
                let (piece, begin) = (piece(&mut rest)?, number(&mut rest)?);
                PeerMessage::Piece { piece, begin, data: rest }
            }
            id::EXTENDED => {
                let id = rest.try_get_u8().map_err(|_| self.wrong_length(id, length))?;
                PeerMessage::Extended { id, payload: rest }
            }
            _ => return Ok(None),
        }))
    }

    fn known(self, piece: u32) -> Result<u32, PeerMessageFault> {
        let pieces = self.pieces;
        if piece < pieces { Ok(piece) } else { Err(PeerMessageFault::NoSuchPiece { piece, pieces }) }
    }

    fn wrong_length(self, id: u8, length: u32) -> PeerMessageFault {
        let (fewest, most) = self.lengths(id).into_inner();
        PeerMessageFault::WrongLength { id, length, fewest, most }
    }

    /// Returns the bytes of a bitfield message after its length.
    fn bitfield_length(self) -> u32 {
        1 + self.pieces.div_ceil(8)
    }

    /// Returns how many bytes a message of this kind has after its length.
    fn lengths(self, id: u8) -> RangeInclusive<u32> {
        match id {
            id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED => 1..=1,
            id::HAVE => 5..=5,
            id::BITFIELD => self.bitfield_length()..=self.bitfield_length(),
            id::REQUEST | id::CANCEL => 13..=13,
            id::PIECE => 9..=MAX_LENGTH,
            id::EXTENDED => 2..=MAX_LENGTH,
            _ => 1..=MAX_LENGTH,
        }
    }
}

#[cfg(test)]
mod tests;
