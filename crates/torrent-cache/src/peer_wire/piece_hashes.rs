//! The message by which a host that fetches a blob sends piece hashes to other hosts: our extension `retracker_hash`.
//! Its payload is the bencoded dictionary `{"first": index of a piece, "hashes": SHA-1s from this piece on}`.

use bytes::Bytes;
use thiserror::Error;
use tracker_protocol::bencode::{BencodeError, Reader, Value, put_bytes, put_pair};

/// The most hashes in one message: 20 KB.
pub const MAX_PIECE_HASHES: usize = 1000;

/// The SHA-1s of 1 to [`MAX_PIECE_HASHES`] consecutive pieces. The index of the last piece is below 2³².
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceHashes {
    first: u32,
    hashes: Vec<[u8; 20]>,
}

/// Why a payload holds no piece hashes for this torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotPieceHashes {
    /// It is not bencode.
    #[error("a message with piece hashes cannot be read: {0}")]
    Bencode(#[from] BencodeError),
    /// It is not exactly one dictionary.
    #[error("a message with piece hashes is not one dictionary")]
    NotADictionary,
    /// `first` is missing, or is not the index of a piece of the torrent.
    #[error("\"first\" in a message with piece hashes is missing, or is no index of a piece")]
    WrongFirst,
    /// `hashes` is missing, or has a wrong length.
    #[error(
        "\"hashes\" in a message with piece hashes is missing, or is not 1 to {MAX_PIECE_HASHES} hashes of existing pieces"
    )]
    WrongHashes,
}

impl PieceHashes {
    /// Makes the messages for the hashes of consecutive pieces. `first` is the index of the first piece. Hashes for an
    /// index of 2³² or more are left out.
    pub fn split(first: u32, hashes: &[[u8; 20]]) -> impl Iterator<Item = Self> + '_ {
        let starts = (first..=u32::MAX).step_by(MAX_PIECE_HASHES);
        starts.zip(hashes.chunks(MAX_PIECE_HASHES)).map(|(first, hashes)| {
            let room = (u32::MAX - first) as usize;
            Self { first, hashes: hashes.iter().take(room.saturating_add(1)).copied().collect() }
        })
    }

    /// Reads a payload about a torrent with this many pieces. Unknown keys are ignored.
    ///
    /// # Errors
    /// The payload is not a dictionary with both keys, or a hash belongs to no piece.
    pub fn decode(payload: &[u8], pieces: u32) -> Result<Self, NotPieceHashes> {
        let mut reader = Reader::new(payload);
        let Value::Dict = reader.value()? else { return Err(NotPieceHashes::NotADictionary) };
        let (mut first, mut hashes) = (None, None);
        while let Some(key) = reader.key()? {
            match (key, reader.value()?) {
                (b"first", Value::Int(index)) => first = u32::try_from(index).ok(),
                (b"hashes", Value::Bytes(bytes)) => hashes = Some(bytes.as_chunks::<20>()),
                (_, other) => reader.skip(other)?,
            }
        }
        if !reader.rest().is_empty() {
            return Err(NotPieceHashes::NotADictionary);
        }
        let first = first.filter(|&first| first < pieces).ok_or(NotPieceHashes::WrongFirst)?;
        let most = MAX_PIECE_HASHES.min((pieces - first) as usize);
        match hashes {
            Some((hashes, [])) if (1..=most).contains(&hashes.len()) => Ok(Self { first, hashes: hashes.to_vec() }),
            _ => Err(NotPieceHashes::WrongHashes),
        }
    }

    /// Returns the payload, with sorted keys.
    pub fn encode(&self) -> Bytes {
        let mut out = b"d".to_vec();
        put_pair(&mut out, b"5:first", self.first);
        out.extend_from_slice(b"6:hashes");
        put_bytes(&mut out, self.hashes.as_flattened());
        out.push(b'e');
        out.into()
    }

    /// Returns each hash with the index of its piece, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, [u8; 20])> + '_ {
        (self.first..=u32::MAX).zip(self.hashes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(byte: u8) -> [u8; 20] {
        [byte; 20]
    }

    #[test]
    fn the_payload_is_a_canonical_dictionary() {
        let messages: Vec<_> = PieceHashes::split(7, &[hash(b'a'), hash(b'b')]).collect();
        let [message] = &messages[..] else { panic!("{messages:?}") };
        let bytes = b"d5:firsti7e6:hashes40:aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbe";
        assert_eq!(&message.encode()[..], bytes);
        assert_eq!(PieceHashes::decode(bytes, 9).as_ref(), Ok(message));
        assert_eq!(message.iter().collect::<Vec<_>>(), [(7, hash(b'a')), (8, hash(b'b'))]);
    }

    #[test]
    fn other_keys_are_ignored_in_any_order() {
        let bytes = b"d6:hashes20:aaaaaaaaaaaaaaaaaaaa4:morel4:liste5:firsti0ee";
        assert_eq!(PieceHashes::decode(bytes, 1).unwrap().iter().collect::<Vec<_>>(), [(0, hash(b'a'))]);
    }

    #[test]
    fn hashes_without_a_piece_are_refused() {
        let read = |first: &str, hashes: usize, pieces| {
            let head = format!("d5:first{first}6:hashes{hashes}:");
            PieceHashes::decode(&[head.as_bytes(), &vec![0; hashes], b"e"].concat(), pieces).map(|_| ())
        };
        assert_eq!(read("i0e", 20_000, 1000), Ok(()));
        assert_eq!(read("i4294967294e", 20, u32::MAX), Ok(()));
        for first in ["i5e", "i-1e", "i4294967296e", "1:0", "le"] {
            assert_eq!(read(first, 20, 5), Err(NotPieceHashes::WrongFirst), "{first}");
        }
        for (hashes, pieces) in [(0, 5), (19, 5), (21, 5), (120, 5), (20_020, 2000)] {
            assert_eq!(read("i0e", hashes, pieces), Err(NotPieceHashes::WrongHashes), "{hashes}");
        }
        assert_eq!(read("i4e", 40, 5), Err(NotPieceHashes::WrongHashes));
        for (bytes, fault) in [
            (&b"de"[..], NotPieceHashes::WrongFirst),
            (b"d5:firsti0ee", NotPieceHashes::WrongHashes),
            (b"le", NotPieceHashes::NotADictionary),
            (b"dei1e", NotPieceHashes::NotADictionary),
            (b"", NotPieceHashes::Bencode(BencodeError::EndsEarly)),
            (b"d5:firsti0e6:hashes20:a", NotPieceHashes::Bencode(BencodeError::EndsEarly)),
        ] {
            assert_eq!(PieceHashes::decode(bytes, 5), Err(fault), "{bytes:?}");
        }
    }

    #[test]
    fn no_index_is_beyond_32_bits() {
        let messages: Vec<_> = PieceHashes::split(u32::MAX - 1, &[hash(1), hash(2), hash(3)]).collect();
        let hashes: Vec<_> = messages.iter().flat_map(PieceHashes::iter).collect();
        assert_eq!(hashes, [(u32::MAX - 1, hash(1)), (u32::MAX, hash(2))]);
    }

    proptest! {
        #[test]
        fn any_number_of_hashes_arrives(first in 0_u32..5, count in 0_usize..2500) {
            let hashes: Vec<_> = (0..count).map(|index| hash(u8::try_from(index % 251).unwrap())).collect();
            let pieces = first + u32::try_from(count).unwrap();
            let mut arrived = Vec::new();
            for message in PieceHashes::split(first, &hashes) {
                let payload = message.encode();
                prop_assert!(payload.len() <= MAX_PIECE_HASHES * 20 + 40);
                let read = PieceHashes::decode(&payload, pieces);
                prop_assert_eq!(read.as_ref(), Ok(&message));
                arrived.extend(message.iter());
            }
            prop_assert_eq!(arrived, (first..).zip(hashes).collect::<Vec<_>>());
        }

        #[test]
        fn no_payload_panics(payload: Vec<u8>, pieces: u32) {
            let _ = PieceHashes::decode(&payload, pieces);
            let _ = PieceHashes::decode(&[b"d5:firsti0e6:hashes", &payload[..], b"e"].concat(), pieces);
        }
    }
}
