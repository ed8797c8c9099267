//! Peers that lie, flood, stand still or break the protocol. They speak over sockets of their own, each from another
//! address, as hosts are told apart by their addresses.

use std::future::pending;

use tokio::task::JoinSet;

use super::raw::{
    Ended, RawPeer, SEED_ID, block, count, everything, extensions, handshake, no_peer_is_left, written, wrong,
    wrong_hashes,
};
use super::*;
use crate::peer_wire::PeerMessage;

/// How a hostile peer behaves. With "again" it connects anew some times after its connection has ended.
#[derive(Clone, Copy, Debug)]
enum Hostility {
    /// It has everything, and delivers nothing.
    ClaimsAll,
    /// It has everything, and delivers wrong bytes.
    WrongData,
    /// It delivers one wrong block of each piece, again.
    OneWrongBlock,
    /// It tells hashes of wrong bytes, and has these bytes.
    WrongHashes,
    /// It sends blocks that it was not asked for, again.
    UnaskedBlocks,
    /// It asks for more than it may, again.
    Requests,
    /// It tells of the same piece again and again, again.
    Haves,
    /// It sends keep-alives without end, again.
    KeepAlives,
    /// It sends extension handshakes without end, again.
    Extensions,
    /// It says nothing after the handshake.
    Silent,
    /// It sends half of a handshake.
    HalfHandshake,
    /// It announces a message of four gigabytes, again.
    HugeFrame,
    /// It delivers a block byte by byte and never ends.
    Drip,
    /// It chokes and unchokes without end, again.
    Flaps,
    /// It connects and is gone, again.
    Drops,
    /// It asks for pieces that are not there, again.
    MissingPieces,
    /// It has pieces that the torrent has not, again.
    NoSuchPiece,
    /// It wants another torrent, again.
    OtherTorrent,
    /// It has the seed's id.
    IdOfSeed,
    /// It sends what is no handshake, again.
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

/// So often a peer comes again.
const AGAIN: usize = 10;

/// A hostile peer at 127.0.1.`number`.
#[derive(Clone)]
struct HostilePeer {
    number: u8,
    to: SocketAddr,
    pieces: u32,
    /// Told when it has begun.
    begun: UnboundedSender<u8>,
}

impl HostilePeer {
    async fn run(self, hostility: Hostility) {
        for _ in 0..AGAIN {
            let _ended: Result<(), Ended> = self.attack(hostility).await;
            // It may have been banned before it could begin.
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

    /// Returns when the connection has ended.
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

    /// It claims to have everything, and to give it.
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

/// Lets all kinds of hostile peers loose on a host. Returns when each of them has begun.
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

/// What a host may not exceed while thirty hostile peers and one good one are there.
async fn check_bounds(host: &TestHost, blob: &[u8]) {
    sampled(host, |sample| sample.received >= blob.len() as u64).await;
    let sample = host.swarm.sample();
    assert_eq!(sample.received, blob.len() as u64, "{sample:?}");
    assert!(sample.peers <= 64, "{sample:?}");
    // Each peer that floods with blocks is left after 512 of them.
    let floods = ALL.iter().filter(|hostility| matches!(hostility, UnaskedBlocks)).count() * AGAIN;
    assert!(sample.wasted <= (floods * 520 * 16 * 1024 + 4 * blob.len()) as u64, "{sample:?}");
    // Each of the seven liars is banned at its first wrong piece of which it gave all. Other wrong pieces begin with a block of a
    // liar that stopped there.
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
    // Liars have everything, and yet the upstream is asked for all of it at once.
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
