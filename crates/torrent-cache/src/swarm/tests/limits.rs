//! Limits for a peer and for a host. A peer that exceeds one is disconnected. A host that lies is banned or refused.

use bytes::Bytes;

use super::raw::{
    Ended, RawPeer, SEED_ID, block, count, everything, extensions, no_peer_is_left, told, written, wrong,
};
use super::*;
use crate::peer_wire::{BlockRequest, MAX_BLOCK, PeerMessage, PieceSet};

#[tokio::test]
async fn who_breaks_the_protocol_or_floods_is_left() {
    let blob = blob(500_000);
    let host = TestHost::new(200);
    let (membership, _content) = host.join(&blob, hashes(&blob), INFO_HASH).await;
    let pieces = count(&blob);
    let flap = [written(&PeerMessage::Unchoke), written(&PeerMessage::Choke)].concat();
    let late = [written(&everything(pieces)), written(&everything(pieces))].concat();
    let empty = written(&PeerMessage::Bitfield(PieceSet::empty(pieces)));
    let outside = BlockRequest { piece: 0, begin: SMALL, length: 1 };
    let floods: Vec<(&str, Bytes)> = vec![
        ("a huge frame", Bytes::from_static(b"\xff\xff\xff\xff\x07")),
        ("a piece that is not there", written(&PeerMessage::Have(pieces)).freeze()),
        ("a request for a piece that is not there", written(&PeerMessage::Request(block(0, 1))).freeze()),
        ("a request outside of a piece", written(&PeerMessage::Request(outside)).freeze()),
        ("a second bitfield", late.into()),
        ("empty bitfields", empty.freeze()),
        ("blocks", written(&wrong(block(0, 16 * 1024))).freeze()),
        ("empty blocks", written(&wrong(block(0, 0))).freeze()),
        ("keep-alives", written(&PeerMessage::KeepAlive).freeze()),
        ("interest", written(&PeerMessage::Interested).freeze()),
        ("the same piece", written(&PeerMessage::Have(0)).freeze()),
        ("extension handshakes", written(&extensions()).freeze()),
        ("chokes", flap.into()),
    ];
    for (number, (what, bytes)) in (1..).zip(floods) {
        let mut peer = RawPeer::greet(number, host.address(), pieces, PeerId([number; 20])).await.unwrap();
        assert_eq!(timeout(DEADLINE, peer.flood(&bytes)).await, Ok(Ended), "{what}");
    }
    no_peer_is_left(&membership).await;
    assert_eq!(host.swarm.sample().received, 0);
    assert_eq!(host.swarm.sample().wrong, 0);
}

#[tokio::test]
async fn a_peer_that_asks_for_too_much_at_once_is_left() {
    let blob = blob(500_000);
    let seed = TestHost::new(SEED_ID);
    seed.seed(INFO_HASH, &blob);
    let mut peer = RawPeer::greet(1, seed.address(), count(&blob), PeerId([9; 20])).await.unwrap();
    let requests = written(&PeerMessage::Request(block(0, 16 * 1024))).repeat(10_000);
    // The seed may end the connection before all requests are written.
    let _ = peer.send(&requests).await;
    timeout(DEADLINE, peer.ended()).await.expect("the seed ends the connection");
    assert!(seed.swarm.sample().sent < 1000 * 16 * 1024);
}

#[tokio::test]
async fn a_host_that_sends_wrong_bytes_is_banned() {
    let blob = blob(500_000);
    let (seed, leecher) = (TestHost::new(SEED_ID), TestHost::new(200));
    seed.seed(INFO_HASH, &blob);
    let (membership, content) = leecher.join(&blob, hashes(&blob), INFO_HASH).await;
    let pieces = count(&blob);
    let greet = |number, id| RawPeer::greet(number, leecher.address(), pieces, PeerId([id; 20]));
    let mut liar = greet(1, 1).await.unwrap();
    for message in [everything(pieces), PeerMessage::Unchoke] {
        liar.say(&message).await.unwrap();
    }
    while let Ok(block) = liar.asked().await {
        if liar.say(&wrong(block)).await.is_err() {
            break;
        }
    }
    sampled(&leecher, |sample| sample.wrong == 1).await;
    assert_eq!(content.progress_now().pieces, 0);
    assert!(greet(1, 2).await.is_err(), "the host is banned, even with another peer id");
    assert!(greet(2, 1).await.is_ok(), "another host is not banned");
    membership.add_peers(vec![seed.address()]);
    assert!(completed(&content).await == blob);
    assert_eq!(leecher.swarm.sample().wrong, 1);
}

#[tokio::test]
async fn a_host_with_the_id_of_another_one_does_not_keep_it_away() {
    let blob = blob(500_000);
    // The thief has the peer id of the seed. If the leecher took the two for one host, one connection would stay, and
    // the peer ids of leecher and seed would decide which. So the leecher has a lower id than the seed, and then a
    // higher id.
    for id in [0, 200] {
        let (seed, leecher) = (TestHost::new(SEED_ID), TestHost::new(id));
        seed.seed(INFO_HASH, &blob);
        let (membership, content) = leecher.join(&blob, hashes(&blob), INFO_HASH).await;
        let _thief = RawPeer::greet(1, leecher.address(), count(&blob), PeerId([SEED_ID; 20])).await.unwrap();
        let mut status = membership.status();
        timeout(DEADLINE, status.wait_for(|status| status.peers == 1)).await.unwrap().unwrap();
        membership.add_peers(vec![seed.address()]);
        assert!(completed(&content).await == blob);
    }
}

#[tokio::test]
async fn one_host_takes_few_places_of_a_torrent() {
    let blob = blob(300_000);
    let host = TestHost::new(SEED_ID);
    host.seed(INFO_HASH, &blob);
    let greet = |number, id: u8| RawPeer::greet(number, host.address(), count(&blob), PeerId([100 + id; 20]));
    let mut peers = Vec::new();
    for id in 0..8 {
        let mut peer = greet(1, id).await.unwrap();
        // The first message from the host shows that the peer has a place.
        peer.next().await.unwrap();
        peers.push(peer);
    }
    assert_eq!(timeout(DEADLINE, greet(1, 8).await.unwrap().ended()).await, Ok(Ended));
    assert!(greet(2, 8).await.unwrap().next().await.is_ok());
    drop(peers.pop());
    let served = async {
        // The host needs a moment to notice that the dropped peer has left.
        while greet(1, 9).await.unwrap().next().await.is_err() {}
    };
    timeout(DEADLINE, served).await.unwrap();
}

#[tokio::test]
async fn a_host_whose_bytes_are_not_those_of_the_hashes_is_left_as_long_as_their_teller_leads() {
    let blob = blob(500_000);
    let host = TestHost::new(200);
    let (membership, content) = host.join(&blob, Vec::new(), INFO_HASH).await;
    membership.set_leader(Some("127.0.1.1:6881".parse().unwrap()));
    let greet = |number, id| RawPeer::greet(number, host.address(), count(&blob), PeerId([id; 20]));
    let mut leader = greet(1, 1).await.unwrap();
    for message in [extensions(), told(&hashes(&blob))] {
        leader.say(&message).await.unwrap();
    }
    let mut liar = greet(2, 2).await.unwrap();
    for message in [everything(count(&blob)), PeerMessage::Unchoke] {
        liar.say(&message).await.unwrap();
    }
    while let Ok(block) = liar.asked().await {
        if liar.say(&wrong(block)).await.is_err() {
            break;
        }
    }
    sampled(&host, |sample| sample.wrong == 1).await;
    assert_eq!(timeout(DEADLINE, greet(2, 3).await.unwrap().ended()).await, Ok(Ended));
    membership.set_leader(Some("127.0.1.3:6881".parse().unwrap()));
    let mut again = greet(2, 4).await.unwrap();
    again.next().await.unwrap();
    assert_eq!(content.progress_now().pieces, 0);
}

#[tokio::test]
async fn another_program_that_gives_right_pieces_is_asked_for_more_at_once() {
    let blob = blob(4_000_000);
    let host = TestHost::new(200);
    let (_membership, _content) = host.join(&blob, hashes(&blob), INFO_HASH).await;
    let pieces = count(&blob);
    let mut peer = RawPeer::greet(1, host.address(), pieces, PeerId([1; 20])).await.unwrap();
    for message in [everything(pieces), extensions(), PeerMessage::Unchoke] {
        peer.say(&message).await.unwrap();
    }
    // The peer delivers the first piece. After it, the peer answers no requests, as Transmission does for half a
    // second.
    for _ in 0..SMALL / MAX_BLOCK {
        let block = peer.asked().await.unwrap();
        let start = (block.piece * SMALL + block.begin) as usize;
        let data = Bytes::copy_from_slice(&blob[start..start + block.length as usize]);
        peer.say(&PeerMessage::Piece { piece: block.piece, begin: block.begin, data }).await.unwrap();
    }
    for requests in 1..=32 {
        timeout(DEADLINE, peer.asked()).await.unwrap_or_else(|_| panic!("only {requests} requests")).unwrap();
    }
}
