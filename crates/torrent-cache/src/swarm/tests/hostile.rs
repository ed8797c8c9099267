//! Peers that lie, flood, stand still or break the protocol. Each has an address of its own, because the swarm tells
//! hosts apart by their addresses.

use std::future::pending;

use tokio::task::JoinSet;

use super::raw::{
    Ended, RawPeer, SEED_ID, block, count, everything, extensions, handshake, no_peer_is_left, written, wrong,
    wrong_hashes,
};
use super::*;
use crate::peer_wire::PeerMessage;

/// How a hostile peer behaves. When its connection ends it connects again, [`AGAIN`] times in all.
#[derive(Clone, Copy, Debug)]
enum Hostility {
    /// Claims to have all pieces, and delivers nothing.
    ClaimsAll,
    /// Claims to have all pieces, and delivers wrong bytes.
    WrongData,
    /// Claims to have all pieces, delivers one wrong block, and then sends nothing more.
    OneWrongBlock,
    /// Sends hashes of wrong bytes, and delivers these bytes.
    WrongHashes,
    /// Sends blocks without a request.
    UnaskedBlocks,
    /// Sends more requests than a peer may have waiting.
    Requests,
    /// Announces the same piece without end.
    Haves,
    /// Sends keep-alives without end.
    KeepAlives,
    /// Sends extension handshakes without end.
    Extensions,
    /// Sends nothing after the handshake.
    Silent,
    /// Sends half of a handshake.
    HalfHandshake,
    /// Sends the length of a message of four gigabytes.
    HugeFrame,
    /// Sends a block byte by byte, but not its last byte.
    Drip,
    /// Chokes and unchokes without end.
    Flaps,
    /// Connects, claims to have all pieces, and disconnects.
    Drops,
    /// Requests a piece that the host does not have.
    MissingPieces,
    /// Announces a piece that the torrent does not have.
    NoSuchPiece,
    /// Sends a handshake for another torrent.
    OtherTorrent,
    /// Uses the peer id of the seed.
    IdOfSeed,
    /// Sends bytes that are no handshake.
    Garbage,
}

use Hostility::*;

const ALL: [Hostility; 30] = [
    ClaimsAll,
    ClaimsAll,
    ClaimsAll,
    ClaimsAll,
    WrongData,
    WrongData,
    WrongData,
    OneWrongBlock,
    OneWrongBlock,
    WrongHashes,
    WrongHashes,
    UnaskedBlocks,
    UnaskedBlocks,
    Requests,
    Haves,
    KeepAlives,
    Extensions,
    Silent,
    Silent,
    HalfHandshake,
    HugeFrame,
    Drip,
    Drip,
    Flaps,
    Drops,
    MissingPieces,
    NoSuchPiece,
    OtherTorrent,
    IdOfSeed,
    Garbage,
];

/// How many times each hostile peer connects.
const AGAIN: usize = 10;

/// A hostile peer at 127.0.1.`number`.
#[derive(Clone)]
struct HostilePeer {
    number: u8,
    to: SocketAddr,
    pieces: u32,
    /// The peer sends its number here when its attack has begun.
    begun: UnboundedSender<u8>,
}

impl HostilePeer {
    async fn run(self, hostility: Hostility) {
        for _ in 0..AGAIN {
            let _ended: Result<(), Ended> = self.attack(hostility).await;
            // The host may ban the peer before its attack begins. The test must not wait for that peer.
            self.tell();
            yield_now().await;
        }
        pending::<()>().await;
    }

    fn tell(&self) {
        let _ = self.begun.send(self.number);
    }

    async fn greet(&self) -> Result<RawPeer, Ended> {
        let peer = RawPeer::greet(self.number, self.to, self.pieces, PeerId([self.number; 20])).await?;
        self.tell();
        Ok(peer)
    }

    /// Attacks until the connection has ended.
    async fn attack(&self, hostility: Hostility) -> Result<(), Ended> {
        match hostility {
            Silent => self.greet().await?.ended().await,
            ClaimsAll => {
                let mut peer = self.source().await?;
                peer.ended().await
            }
            WrongData => {
                let mut peer = self.source().await?;
                loop {
                    let block = peer.asked().await?;
                    peer.say(&wrong(block)).await?;
                }
            }
            OneWrongBlock => {
                let mut peer = self.source().await?;
                let block = peer.asked().await?;
                peer.say(&wrong(block)).await?;
                peer.ended().await
            }
            WrongHashes => {
                let mut peer = self.greet().await?;
                for message in [everything(self.pieces), extensions(), wrong_hashes(self.pieces), PeerMessage::Unchoke]
                {
                    peer.say(&message).await?;
                }
                loop {
                    let block = peer.asked().await?;
                    peer.say(&wrong(block)).await?;
                }
            }
            Drip => {
                let mut peer = self.source().await?;
                let block = peer.asked().await?;
                for byte in written(&wrong(block)).split_last().unwrap().1 {
                    peer.send(&[*byte]).await?;
                    yield_now().await;
                }
                peer.ended().await
            }
            HalfHandshake => {
                let mut peer = RawPeer::connect(self.number, self.to, self.pieces).await?;
                peer.send(&handshake(INFO_HASH, PeerId([self.number; 20]))[..30]).await?;
                self.tell();
                peer.ended().await
            }
            Drops => {
                let _peer = self.source().await?;
                return Ok(());
            }
            OtherTorrent | Garbage => {
                let mut peer = RawPeer::connect(self.number, self.to, self.pieces).await?;
                let greeting = handshake(InfoHash([8; 20]), PeerId([self.number; 20]));
                peer.send(if matches!(hostility, Garbage) { b"GET / HTTP/1.1\r\n\r\n" } else { &greeting }).await?;
                self.tell();
                peer.ended().await
            }
            IdOfSeed => {
                let mut peer = RawPeer::greet(self.number, self.to, self.pieces, PeerId([SEED_ID; 20])).await?;
                peer.say(&everything(self.pieces)).await?;
                self.tell();
                peer.ended().await
            }
            HugeFrame => self.flooding(b"\xff\xff\xff\xff\x07").await?,
            NoSuchPiece => self.flooding(&written(&PeerMessage::Have(self.pieces))).await?,
            MissingPieces => self.flooding(&written(&PeerMessage::Request(block(self.pieces - 1, SMALL)))).await?,
            Requests => self.flooding(&written(&PeerMessage::Request(block(0, 16 * 1024)))).await?,
            UnaskedBlocks => self.flooding(&written(&wrong(block(1, 16 * 1024)))).await?,
            Haves => self.flooding(&written(&PeerMessage::Have(0))).await?,
            KeepAlives => self.flooding(&written(&PeerMessage::KeepAlive)).await?,
            Extensions => self.flooding(&written(&extensions())).await?,
            Flaps => {
                let flap = [written(&PeerMessage::Unchoke), written(&PeerMessage::Choke)].concat();
                self.source().await?.flood(&flap).await
            }
        };
        Err(Ended)
    }

    /// Connects, claims to have all pieces, and unchokes the host.
    async fn source(&self) -> Result<RawPeer, Ended> {
        let mut peer = self.greet().await?;
        for message in [everything(self.pieces), extensions(), PeerMessage::Unchoke] {
            peer.say(&message).await?;
        }
        Ok(peer)
    }

    async fn flooding(&self, bytes: &[u8]) -> Result<Ended, Ended> {
        Ok(self.greet().await?.flood(bytes).await)
    }
}

/// Starts all hostile peers against a host. Returns when the attack of each peer has begun.
async fn unleash(on: SocketAddr, pieces: u32) -> JoinSet<()> {
    let (begun, mut told) = unbounded_channel();
    let mut peers = JoinSet::new();
    let mut left = std::collections::HashSet::new();
    for (number, hostility) in (1..).zip(ALL) {
        left.insert(number);
        peers.spawn(HostilePeer { number, to: on, pieces, begun: begun.clone() }.run(hostility));
    }
    timeout(DEADLINE, async {
        while !left.is_empty() {
            left.remove(&told.recv().await.unwrap());
        }
    })
    .await
    .expect("all hostile peers begin");
    peers
}

/// Checks the bounds that a host keeps while thirty hostile peers and a good one are connected.
async fn check_bounds(host: &TestHost, blob: &[u8]) {
    sampled(host, |sample| sample.received >= blob.len() as u64).await;
    let sample = host.swarm.sample();
    assert_eq!(sample.received, blob.len() as u64, "{sample:?}");
    assert!(sample.peers <= 64, "{sample:?}");
    // The host ends a connection after 512 blocks that it did not request.
    let floods = ALL.iter().filter(|hostility| matches!(hostility, UnaskedBlocks)).count() * AGAIN;
    assert!(sample.wasted <= (floods * 520 * 16 * 1024 + 4 * blob.len()) as u64, "{sample:?}");
    // Seven peers send wrong blocks. The host bans each at the first wrong piece from it alone. Other wrong pieces have
    // blocks of several peers, because a peer stops after one wrong block.
    assert!(sample.wrong <= 40, "{sample:?}");
}

#[tokio::test]
async fn thirty_hostile_peers_change_no_byte() {
    let blob = blob(4_000_001);
    let (seed, leecher) = (TestHost::new(SEED_ID), TestHost::new(200));
    seed.seed(INFO_HASH, &blob);
    let (membership, content) = leecher.join(&blob, hashes(&blob), INFO_HASH).await;
    let mut on_leecher = unleash(leecher.address(), count(&blob)).await;
    assert_eq!(content.progress_now().pieces, 0);
    let on_seed = unleash(seed.address(), count(&blob)).await;
    sampled(&leecher, |sample| sample.wrong >= 3).await;
    membership.add_peers(vec![seed.address()]);
    assert!(completed(&content).await == blob);
    check_bounds(&leecher, &blob).await;
    assert!(seed.swarm.sample().peers <= 64);
    on_leecher.shutdown().await;
    drop(on_seed);
    no_peer_is_left(&membership).await;
    sampled(&leecher, |sample| sample.peers == 0).await;
}

#[tokio::test]
async fn thirty_hostile_peers_change_no_byte_while_the_leader_still_fetches() {
    let blob = blob(2_000_001);
    let hosts = [SEED_ID, 200].map(TestHost::new);
    let leader = hosts[0].join(&blob, Vec::new(), INFO_HASH).await;
    let follower = hosts[1].join(&blob, Vec::new(), INFO_HASH).await;
    let _on_follower = unleash(hosts[1].address(), count(&blob)).await;
    let _on_leader = unleash(hosts[0].address(), count(&blob)).await;
    follower.0.set_leader(Some(hosts[0].address()));
    // Hostile peers claim to have all pieces. The leader still fetches each piece from the upstream: it knows no hashes
    // to verify pieces of peers.
    while let Some(offset) = leader.0.claim(false).await.unwrap() {
        let offset = usize::try_from(offset).unwrap();
        leader.1.append(offset as u64, &blob[offset..blob.len().min(offset + SMALL as usize)]).unwrap();
    }
    assert!(leader.1.is_complete());
    assert!(completed(&follower.1).await == blob);
    assert_eq!(follower.1.hashes().unwrap(), hashes(&blob));
    check_bounds(&hosts[1], &blob).await;
    assert_eq!((hosts[0].swarm.sample().received, hosts[0].swarm.sample().wrong), (0, 0));
}
