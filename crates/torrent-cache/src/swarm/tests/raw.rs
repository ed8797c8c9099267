//! A peer whose bytes the test writes itself, in any order.

use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::peer_wire::{
    BlockRequest, EXTENSION_HANDSHAKE_ID, ExtensionHandshake, HANDSHAKE_LENGTH, PeerHandshake, PeerMessage,
    PeerMessageDecoder, PieceHashes, PieceSet,
};

/// The byte that fills the peer id of the host with all pieces.
pub(super) const SEED_ID: u8 = 1;

/// A connection to a host, from an address of its own.
pub(super) struct RawPeer {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: PeerMessageDecoder,
}

/// The host has ended the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended;

impl RawPeer {
    /// Connects from 127.0.1.`number`.
    pub(super) async fn connect(number: u8, to: SocketAddr, pieces: u32) -> Result<Self, Ended> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 1, number), 0).into()).unwrap();
        let stream = socket.connect(to).await.map_err(|_| Ended)?;
        Ok(Self { stream, buffer: BytesMut::new(), decoder: PeerMessageDecoder::new(pieces) })
    }

    /// Connects and exchanges handshakes, with this peer id.
    pub(super) async fn greet(number: u8, to: SocketAddr, pieces: u32, id: PeerId) -> Result<Self, Ended> {
        let mut peer = Self::connect(number, to, pieces).await?;
        peer.send(&handshake(INFO_HASH, id)).await?;
        while peer.buffer.len() < HANDSHAKE_LENGTH {
            peer.read().await?;
        }
        let theirs = PeerHandshake::decode(&mut peer.buffer).unwrap().unwrap();
        assert_eq!(theirs.info_hash, INFO_HASH);
        Ok(peer)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.stream.write_all(bytes).await.map_err(|_| Ended)
    }

    pub(super) async fn say(&mut self, message: &PeerMessage) -> Result<(), Ended> {
        self.send(&written(message)).await
    }

    /// Sends the same bytes until the host ends the connection. Reads and ignores the messages of the host.
    pub(super) async fn flood(&mut self, bytes: &[u8]) -> Ended {
        let many = bytes.repeat((64 * 1024 / bytes.len()).max(1));
        let (mut reading, mut writing) = self.stream.split();
        let write = async { while writing.write_all(&many).await.is_ok() {} };
        let read = async {
            let mut sink = vec![0; 64 * 1024];
            while reading.read(&mut sink).await.is_ok_and(|length| length > 0) {}
        };
        tokio::select! { () = write => {}, () = read => {} }
        Ended
    }

    pub(super) async fn next(&mut self) -> Result<PeerMessage, Ended> {
        loop {
            if let Some(message) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// Returns the next request of the host.
    pub(super) async fn asked(&mut self) -> Result<BlockRequest, Ended> {
        loop {
            if let PeerMessage::Request(block) = self.next().await? {
                return Ok(block);
            }
        }
    }

    /// Waits until the host ends the connection.
    pub(super) async fn ended(&mut self) -> Ended {
        while self.read().await.is_ok() {
            self.buffer.clear();
        }
        Ended
    }

    async fn read(&mut self) -> Result<(), Ended> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Ended),
            Ok(_) => Ok(()),
        }
    }
}

pub(super) fn handshake(info_hash: InfoHash, peer_id: PeerId) -> BytesMut {
    let mut out = BytesMut::new();
    PeerHandshake { info_hash, peer_id, extensions: true }.encode(&mut out);
    out
}

pub(super) fn written(message: &PeerMessage) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out
}

/// Returns a bitfield with all pieces.
pub(super) fn everything(pieces: u32) -> PeerMessage {
    PeerMessage::Bitfield(PieceSet::full(pieces))
}

/// Returns a block of wrong bytes.
pub(super) fn wrong(block: BlockRequest) -> PeerMessage {
    PeerMessage::Piece { piece: block.piece, begin: block.begin, data: vec![0xbd; block.length as usize].into() }
}

/// Returns an extension handshake that says that the peer reads piece hashes.
pub(super) fn extensions() -> PeerMessage {
    let handshake = ExtensionHandshake {
        piece_hashes: std::num::NonZeroU8::new(1),
        port: std::num::NonZeroU16::new(6881),
        ..ExtensionHandshake::default()
    };
    PeerMessage::Extended { id: EXTENSION_HANDSHAKE_ID, payload: handshake.encode() }
}

/// Returns a message with wrong hashes of all pieces.
pub(super) fn wrong_hashes(pieces: u32) -> PeerMessage {
    let hashes: Vec<PieceHash> = vec![Sha1::digest(vec![0xbd; SMALL as usize]).into(); pieces as usize];
    told(&hashes)
}

/// Returns a message with these piece hashes, from the first piece on.
pub(super) fn told(hashes: &[PieceHash]) -> PeerMessage {
    let payload = PieceHashes::split(0, hashes).next().unwrap().encode();
    PeerMessage::Extended { id: 1, payload }
}

pub(super) fn block(piece: u32, length: u32) -> BlockRequest {
    BlockRequest { piece, begin: 0, length }
}

pub(super) fn count(blob: &[u8]) -> u32 {
    shape(blob).count
}

pub(super) async fn no_peer_is_left(membership: &SwarmMembership) {
    let mut status = membership.status();
    timeout(DEADLINE, status.wait_for(|status| status.peers == 0)).await.expect("all connections end").unwrap();
}
