//! Measures the time of each part of an announce, without the kernel, to show which part a change has made slower.
//!
//! ```text
//! cargo bench --bench micro
//! cargo bench --bench micro -- store
//! ```

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a benchmark may fail")]

/// The number of calls that are timed together, because a single call takes little longer than reading the clock.
const SAMPLE: u32 = 1_000;

fn main() {
    divan::Divan::default().sample_size(SAMPLE).config_with_args().main();
}

mod wire {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU16;

    use divan::Bencher;
    use tracker_protocol::announce::{self, PeerFormat};
    use tracker_protocol::{AnnounceReply, PeerId, PeerLists};

    /// The query of an announce as qBittorrent sends it.
    const QUERY: &[u8] =
        b"info_hash=%124Vx%9a%bc%de%f1%23Eg%89%ab%cd%ef%124Vx%9a&peer_id=-qB4630-a1B2c3D4e5F6&port=51413\
        &uploaded=1073741824&downloaded=2147483648&left=4294967296&corrupt=0&key=5F3A91C0&event=started&numwant=200\
        &compact=1&no_peer_id=1&supportcrypto=1&redundant=0";

    #[divan::bench]
    fn parse_announce() -> bool {
        announce::parse(divan::black_box(QUERY)).is_ok()
    }

    #[divan::bench]
    fn encode_30_compact(bencher: Bencher<'_, '_>) {
        encode(bencher, PeerFormat::Compact);
    }

    #[divan::bench]
    fn encode_30_dictionaries(bencher: Bencher<'_, '_>) {
        encode(bencher, PeerFormat::Dictionaries { ids: true });
    }

    /// Encodes into the same buffer again and again, as a worker does.
    fn encode(bencher: Bencher<'_, '_>, format: PeerFormat) {
        let mut peers = PeerLists::default();
        for n in 1..=30 {
            let (ip, port) = (IpAddr::from([192, 168, 1, n]), NonZeroU16::new(51_413).unwrap());
            peers.push(ip, port, Some(PeerId(*b"-qB4630-a1B2c3D4e5F6")));
        }
        let reply = AnnounceReply {
            interval: 30,
            min_interval: 30,
            complete: 11,
            incomplete: 20,
            downloaded: 7,
            external_ip: Some(Ipv4Addr::new(192, 168, 1, 99).into()),
            warning: None,
            peers,
        };
        let mut body = Vec::new();
        bencher.bench_local(|| {
            body.clear();
            announce::encode(divan::black_box(&reply), format, &mut body);
            body.len()
        });
    }
}

mod upstream {
    use divan::Bencher;
    use tracker_protocol::upstream::parse_reply;

    const PEERS: u8 = 50;

    #[divan::bench]
    fn decode_50_compact(bencher: Bencher<'_, '_>) {
        let mut body = format!("d8:intervali1800e5:peers{}:", usize::from(PEERS) * 6).into_bytes();
        (0..PEERS).for_each(|n| body.extend([198, 51, 100, n, 26, 225]));
        body.push(b'e');
        decode(bencher, &body);
    }

    #[divan::bench]
    fn decode_50_dictionaries(bencher: Bencher<'_, '_>) {
        let peer = |n| format!("d2:ip13:198.51.100.{n}7:peer id20:-qB4630-a1B2c3D4e5F64:porti6881ee");
        // Each number has two digits, so that all addresses have the same length.
        let peers: String = (10..10 + PEERS).map(peer).collect();
        decode(bencher, format!("d8:intervali1800e5:peersl{peers}ee").as_bytes());
    }

    fn decode(bencher: Bencher<'_, '_>, body: &[u8]) {
        assert_eq!(parse_reply(body).unwrap().peers.len(), usize::from(PEERS));
        bencher.bench_local(|| parse_reply(divan::black_box(body)).is_ok());
    }
}

mod store {
    use std::net::IpAddr;
    use std::num::NonZeroU16;
    use std::time::Duration;

    use divan::Bencher;
    use retracker::clock::Timestamp;
    use retracker::store::{Action, Announcement, Store, StoreOptions};
    use retracker::topology::{Topology, ZonedIp};
    use tracker_protocol::scrape;
    use tracker_protocol::{InfoHash, PeerId, Role, ScrapeReply};

    const SCRAPED: u32 = 64;

    /// Also measures announces on two threads at once, because workers share the store.
    #[divan::bench(threads = [1, 2])]
    fn announce_in_10k_swarms_of_5(bencher: Bencher<'_, '_>) {
        announce(bencher, 10_000, 5);
    }

    #[divan::bench]
    fn announce_in_a_swarm_of_100k(bencher: Bencher<'_, '_>) {
        announce(bencher, 1, 100_000);
    }

    /// Reads the counts of 64 swarms and writes the reply.
    #[divan::bench]
    fn scrape_64(bencher: Bencher<'_, '_>) {
        let store = filled(10_000, 5);
        let mut body = Vec::new();
        bencher.bench_local(|| {
            let swarms = (0..SCRAPED).map(|_| info_hash(fastrand::u32(..10_000)));
            let files = swarms.map(|hash| (hash, store.scrape(now(), hash))).collect();
            body.clear();
            scrape::encode(&ScrapeReply { files, min_request_interval: 30 }, &mut body);
            body.len()
        });
    }

    /// Announces a peer that is in the swarm already, as most announces do.
    fn announce(bencher: Bencher<'_, '_>, swarms: u32, peers: u32) {
        let store = filled(swarms, peers);
        bencher.bench(|| {
            let (swarm, peer) = (fastrand::u32(..swarms), fastrand::u32(..peers));
            store.announce(now(), &Topology::default(), info_hash(swarm), &announcement(peer, 30))
        });
    }

    pub(super) fn filled(swarms: u32, peers: u32) -> Store {
        let (peer_age, announce_interval) = (Duration::from_hours(3), Duration::from_secs(30));
        let store = Store::new(StoreOptions { peer_age, announce_interval, max_peers: 2_000_000 });
        for swarm in 0..swarms {
            for peer in 0..peers {
                store.announce(now(), &Topology::default(), info_hash(swarm), &announcement(peer, 0));
            }
        }
        store
    }

    pub(super) fn now() -> Timestamp {
        Timestamp::after(Duration::from_secs(1))
    }

    pub(super) fn info_hash(swarm: u32) -> InfoHash {
        let mut hash = [0; 20];
        fastrand::Rng::with_seed(swarm.into()).fill(&mut hash);
        InfoHash(hash)
    }

    pub(super) fn announcement(peer: u32, want: usize) -> Announcement {
        let [_, high, middle, low] = peer.to_be_bytes();
        let mut id = *b"-qB4630-............";
        id[16..].copy_from_slice(&peer.to_be_bytes());
        let ip = IpAddr::from([10, high, middle, low]);
        Announcement {
            place: ZonedIp { ip, zone: None },
            is_claim: false,
            outside: None,
            source: ip,
            port: NonZeroU16::new(51_413),
            peer_id: PeerId(id),
            // One peer in three is a seed.
            role: if peer.is_multiple_of(3) { Role::Seed } else { Role::Leecher },
            started: false,
            action: Action::Stay { completed: false },
            want,
            ids: false,
        }
    }
}

mod share {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use divan::Bencher;
    use retracker::share::{MAX_RECORDS, Partition, RecordBatch, SharedRecord, SharedSwarms, ZoneMap, receive};
    use retracker::store::{Hearing, PeerChange, PeerNews, PeerRecord, Selection};
    use retracker::topology::Topology;
    use tracker_protocol::Role;

    use super::store::{announcement, filled, info_hash, now};

    /// Measures the time that sharing adds to an announce that is not shared.
    #[divan::bench]
    fn pass_over_an_announce(bencher: Bencher<'_, '_>) {
        hear(bencher, None);
    }

    /// Measures the time that sharing adds to an announce that is shared, without the time to write the batch.
    #[divan::bench]
    fn share_an_announce(bencher: Bencher<'_, '_>) {
        hear(bencher, Some(PeerChange::Changed));
    }

    fn hear(bencher: Bencher<'_, '_>, change: Option<PeerChange>) {
        let shared = SharedSwarms::new(Duration::from_hours(3));
        let hearing = Some(Hearing { at: now(), silence: Some(Duration::ZERO), change });
        let selection = Selection { hearing, ..Selection::default() };
        let mut count = 0;
        bencher.bench_local(|| {
            let peer = fastrand::u32(..50_000);
            count += 1;
            if count % MAX_RECORDS == 0 {
                Partition::all().for_each(|partition| drop(shared.pending().take(partition, usize::MAX)));
            }
            shared.heard(now(), info_hash(peer % 10_000), &announcement(peer, 0), &selection)
        });
    }

    /// Reads a batch of 64 records, and applies them to swarms that know their peers. One call is one batch.
    #[divan::bench]
    fn receive_64_records(bencher: Bencher<'_, '_>) {
        let (store, topology) = (filled(10_000, 5), Topology::default());
        let stays = PeerNews::Stays { port: NonZeroU16::new(51_413).unwrap(), role: Role::Leecher, completed: false };
        let record = || {
            let announcement = announcement(fastrand::u32(..5), 0);
            let (ip, peer_id) = (announcement.place.ip, announcement.peer_id);
            let peer = PeerRecord { ip, is_claim: false, peer_id, news: stays, downloaded: 0 };
            SharedRecord { info_hash: info_hash(fastrand::u32(..10_000)), zone: None, peer }
        };
        let batch = || {
            let records = (0..64).map(|_| record()).collect();
            let age = Duration::ZERO;
            let mut bytes = Vec::new();
            RecordBatch { flags: 0, instance: 0, sequence: 0, age, zones_fingerprint: 0, records }.encode(&mut bytes);
            bytes
        };
        bencher.with_inputs(batch).bench_local_values(|bytes| {
            let batch = RecordBatch::decode(&bytes).unwrap().batch;
            receive(&store, now(), Duration::ZERO, &topology, &ZoneMap::default(), &batch, |_| {})
        });
    }
}

mod access {
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use divan::Bencher;
    use retracker::access::{
        Access, AccessOptions, Issuers, JwtOptions, KeySource, ListRule, RefusalWording, TorrentSet,
    };
    use retracker::forward::UpstreamProxies;
    use retracker::metrics::AccessMetrics;
    use ring::rand::SystemRandom;
    use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject as _;
    use serde_json::json;
    use tracker_protocol::{AnnounceRequest, InfoHash, announce};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn request() -> AnnounceRequest {
        let (request, _) =
            announce::parse(b"info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-TR4000-aaaaaaaaaaaa&port=1").unwrap();
        request
    }

    fn access(torrents: Option<ListRule<TorrentSet>>, jwt: Option<JwtOptions>) -> Access {
        let options = AccessOptions {
            networks: None,
            clients: None,
            torrents,
            jwt,
            registered: None,
            wording: RefusalWording::Own,
        };
        Access::new(options, UpstreamProxies::from_env(&|_: &str| None), AccessMetrics::register(None))
    }

    /// Measures the time that `admit` adds to every announce if there are no rules.
    #[divan::bench]
    fn no_rule(bencher: Bencher<'_, '_>) {
        let (access, request) = (access(None, None), request());
        bencher.bench(|| access.admit(CLIENT, divan::black_box(&request), b""));
    }

    /// Looks up random torrents, so that the processor's cache does not help. `LISTED` says whether the torrents are on
    /// the list.
    #[divan::bench(consts = [false, true])]
    fn a_list_of_a_million_torrents<const LISTED: bool>(bencher: Bencher<'_, '_>) {
        let hash = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            InfoHash(std::array::from_fn(|_| rng.u8(..)))
        };
        let hashes = (0..1_000_000).map(hash).collect();
        let (access, mut request) = (access(Some(ListRule::Deny(hashes)), None), request());
        let other = if LISTED { 0 } else { 1_000_000 };
        bencher.bench_local(|| {
            request.info_hash = hash(other + fastrand::u64(..1_000_000));
            access.admit(CLIENT, &request, b"")
        });
    }

    /// Measures what `a_list_of_a_million_torrents` does besides the look-up.
    #[divan::bench]
    fn random_torrents(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| {
            let mut rng = fastrand::Rng::with_seed(fastrand::u64(..1_000_000));
            InfoHash(std::array::from_fn(|_| rng.u8(..)))
        });
    }

    /// Returns access rules that require a token signed by an RSA key, and that key.
    fn with_key() -> (Access, RsaKeyPair) {
        let der = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("../tests/it/issuer/rsa.pem")).unwrap();
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
        let (n, e) = (BASE64.encode(public.n), BASE64.encode(public.e));
        let folder = std::env::temp_dir().join(format!("retracker-bench-{}.jwks", std::process::id()));
        fs::write(&folder, json!({ "keys": [{ "kty": "RSA", "kid": "k", "n": n, "e": e }] }).to_string()).unwrap();
        let jwt = JwtOptions {
            keys: KeySource::File(folder.clone()),
            ca: None,
            issuers: Issuers::Listed(vec!["quay".to_owned()]),
            audiences: vec!["http://tracker.example/announce".to_owned()],
            refresh: Duration::from_hours(1),
            protect_scrape: false,
            require_expiry: false,
        };
        let access = access(None, Some(jwt));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = access.keep_keys() => {}
                () = async { while access.notice().is_some() { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
            }
        });
        let _ = fs::remove_file(folder);
        (access, key)
    }

    /// Returns the query of an announce with a token. Each `number` gives another token.
    fn query(key: &RsaKeyPair, number: u32) -> Vec<u8> {
        let claims = json!({
            "iss": "quay",
            "aud": "http://tracker.example/announce",
            "infohash": "6161616161616161616161616161616161616161",
            "n": number,
        });
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "k" });
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("info_hash=aaaaaaaaaaaaaaaaaaaa&port=1&jwt={message}.{}", BASE64.encode(signature)).into_bytes()
    }

    #[divan::bench]
    fn a_remembered_token(bencher: Bencher<'_, '_>) {
        let (access, key) = with_key();
        let (query, request) = (query(&key, 0), request());
        assert!(access.admit(CLIENT, &request, &query).is_ok());
        bencher.bench(|| access.admit(CLIENT, &request, divan::black_box(&query)));
    }

    /// Takes few samples, because each call needs a new token, and signing a token takes a millisecond.
    #[divan::bench(sample_count = 3)]
    fn a_new_rs256_token(bencher: Bencher<'_, '_>) {
        let (access, key) = with_key();
        let (mut number, request) = (0, request());
        let next = || {
            number += 1;
            query(&key, number)
        };
        bencher.with_inputs(next).bench_local_values(|query| access.admit(CLIENT, &request, &query).unwrap());
    }
}
