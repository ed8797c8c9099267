//! Tests of [`SharedBlobs`]. The clock of tokio is paused. It advances when all tasks wait.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use tokio::time::{Instant, advance};
use tracker_protocol::metainfo::{MIN_PIECE_LENGTH, Metainfo, MetainfoParts};

use super::*;
use crate::topology::ZonedIp;

const LIMITS: TorrentsLimits = TorrentsLimits { memory: 1024 * 1024, max_polls: 80 };

fn blobs() -> Arc<SharedBlobs> {
    Arc::new(SharedBlobs::new(LIMITS, 1_800_000_000, TorrentsMetrics::register(None)).unwrap())
}

fn blob(text: &str) -> BlobKey {
    BlobKey::parse(text.as_bytes()).unwrap()
}

fn ip(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

fn claim(blobs: &SharedBlobs, n: u8) -> u64 {
    let address = ZonedIp { ip: ip(n), zone: None };
    let holder = LeaseHolder { address, port: NonZeroU16::new(6881).unwrap(), swarm: None, size: None };
    match blobs.claim(&blob("a"), holder) {
        Ok(Claimed::Granted { generation, .. }) => generation,
        other => panic!("{other:?}"),
    }
}

fn file() -> Vec<u8> {
    let metainfo = Metainfo::new(MetainfoParts {
        name: "x".to_owned(),
        length: 1,
        piece_length: MIN_PIECE_LENGTH,
        piece_hashes: vec![[0; 20]],
        private: false,
        source: None,
    });
    metainfo.unwrap().encode()
}

/// Begins a long poll of ten seconds.
fn poll(blobs: &Arc<SharedBlobs>) -> tokio::task::JoinHandle<(Result<BlobState, Busy>, Duration)> {
    let blobs = Arc::clone(blobs);
    tokio::spawn(async move {
        let start = Instant::now();
        let state = blobs.wait(&blob("a"), None, ip(9), Duration::from_secs(10), |_| false).await;
        (state, start.elapsed())
    })
}

/// Lets other tasks run until they wait.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_when_the_lease_ends_or_changes_hands() {
    let blobs = blobs();
    let generation = claim(&blobs, 1);
    let polled = poll(&blobs);
    settle().await;
    assert_eq!(blobs.sample().polls, 1);
    blobs.release(&blob("a"), generation).unwrap();
    let next = claim(&blobs, 2);
    let (state, took) = polled.await.unwrap();
    let state = state.unwrap();
    assert_eq!((state.lease.unwrap().generation, took), (next, Duration::ZERO));
    let polled = poll(&blobs);
    settle().await;
    blobs.release(&blob("a"), next).unwrap();
    let (state, took) = polled.await.unwrap();
    assert!(state.unwrap().lease.is_none() && took.is_zero());
    assert_eq!(blobs.sample().polls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_when_the_torrent_file_is_stored() {
    let blobs = blobs();
    claim(&blobs, 1);
    let polled = poll(&blobs);
    settle().await;
    blobs.put_metainfo(&blob("b"), file(), |_| false).unwrap();
    settle().await;
    assert!(!polled.is_finished());
    blobs.put_metainfo(&blob("a"), file(), |_| false).unwrap();
    let (state, took) = polled.await.unwrap();
    let state = state.unwrap();
    assert!(state.has_metainfo && state.lease.is_some() && took.is_zero());
    // A long poll that begins after the file was stored is answered at once.
    let (state, took) = poll(&blobs).await.unwrap();
    assert!(state.unwrap().has_metainfo && took.is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_after_its_wait() {
    let blobs = blobs();
    let generation = claim(&blobs, 1);
    let polled = poll(&blobs);
    settle().await;
    // The holder's progress ends no long poll, but the reply at the end shows it.
    advance(Duration::from_secs(5)).await;
    blobs.renew(&blob("a"), generation, 7, None).unwrap();
    let (state, took) = polled.await.unwrap();
    assert_eq!(state.unwrap().lease.unwrap().have, 7);
    assert!((Duration::from_secs(10)..Duration::from_millis(10_100)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_replaced_and_the_hosts_that_wait_are_woken() {
    let blobs = blobs();
    let first = claim(&blobs, 1);
    advance(Duration::from_secs(14)).await;
    let polled = poll(&blobs);
    settle().await;
    blobs.housekeep(|_| false);
    settle().await;
    assert!(!polled.is_finished());
    advance(Duration::from_secs(1)).await;
    blobs.housekeep(|_| false);
    let (state, _) = polled.await.unwrap();
    assert!(state.unwrap().lease.is_none());
    assert_eq!(blobs.metrics.expired.get(), 1);
    assert!(claim(&blobs, 2) > first);
    assert_eq!(blobs.metrics.granted.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_holder_without_progress_is_replaced_and_the_hosts_that_wait_are_woken() {
    let blobs = blobs();
    let first = claim(&blobs, 1);
    let polled = poll(&blobs);
    for _ in 0..9 {
        advance(Duration::from_secs(1)).await;
        blobs.renew(&blob("a"), first, 0, None).unwrap();
        blobs.housekeep(|_| false);
    }
    settle().await;
    assert!(!polled.is_finished());
    advance(Duration::from_millis(900)).await;
    blobs.renew(&blob("a"), first, 0, None).unwrap();
    advance(Duration::from_millis(100)).await;
    let second = claim(&blobs, 2);
    let (state, _) = polled.await.unwrap();
    assert_eq!(state.unwrap().lease.unwrap().generation, second);
    assert!(second > first);
    assert_eq!(blobs.renew(&blob("a"), first, 1, None), Err(StaleLease::Superseded));
    assert_eq!((blobs.metrics.granted.get(), blobs.metrics.expired.get(), blobs.sample().leases), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_nothing_is_waited_for() {
    let (state, took) = poll(&blobs()).await.unwrap();
    let state = state.unwrap();
    assert!(state.lease.is_none() && !state.has_metainfo && took.is_zero());
}

#[tokio::test(start_paused = true)]
async fn long_polls_are_bounded_for_each_address_and_in_total() {
    let blobs = blobs();
    claim(&blobs, 1);
    let begin = |n: u8| LongPolls::begin(&blobs.polls, &blob("a"), ip(n));
    let mut polls: Vec<_> = (0..64).map(|_| begin(1).unwrap()).collect();
    assert_eq!(begin(1).err(), Some(Busy));
    polls.extend((0..16).map(|_| begin(2).unwrap()));
    assert_eq!(begin(3).err(), Some(Busy));
    assert_eq!(poll(&blobs).await.unwrap().0.err(), Some(Busy));
    polls.pop();
    assert!(begin(3).is_ok());
    drop(polls);
    assert_eq!(blobs.sample().polls, 0);
    assert!(begin(1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_all_long_polls() {
    let blobs = blobs();
    claim(&blobs, 1);
    let polled = poll(&blobs);
    settle().await;
    blobs.close();
    let (state, took) = polled.await.unwrap();
    assert!(state.unwrap().lease.is_some() && took.is_zero());
    assert_eq!(poll(&blobs).await.unwrap().0.err(), Some(Busy));
}

#[test]
fn the_boot_id_is_another_one_after_each_start() {
    assert_ne!(blobs().boot(), blobs().boot());
    assert_eq!(blobs().boot().len(), 16);
}
