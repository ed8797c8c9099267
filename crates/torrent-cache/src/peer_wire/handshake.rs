//! The first 68 bytes of a connection, in each direction (BEP 3).

use bytes::{Buf, BytesMut};
use thiserror::Error;
use tracker_protocol::{InfoHash, PeerId};

/// The bytes of a handshake.
pub const HANDSHAKE_LENGTH: usize = 68;

/// The length of the protocol's name, and the name.
const PROTOCOL: [u8; 20] = *b"\x13BitTorrent protocol";

/// The bit that offers extension messages (BEP 10), in the last four of the eight reserved bytes.
const EXTENSION_BIT: u32 = 0x10_0000;

/// The first bytes that a peer sends. The accepting peer learns from them which torrent the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHandshake {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The peer id of the sender.
    pub peer_id: PeerId,
    /// Whether the sender understands extension messages (BEP 10).
    pub extensions: bool,
}

/// The bytes do not begin with the name of the protocol, so the rest cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection does not begin with BitTorrent's handshake; the peer encrypts, or speaks another protocol")]
pub struct NotAPeerHandshake;

impl PeerHandshake {
    /// Takes a handshake from the beginning of `buffer`. Returns `None`, and takes nothing, if more bytes are needed.
    ///
    /// # Errors
    /// The bytes are no handshake. The first wrong byte is an error at once, even if the other bytes have not come.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, NotAPeerHandshake> {
        if PROTOCOL.iter().zip(buffer.iter()).any(|(expected, found)| expected != found) {
            return Err(NotAPeerHandshake);
        }
        let Some(handshake) = Self::read(buffer) else { return Ok(None) };
        buffer.advance(HANDSHAKE_LENGTH);
        Ok(Some(handshake))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (_protocol, rest) = bytes.split_first_chunk::<20>()?;
        let (_reserved, rest) = rest.split_first_chunk::<4>()?;
        let (reserved, rest) = rest.split_first_chunk::<4>()?;
        let (info_hash, rest) = rest.split_first_chunk::<20>()?;
        let peer_id = rest.first_chunk::<20>()?;
        let extensions = u32::from_be_bytes(*reserved) & EXTENSION_BIT != 0;
        Some(Self { info_hash: InfoHash(*info_hash), peer_id: PeerId(*peer_id), extensions })
    }

    /// Appends the handshake. No reserved bit is set, except the bit for extension messages.
    pub fn encode(&self, out: &mut BytesMut) {
        let reserved = if self.extensions { EXTENSION_BIT } else { 0 };
        out.extend_from_slice(&PROTOCOL);
        out.extend_from_slice(&u64::from(reserved).to_be_bytes());
        out.extend_from_slice(&self.info_hash.0);
        out.extend_from_slice(&self.peer_id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A handshake of libtorrent, which sets the bits for the DHT, the Fast extension and extension messages.
    const LIBTORRENT: &[u8; 68] =
        b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05aaaaaaaaaaaaaaaaaaaa-qB4500-bbbbbbbbbbbb";

    fn written(handshake: &PeerHandshake) -> BytesMut {
        let mut out = BytesMut::new();
        handshake.encode(&mut out);
        out
    }

    #[test]
    fn a_handshake_has_the_bytes_of_bep_3() {
        let mut buffer = BytesMut::from(&LIBTORRENT[..]);
        let read = PeerHandshake::decode(&mut buffer).unwrap().unwrap();
        let expected = PeerHandshake {
            info_hash: InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"),
            peer_id: PeerId(*b"-qB4500-bbbbbbbbbbbb"),
            extensions: true,
        };
        assert_eq!(read, expected);
        let mut ours = *LIBTORRENT;
        ours[27] = 0;
        assert_eq!(&written(&expected)[..], ours);
        ours[25] = 0;
        assert_eq!(&written(&PeerHandshake { extensions: false, ..expected })[..], ours);
    }

    #[test]
    fn the_first_wrong_byte_is_an_error_at_once() {
        for bytes in [&b"\x12"[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"\x13BitTorrent protocoL", b"\x13bit"] {
            assert_eq!(PeerHandshake::decode(&mut bytes.into()), Err(NotAPeerHandshake), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_handshake_is_read_as_it_was_written(
            info_hash: [u8; 20], peer_id: [u8; 20], extensions: bool, split in 0..HANDSHAKE_LENGTH, after: Vec<u8>,
        ) {
            let handshake = PeerHandshake { info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), extensions };
            let bytes = written(&handshake);
            prop_assert_eq!(bytes.len(), HANDSHAKE_LENGTH);
            let mut buffer = BytesMut::from(&bytes[..split]);
            prop_assert_eq!(PeerHandshake::decode(&mut buffer), Ok(None));
            buffer.extend_from_slice(&bytes[split..]);
            buffer.extend_from_slice(&after);
            prop_assert_eq!(PeerHandshake::decode(&mut buffer), Ok(Some(handshake)));
            prop_assert_eq!(&buffer[..], after);
        }

        #[test]
        fn any_bytes_are_a_handshake_or_an_error_or_too_few(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for bytes in [bytes.clone(), [&PROTOCOL[..], &bytes].concat()] {
                match PeerHandshake::decode(&mut bytes[..].into()) {
                    Ok(Some(_)) => prop_assert!(bytes.len() >= HANDSHAKE_LENGTH && bytes.starts_with(&PROTOCOL)),
                    Ok(None) => prop_assert!(bytes.len() < HANDSHAKE_LENGTH),
                    Err(NotAPeerHandshake) => prop_assert!(!bytes.starts_with(&PROTOCOL)),
                }
            }
        }
    }
}
