//! The first message of a connection with extensions (BEP 10): which extensions its sender understands, and the id that
//! it chose for each.

use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use bytes::Bytes;
use thiserror::Error;
use tracker_protocol::bencode::{BencodeError, Reader, Value, put_bytes, put_pair};

/// The id of the extension handshake itself in [`PeerMessage::Extended`](super::PeerMessage::Extended).
pub const EXTENSION_HANDSHAKE_ID: u8 = 0;

/// The name of the extension whose messages are [`PieceHashes`](super::PieceHashes).
const PIECE_HASHES_NAME: &[u8] = b"retracker_hash";

/// The most characters of a client's name that are kept.
const MAX_CLIENT: usize = 64;

/// What a peer says of itself. A value is `None` if it is missing or makes no sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// The id that the peer chose for [`PieceHashes`](super::PieceHashes) that are sent to it (`m`). `None` if the peer
    /// does not read them.
    pub piece_hashes: Option<NonZeroU8>,
    /// The port on which the peer accepts connections (`p`).
    pub port: Option<NonZeroU16>,
    /// How many requests the peer keeps while they wait for an answer (`reqq`).
    pub request_queue: Option<NonZeroU32>,
    /// The name and version of the peer's program (`v`): at most 64 characters without control characters.
    pub client: Option<String>,
}

/// Why a payload is no extension handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAnExtensionHandshake {
    /// It is not bencode.
    #[error("an extension handshake cannot be read: {0}")]
    Bencode(#[from] BencodeError),
    /// It is bencode, but not a dictionary.
    #[error("an extension handshake is not a dictionary")]
    NotADictionary,
}

impl ExtensionHandshake {
    /// Reads a payload. Unknown keys and values of a wrong type are ignored, because BEP 10 demands it.
    ///
    /// # Errors
    /// The payload is not a bencoded dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, NotAnExtensionHandshake> {
        let mut reader = Reader::new(payload);
        let Value::Dict = reader.value()? else { return Err(NotAnExtensionHandshake::NotADictionary) };
        let mut handshake = Self::default();
        while let Some(key) = reader.key()? {
            match (key, reader.value()?) {
                (b"m", Value::Dict) => handshake.piece_hashes = piece_hashes_id(&mut reader)?,
                (b"p", Value::Int(port)) => handshake.port = u16::try_from(port).ok().and_then(NonZeroU16::new),
                (b"reqq", Value::Int(count)) => {
                    handshake.request_queue = u32::try_from(count).ok().and_then(NonZeroU32::new);
                }
                (b"v", Value::Bytes(name)) => handshake.client = client(name),
                (_, other) => reader.skip(other)?,
            }
        }
        Ok(handshake)
    }

    /// Returns the payload, with sorted keys.
    pub fn encode(&self) -> Bytes {
        let mut out = b"d1:md".to_vec();
        if let Some(id) = self.piece_hashes {
            put_bytes(&mut out, PIECE_HASHES_NAME);
            put_pair(&mut out, b"", id.get().into());
        }
        out.push(b'e');
        if let Some(port) = self.port {
            put_pair(&mut out, b"1:p", port.get().into());
        }
        if let Some(count) = self.request_queue {
            put_pair(&mut out, b"4:reqq", count.get());
        }
        if let Some(name) = &self.client {
            out.extend_from_slice(b"1:v");
            put_bytes(&mut out, name.as_bytes());
        }
        out.push(b'e');
        out.into()
    }
}

/// Reads the entries of `m`. The id 0 means that the peer has switched an extension off (BEP 10).
fn piece_hashes_id(reader: &mut Reader<'_>) -> Result<Option<NonZeroU8>, BencodeError> {
    let mut found = None;
    while let Some(name) = reader.key()? {
        match (name, reader.value()?) {
            (PIECE_HASHES_NAME, Value::Int(id)) => found = u8::try_from(id).ok().and_then(NonZeroU8::new),
            (_, other) => reader.skip(other)?,
        }
    }
    Ok(found)
}

/// Returns the name as text that can be logged.
fn client(name: &[u8]) -> Option<String> {
    let name = String::from_utf8_lossy(name);
    let name: String = name.chars().filter(|character| !character.is_control()).take(MAX_CLIENT).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_payload_is_a_canonical_dictionary() {
        let handshake = ExtensionHandshake {
            piece_hashes: NonZeroU8::new(1),
            port: NonZeroU16::new(6881),
            request_queue: NonZeroU32::new(250),
            client: Some("torrent-cache 0.1.0".to_owned()),
        };
        let bytes = b"d1:md14:retracker_hashi1ee1:pi6881e4:reqqi250e1:v19:torrent-cache 0.1.0e";
        assert_eq!(&handshake.encode()[..], bytes);
        assert_eq!(ExtensionHandshake::decode(bytes), Ok(handshake));
        assert_eq!(&ExtensionHandshake::default().encode()[..], b"d1:mdee");
    }

    #[test]
    fn the_handshakes_of_other_clients_are_read() {
        // An extension handshake of libtorrent.
        let libtorrent = b"d12:complete_agoi-1e1:md11:lt_donthavei7e10:share_modei8e11:upload_onlyi3e12:ut_holepunchi4e\
            11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei132e4:reqqi500e11:upload_onlyi1e1:v17:qBittorrent/4.5.26:yourip\
            4:\x0a\0\0\x01e";
        let expected = ExtensionHandshake {
            request_queue: NonZeroU32::new(500),
            client: Some("qBittorrent/4.5.2".to_owned()),
            ..ExtensionHandshake::default()
        };
        assert_eq!(ExtensionHandshake::decode(libtorrent), Ok(expected));
        let unsorted = b"d1:v3:old1:pi6881e1:md6:ut_pexi1e14:retracker_hashi9ee1:v3:newe";
        let expected = ExtensionHandshake {
            piece_hashes: NonZeroU8::new(9),
            port: NonZeroU16::new(6881),
            client: Some("new".to_owned()),
            ..ExtensionHandshake::default()
        };
        assert_eq!(ExtensionHandshake::decode(unsorted), Ok(expected));
    }

    #[test]
    fn values_that_make_no_sense_are_ignored() {
        for payload in [
            &b"de"[..],
            b"d1:m4:text1:pi0e4:reqqi0e1:v0:e",
            b"d1:md14:retracker_hashi0ee1:pi65536e4:reqqi-1e1:vi4ee",
            b"d1:md14:retracker_hashi256eee",
            b"d1:md14:retracker_hashl1:aeee",
            b"d1:pli1ee4:reqqd1:ai1eee",
        ] {
            assert_eq!(ExtensionHandshake::decode(payload), Ok(ExtensionHandshake::default()), "{payload:?}");
        }
    }

    #[test]
    fn a_name_is_short_and_fit_for_a_log() {
        let name = |bytes: &[u8]| {
            let payload = [format!("d1:v{}:", bytes.len()).as_bytes(), bytes, b"e"].concat();
            ExtensionHandshake::decode(&payload).unwrap().client.unwrap_or_default()
        };
        assert_eq!(name(b"a\r\n[INFO] b\x1b"), "a[INFO] b");
        assert_eq!(name("µTorrent 3.5".as_bytes()), "µTorrent 3.5");
        assert_eq!(name(b"\xb5Torrent"), "\u{fffd}Torrent");
        assert_eq!(name(&[b'x'; 1000]), "x".repeat(64));
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for payload in [&b"le"[..], b"i1e", b"1:a"] {
            assert_eq!(ExtensionHandshake::decode(payload), Err(NotAnExtensionHandshake::NotADictionary));
        }
        for payload in [&b""[..], b"d", b"d1:md", b"d1:vi1ee1:v", b"di1ei1ee"] {
            let read = ExtensionHandshake::decode(payload);
            assert_eq!(read.is_ok(), payload == b"d1:vi1ee1:v", "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn a_handshake_is_read_as_it_was_written(
            (piece_hashes, port, request_queue) in any::<(Option<NonZeroU8>, Option<NonZeroU16>, Option<NonZeroU32>)>(),
            client in prop::option::of("[^\\p{Cc}]{1,64}"),
        ) {
            let handshake = ExtensionHandshake { piece_hashes, port, request_queue, client };
            prop_assert_eq!(ExtensionHandshake::decode(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn no_payload_panics(payload: Vec<u8>) {
            let _ = ExtensionHandshake::decode(&payload);
            let _ = ExtensionHandshake::decode(&[b"d1:md14:retracker_hash", &payload[..], b"ee"].concat());
        }
    }
}
