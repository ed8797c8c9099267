//! BitTorrent between two peers over TCP (BEP 3) with extension messages (BEP 10), without I/O.
//!
//! A connection begins with a [`PeerHandshake`] in each direction. Then each side sends [`PeerMessage`]s. If both
//! handshakes offer extensions, each side also sends an [`ExtensionHandshake`] early, although some clients send their
//! bitfield first. The extension handshake says whether the peer reads [`PieceHashes`], the extension by which hosts
//! share a blob before its torrent file exists.

mod decoder;
mod extension;
mod handshake;
mod message;
mod piece_hashes;
mod piece_set;

pub use self::decoder::{PeerMessageDecoder, PeerMessageFault};
pub use self::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake, NotAnExtensionHandshake};
pub use self::handshake::{HANDSHAKE_LENGTH, NotAPeerHandshake, PeerHandshake};
pub use self::message::{BlockRequest, MAX_BLOCK, PIECE_HEAD_LENGTH, PeerMessage};
pub use self::piece_hashes::{MAX_PIECE_HASHES, NotPieceHashes, PieceHashes};
pub use self::piece_set::{BitfieldFault, PieceSet};
