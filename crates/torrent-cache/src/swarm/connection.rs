//! One connection: the handshakes, then messages until the connection ends.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::sockopt::set_socket_send_buffer_size;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracker_protocol::{InfoHash, PeerId};

use super::torrent::{PeerFault, SwarmTorrent};
use crate::peer_wire::{HANDSHAKE_LENGTH, NotAPeerHandshake, PeerHandshake, PeerMessageDecoder};

/// The time for a handshake, in each direction.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for opening a TCP connection. Hosts of one network answer within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that the system may buffer for sending. In a larger buffer, messages would wait behind many blocks.
const SEND_BUFFER: usize = 256 * 1024;
/// The room for one read, in bytes.
const READ: usize = 128 * 1024;

/// Why a connection has ended.
#[derive(Debug, Error)]
pub(super) enum ConnectionFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] NotAPeerHandshake),
    #[error("its handshake has an info-hash that this host did not ask for or does not have")]
    OtherTorrent,
    #[error(transparent)]
    Peer(#[from] PeerFault),
    #[error("it was silent for {0:?}")]
    Silent(Duration),
}

/// A connection after both handshakes.
pub(super) struct OpenLink {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) is_dialled: bool,
    /// The peer's handshake.
    pub(super) theirs: PeerHandshake,
    /// Bytes that were read after the handshake.
    pub(super) buffer: BytesMut,
}

/// Opens a connection and exchanges handshakes.
pub(super) async fn dial(address: SocketAddr, ours: InfoHash, id: PeerId) -> Result<OpenLink, ConnectionFault> {
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let mut stream = connecting.map_err(|_| ConnectionFault::Silent(CONNECT_TIMEOUT))??;
    prepare(&stream)?;
    greet(&mut stream, ours, id).await?;
    let (theirs, buffer) = read_handshake(&mut stream).await?;
    if theirs.info_hash != ours {
        return Err(ConnectionFault::OtherTorrent);
    }
    Ok(OpenLink { stream, address, is_dialled: true, theirs, buffer })
}

/// Reads the handshake of a host that has connected. The caller answers with [`greet`] if this host has the torrent.
pub(super) async fn accept(mut stream: TcpStream, address: SocketAddr) -> Result<OpenLink, ConnectionFault> {
    prepare(&stream)?;
    let (theirs, buffer) = read_handshake(&mut stream).await?;
    Ok(OpenLink { stream, address, is_dialled: false, theirs, buffer })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    Ok(set_socket_send_buffer_size(stream, SEND_BUFFER)?)
}

/// Sends our handshake.
pub(super) async fn greet(stream: &mut TcpStream, info_hash: InfoHash, peer_id: PeerId) -> io::Result<()> {
    let mut out = BytesMut::with_capacity(HANDSHAKE_LENGTH);
    PeerHandshake { info_hash, peer_id, extensions: true }.encode(&mut out);
    timeout(HANDSHAKE_TIMEOUT, stream.write_all(&out)).await?
}

async fn read_handshake(stream: &mut TcpStream) -> Result<(PeerHandshake, BytesMut), ConnectionFault> {
    let read = async {
        let mut buffer = BytesMut::with_capacity(READ);
        loop {
            if let Some(handshake) = PeerHandshake::decode(&mut buffer)? {
                return Ok((handshake, buffer));
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    };
    timeout(HANDSHAKE_TIMEOUT, read).await.map_err(|_| ConnectionFault::Silent(HANDSHAKE_TIMEOUT))?
}

/// Exchanges messages until the connection ends.
pub(super) async fn run(torrent: &Rc<SwarmTorrent>, link: OpenLink) -> Result<(), ConnectionFault> {
    let OpenLink { stream, address, is_dialled, theirs, mut buffer } = link;
    let (number, out) = torrent.join(theirs.peer_id, address, is_dialled, theirs.extensions)?;
    let joined = JoinedPeer { torrent, number };
    let (mut reading, writing) = stream.into_split();
    let decoder = PeerMessageDecoder::new(torrent.content.shape().count);
    let receive = async {
        loop {
            while let Some(message) = decoder.decode(&mut buffer).map_err(PeerFault::from)? {
                torrent.receive(joined.number, message)?;
            }
            buffer.reserve(READ);
            if reading.read_buf(&mut buffer).await? == 0 {
                return Ok::<_, ConnectionFault>(());
            }
        }
    };
    tokio::select! {
        received = receive => received,
        sent = out.run(writing, &torrent.content, torrent.counters()) => Ok(sent?),
    }
}

/// A connected peer. Dropping this value removes the peer from its torrent.
struct JoinedPeer<'a> {
    torrent: &'a SwarmTorrent,
    number: u64,
}

impl Drop for JoinedPeer<'_> {
    fn drop(&mut self) {
        self.torrent.leave(self.number);
    }
}
