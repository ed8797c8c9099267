//! [`SwarmTracker`], torrent-cache's client of the tracker, against a running tracker: each call, and how it reads each
//! reply.

use std::sync::Arc;
use std::time::Duration;

use torrent_cache::digest::Digest;
use torrent_cache::swarm_tracker::{
    LeaseClaim, LeaseRenewal, LeaseView, MAX_WAIT, MetainfoPut, ShareKey, SharedMetainfo, SwarmAnnounce, SwarmBlob,
    SwarmTracker, TrackerFault, TrackerOptions,
};
use torrent_cache::upstream::FetchOptions;
use tracker_protocol::{Event, InfoHash, PeerId};

use crate::dsl::{Server, ServerSetup, retracker};

const ARGS: [&str; 3] = ["--torrents", "--torrents-listen=127.0.0.1:0", "--listen=127.0.0.1:0"];

const TOKEN: &str = "0123456789abcdef";

fn options(server: &Server, port: u16) -> TrackerOptions {
    let fetch = FetchOptions::new(None).unwrap();
    let torrents: std::net::SocketAddr = server.torrents_addresses()[0].parse().unwrap();
    TrackerOptions {
        announce: format!("http://{}/announce", server.addresses()[0]).parse().unwrap(),
        torrents: (url::Host::parse(&torrents.ip().to_string()).unwrap(), torrents.port()),
        token: None,
        peer_id: PeerId([u8::try_from(port % 256).unwrap(); 20]),
        port: port.try_into().unwrap(),
        tls: fetch.tls,
        lookup: fetch.lookup,
    }
}

fn tracker(server: &Server, port: u16) -> SwarmTracker {
    SwarmTracker::new(options(server, port)).unwrap()
}

fn with_token() -> ServerSetup {
    retracker(&ARGS).env("TORRENTS_TOKEN", TOKEN)
}

fn key(content: &str) -> ShareKey {
    ShareKey::new("quay.io a/b", Digest::of(content.as_bytes()))
}

fn metainfo(key: &ShareKey, length: u64) -> SharedMetainfo {
    SharedMetainfo::new(key, None, length, vec![[7; 20]]).unwrap()
}

fn announce(info_hash: InfoHash, event: Option<Event>, left: u64) -> SwarmAnnounce {
    SwarmAnnounce { info_hash, event, uploaded: 0, downloaded: 0, left, numwant: 50 }
}

#[tokio::test]
async fn a_torrent_file_is_stored_read_and_complained_about() {
    let server = Server::start(&ARGS);
    let tracker = tracker(&server, 6881);
    let mut boot = tracker.boot();
    assert_eq!(boot.borrow_and_update().as_deref(), None);
    let key = key("a");
    assert_eq!(tracker.metainfo(&key).await, Ok(None));
    assert_eq!(boot.borrow_and_update().as_deref().map(str::len), Some(16));

    let file = metainfo(&key, 1000).encode();
    assert_eq!(tracker.put_metainfo(&key, file.clone().into()).await, Ok(MetainfoPut::New));
    assert_eq!(tracker.put_metainfo(&key, file.clone().into()).await, Ok(MetainfoPut::Same));
    let other = metainfo(&key, 1001).encode();
    assert_eq!(tracker.put_metainfo(&key, other.into()).await, Ok(MetainfoPut::Conflict));
    let found = tracker.metainfo(&key).await.unwrap().unwrap();
    assert_eq!(SharedMetainfo::read(&found, &key, None), Ok(metainfo(&key, 1000)));
    let error = tracker.put_metainfo(&key, "junk".into()).await.unwrap_err();
    assert!(matches!(&error.fault, TrackerFault::WrongReply(what) if what.contains("torrent file")), "{error}");

    let unknown = self::key("b");
    assert_eq!(tracker.missing(&[key, unknown]).await, Ok(vec![unknown]));
    // A complaint of only one host does not remove the torrent file.
    assert_eq!(tracker.complain(&key).await, Ok(()));
    assert!(tracker.metainfo(&key).await.unwrap().is_some());
    assert!(!boot.has_changed().unwrap());
}

#[tokio::test]
async fn the_longest_torrent_file_is_stored_and_read() {
    let server = Server::start(&ARGS);
    let tracker = tracker(&server, 6881);
    let key = key("large");
    let pieces = 52_000;
    let large = SharedMetainfo::new(&key, None, pieces * (512 << 10), vec![[7; 20]; pieces as usize]).unwrap();
    assert_eq!(tracker.put_metainfo(&key, large.encode().into()).await, Ok(MetainfoPut::New));
    assert_eq!(tracker.metainfo(&key).await.unwrap().unwrap(), large.encode());
}

#[tokio::test]
async fn a_lease_passes_from_a_host_to_the_next() {
    let server = Server::start(&ARGS);
    let [leader, follower] = [6881, 6882].map(|port| Arc::new(tracker(&server, port)));
    let key = key("a");
    assert_eq!(leader.state(&key, Duration::ZERO).await, Ok(None));
    let swarm = key.rendezvous(None);
    let claim = leader.claim(&key, Some(swarm), None).await.unwrap();
    let LeaseClaim::Granted { generation, ttl } = claim else { panic!("{claim:?}") };
    assert_eq!(ttl, Duration::from_secs(15));
    assert_eq!(leader.renew(&key, generation, 100, Some(1000)).await, Ok(LeaseRenewal::Renewed));

    let lease =
        LeaseView { leader: Some("127.0.0.1:6881".parse().unwrap()), swarm: Some(swarm), have: 100, size: Some(1000) };
    assert_eq!(follower.claim(&key, Some(swarm), None).await, Ok(LeaseClaim::Held(lease)));
    let held = SwarmBlob { lease, has_torrent: false };
    assert_eq!(follower.state(&key, Duration::ZERO).await, Ok(Some(held)));

    // The long poll ends when the torrent file is stored. If the file is stored before the poll begins, the poll ends at
    // once. So the test need not wait until the poll has begun.
    let waiting = Arc::clone(&follower);
    let poll = tokio::spawn(async move { waiting.state(&key, MAX_WAIT).await });
    let file = metainfo(&key, 1000).encode();
    assert_eq!(leader.put_metainfo(&key, file.into()).await, Ok(MetainfoPut::New));
    assert_eq!(poll.await.unwrap(), Ok(Some(SwarmBlob { lease, has_torrent: true })));

    assert_eq!(leader.release(&key, generation).await, Ok(()));
    assert_eq!(leader.release(&key, generation).await, Ok(()));
    assert_eq!(leader.renew(&key, generation, 100, None).await, Ok(LeaseRenewal::Ended));
    let claim = follower.claim(&key, None, Some(1000)).await.unwrap();
    assert!(matches!(claim, LeaseClaim::Granted { generation: next, .. } if next > generation), "{claim:?}");
    assert_eq!(leader.renew(&key, generation, 100, None).await, Ok(LeaseRenewal::Superseded));
}

#[tokio::test]
async fn announces_find_the_other_host() {
    let server = Server::start(&ARGS);
    let [seed, leecher] = [6881, 6882].map(|port| tracker(&server, port));
    let hash = InfoHash([7; 20]);
    let alone = seed.announce(&announce(hash, Some(Event::Started), 0)).await.unwrap();
    assert_eq!((alone.peers, alone.seeds, alone.leechers), (Vec::new(), 1, 0));
    assert!(alone.interval.is_some_and(|interval| !interval.is_zero()));
    let found = leecher.announce(&announce(hash, Some(Event::Started), 1000)).await.unwrap();
    assert_eq!(found.peers, ["127.0.0.1:6881".parse().unwrap()]);
    assert_eq!((found.seeds, found.leechers), (1, 1));
    let done = leecher.announce(&announce(hash, Some(Event::Completed), 0)).await.unwrap();
    assert_eq!((done.seeds, done.leechers), (2, 0));
    seed.announce(&announce(hash, Some(Event::Stopped), 0)).await.unwrap();
    let left = leecher.announce(&announce(hash, None, 0)).await.unwrap();
    assert_eq!((left.peers, left.seeds, left.leechers), (Vec::new(), 1, 0));
}

#[tokio::test]
async fn the_token_admits() {
    let server = with_token().start();
    let token = |token: &str| Some(token.parse().unwrap());
    let good = SwarmTracker::new(TrackerOptions { token: token(TOKEN), ..options(&server, 6881) }).unwrap();
    assert_eq!(good.metainfo(&key("a")).await, Ok(None));
    assert!(good.put_metainfo(&key("a"), metainfo(&key("a"), 1000).encode().into()).await.is_ok());
    for token in [None, token("0123456789abcdeF")] {
        let stranger = SwarmTracker::new(TrackerOptions { token, ..options(&server, 6881) }).unwrap();
        let error = stranger.metainfo(&key("a")).await.unwrap_err();
        assert!(matches!(&error.fault, TrackerFault::Token(_)), "{error}");
    }
}

#[tokio::test]
async fn a_host_outside_the_networks_is_told_which_setting_admits_it() {
    let server = Server::start(&[&ARGS[..], &["--torrents-from=10.0.0.0/8"]].concat());
    let error = tracker(&server, 6881).claim(&key("a"), None, None).await.unwrap_err();
    assert!(matches!(&error.fault, TrackerFault::Forbidden(what) if what.contains("127.0.0.1")), "{error}");
}

#[tokio::test]
async fn a_tracker_without_torrents_is_told_apart() {
    let server = Server::start(&["--listen=127.0.0.1:0"]);
    let address: std::net::SocketAddr = server.addresses()[0].parse().unwrap();
    let with = Server::start(&ARGS);
    let torrents = (url::Host::parse("127.0.0.1").unwrap(), address.port());
    let tracker = SwarmTracker::new(TrackerOptions { torrents, ..options(&with, 6881) }).unwrap();
    let error = tracker.metainfo(&key("a")).await.unwrap_err();
    assert!(matches!(&error.fault, TrackerFault::NoTorrents(404)), "{error}");
    assert!(error.remedy().unwrap().contains("--torrents"));
}
