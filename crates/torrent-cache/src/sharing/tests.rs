//! What a host tells a scripted tracker about the blobs of its store.

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use sha1::{Digest as _, Sha1};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracker_protocol::PeerId;
use url::{Host, Url};

use super::*;
use crate::store::{DiskShare, StoreLimits, StoredTorrent};
use crate::swarm::{PieceShape, SharedContent, SwarmMembership};
use crate::swarm_tracker::{SHARED_PIECE_LENGTH, SharedMetainfo, TrackerOptions};
use crate::upstream::FetchOptions;
use crate::upstream::scripted::{Act, ScriptedServer, SeenRequest, reply};

/// Returns a reply to an announce, with this number of seeds.
fn announced(seeds: u32) -> Vec<Act> {
    reply(200, "", &format!("d8:completei{seeds}e8:intervali1800ee"))
}

/// Returns the usual reply of a tracker that grants every lease and lacks every torrent file.
fn usual(request: &SeenRequest, boot: u8) -> Vec<Act> {
    let boot = format!("X-Boot: {boot}\r\n");
    match request.target() {
        target if target.starts_with("GET /announce") => announced(1),
        "POST /torrents/missing" => reply(200, &boot, request.text.split_once("\r\n\r\n").unwrap().1),
        "POST /torrents/reach" => reply(200, &boot, r#"{"address":"127.0.0.1:1","reached":true}"#),
        target if target.starts_with("POST /leases/") => reply(201, &boot, r#"{"generation":7,"ttl":15}"#),
        target if target.starts_with("PUT /torrents/") => reply(201, &boot, "{}"),
        target if target.starts_with("GET ") => reply(404, &boot, "{}"),
        _ => reply(204, &boot, ""),
    }
}

fn store(folder: &TempDir, quota: u64) -> BlobStore {
    let limits = StoreLimits { quota: DiskShare::Bytes(quota), min_free: DiskShare::Bytes(0) };
    BlobStore::open(folder.path(), limits).unwrap()
}

/// Starts a host that shares the blobs of the store.
fn host(server: &ScriptedServer, store: &BlobStore) -> Arc<Sharing> {
    let fetch = FetchOptions::new(None).unwrap();
    let (server, peer_id) = (server.port(), PeerId(*b"-TC0100-0123456789ab"));
    let tracker = |port: u16| {
        SwarmTracker::new(TrackerOptions {
            announce: Url::parse(&format!("http://127.0.0.1:{server}/announce")).unwrap(),
            torrents: (Host::Ipv4(Ipv4Addr::LOCALHOST), server),
            token: None,
            peer_id,
            port: port.try_into().unwrap(),
            tls: fetch.tls,
            lookup: fetch.lookup,
        })
        .map_err(io::Error::other)
    };
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let peering = PeeringOptions { ports: 0..=0, networks, peer_id };
    Sharing::start(SharingOptions { peering, secret: None, is_expected: true }, store, tracker).unwrap()
}

/// A blob of the shortest length that is shared.
fn bytes(seed: u8) -> Vec<u8> {
    vec![seed; usize::try_from(SMALLEST).unwrap()]
}

fn put(store: &BlobStore, seed: u8) -> (ShareKey, Digest) {
    let bytes = bytes(seed);
    let digest = Digest::of(&bytes);
    let mut incoming = store.begin(&digest.into(), Some(SMALLEST)).unwrap();
    incoming.append(&bytes).unwrap();
    incoming.commit().unwrap();
    (ShareKey::new("u p", digest), digest)
}

fn metainfo(key: &ShareKey, seed: u8) -> SharedMetainfo {
    SharedMetainfo::new(key, None, SMALLEST, vec![Sha1::digest(bytes(seed)).into()]).unwrap()
}

/// Returns whether a request announces this torrent with this event.
fn announces(request: &SeenRequest, info_hash: InfoHash, event: &str) -> bool {
    let Some(query) = request.target().strip_prefix("GET /announce?") else { return false };
    let value = |name| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let hash = value("info_hash").map(percent_encoding::percent_decode_str);
    hash.is_some_and(|hash| hash.eq(info_hash.0)) && value("event") == Some(event)
}

/// Receives requests up to the first for which `is_last` returns `true`. Returns all of them.
async fn until(server: &mut ScriptedServer, mut is_last: impl FnMut(&SeenRequest) -> bool) -> Vec<SeenRequest> {
    let mut seen = Vec::new();
    loop {
        seen.push(server.next().await);
        if seen.last().is_some_and(&mut is_last) {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_tracker_that_has_started_again_hears_of_all_blobs_and_gets_the_files_that_it_lacks() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder, 1 << 30);
    let blobs: Vec<_> = (0..30)
        .map(|seed| {
            let (key, digest) = put(&store, seed);
            let metainfo = metainfo(&key, seed);
            store.put_torrent(&key.to_string(), &StoredTorrent { digest, file: metainfo.encode() }).unwrap();
            (key, metainfo.info_hash())
        })
        .collect();
    // The tracker lacks every third torrent file.
    let lacked: HashSet<_> = blobs.iter().step_by(3).map(|(key, _)| key.to_string()).collect();
    let (boot, lacks) = (Arc::new(AtomicU8::new(1)), lacked.clone());
    let boot_now = Arc::clone(&boot);
    let mut server = ScriptedServer::http(move |request| {
        let boot = boot_now.load(Relaxed);
        if request.target() != "POST /torrents/missing" {
            return usual(request, boot);
        }
        let asked = request.text.split('"').filter(|text| lacks.contains(*text));
        let told: serde_json::Value = asked.collect();
        reply(200, &format!("X-Boot: {boot}\r\n"), &told.to_string())
    })
    .await;
    let host = host(&server, &store);
    for round in 1..=2 {
        if round == 2 {
            boot.store(2, Relaxed);
            host.tracker.check().await.unwrap();
        }
        let mut left = blobs.len() + lacked.len();
        let counts = |request: &SeenRequest| {
            let target = request.target();
            target.starts_with("GET /announce") || target.starts_with("PUT /torrents/")
        };
        let seen = until(&mut server, |request| {
            left -= usize::from(counts(request));
            left == 0
        })
        .await;
        for (key, info_hash) in &blobs {
            let announce = seen.iter().position(|request| announces(request, *info_hash, "started"));
            let put = format!("PUT /torrents/{key}");
            let put = seen.iter().position(|request| request.target() == put);
            assert_eq!(put.is_some(), lacked.contains(&key.to_string()), "{round}");
            assert!(announce.unwrap() < put.unwrap_or(usize::MAX), "{round}");
        }
    }
    assert_eq!(host.seeds(), blobs.len());
}

#[tokio::test]
async fn what_other_hosts_have_goes_first_and_the_tracker_hears_of_it() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder, 600 << 10);
    let [a, b] = [1, 2].map(|seed| put(&store, seed));
    let [of_a, of_b] = [metainfo(&a.0, 1).info_hash(), metainfo(&b.0, 2).info_hash()];
    // The tracker says that another host has the second blob as well.
    let mut server =
        ScriptedServer::http(
            move |request| {
                if announces(request, of_b, "started") { announced(2) } else { usual(request, 1) }
            },
        )
        .await;
    let host = host(&server, &store);
    for (key, digest) in [a, b] {
        host.offer(key, digest, SMALLEST);
        let put = format!("PUT /torrents/{key}");
        until(&mut server, |request| request.target() == put).await;
    }
    // The second blob is evicted before the first, although the first is at least as old.
    let making = store.clone();
    spawn_blocking(move || put(&making, 3)).await.unwrap();
    assert!(store.has(&a.1) && !store.has(&b.1));
    until(&mut server, |request| announces(request, of_b, "stopped")).await;
    assert_eq!(host.seeds(), 1);
    assert!(host.seeds.get(of_a).is_some());
    // The first blob is evicted next: no other host has any of the blobs left, and the first is the oldest.
    let making = store.clone();
    spawn_blocking(move || put(&making, 4)).await.unwrap();
    assert!(!store.has(&a.1));
    until(&mut server, |request| announces(request, of_a, "stopped")).await;
}

/// Fetches pieces from memory instead of an upstream.
struct MemoryFeeder {
    content: Arc<SharedContent>,
    bytes: Vec<u8>,
}

impl PieceFeeder for MemoryFeeder {
    type Fault = std::convert::Infallible;

    async fn feed(&mut self, swarm: &SwarmMembership, anything: bool) -> Result<(), Self::Fault> {
        while let Some(offset) = swarm.claim(anything).await.unwrap() {
            self.content.append(offset, &self.bytes[usize::try_from(offset).unwrap()..]).unwrap();
        }
        Ok(())
    }
}

/// Fetches a blob while this host holds its lease, and offers it.
async fn lead(server: &mut ScriptedServer, host: &Arc<Sharing>, store: &BlobStore) -> ShareKey {
    let (bytes, digest) = (bytes(5), put(store, 5).1);
    let key = ShareKey::new("u p", digest);
    until(server, |request| request.target() == "POST /torrents/reach").await;
    let start = host.begin(&key).await.unwrap();
    assert!(matches!(start, ShareStart::Lead(_)), "{start:?}");
    let shape = PieceShape::new(SMALLEST, SHARED_PIECE_LENGTH).unwrap();
    let content = Arc::new(SharedContent::new(Arc::new(tempfile::tempfile().unwrap()), shape, Vec::new()));
    let session = ShareSession::begin(host, key, &start, &content).await.unwrap();
    let mut feeder = MemoryFeeder { content, bytes };
    session.fetch(start, &mut feeder).await.unwrap();
    session.stored(digest);
    key
}

#[tokio::test]
async fn a_lease_is_released_after_the_torrent_file_is_registered() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder, 1 << 30);
    let mut server = ScriptedServer::http(|request| usual(request, 1)).await;
    let host = host(&server, &store);
    let key = lead(&mut server, &host, &store).await;
    let release = format!("DELETE /leases/{key}/7");
    let seen = until(&mut server, |request| request.target() == release).await;
    let targets: Vec<_> = seen.iter().map(SeenRequest::target).collect();
    assert!(targets.contains(&format!("PUT /torrents/{key}").as_str()), "{targets:?}");
}

#[tokio::test]
async fn at_the_end_a_lease_is_released_although_its_blob_is_being_registered() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder, 1 << 30);
    let there = Arc::new(Notify::new());
    let registers = Arc::clone(&there);
    let mut server = ScriptedServer::http(move |request| match request.target() {
        target if target.starts_with("PUT /torrents/") => vec![Act::Stall(Arc::clone(&registers))],
        _ => usual(request, 1),
    })
    .await;
    let host = host(&server, &store);
    let key = lead(&mut server, &host, &store).await;
    there.notified().await;
    spawn_blocking(move || host.stop(Duration::from_mins(1))).await.unwrap();
    // `stop` has returned, so the server has received the request already.
    let release = format!("DELETE /leases/{key}/7");
    assert!(server.targets().contains(&release));
}
