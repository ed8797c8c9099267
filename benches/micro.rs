//! The time of each part of an announce, without the kernel: shows which part a change has made slower.
//!
//! ```text
//! cargo bench --bench micro
//! cargo bench --bench micro -- store
//! ```

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a benchmark may fail")]

/// Calls that are timed together, because a single one takes little longer than reading the clock.
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

    /// As qBittorrent sends it.
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

    /// Into a buffer that is reused, as workers do.
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
        // Two digits each, so that all addresses have the same length.
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

    /// Also from two threads at once: workers share the store.
    #[divan::bench(threads = [1, 2])]
    fn announce_in_10k_swarms_of_5(bencher: Bencher<'_, '_>) {
        announce(bencher, 10_000, 5);
    }

    #[divan::bench]
    fn announce_in_a_swarm_of_100k(bencher: Bencher<'_, '_>) {
        announce(bencher, 1, 100_000);
    }

    /// Reads the counts and writes the reply.
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

    /// An announce of a peer that is in the swarm already, as most are.
    fn announce(bencher: Bencher<'_, '_>, swarms: u32, peers: u32) {
        let store = filled(swarms, peers);
        bencher.bench(|| {
            let (swarm, peer) = (fastrand::u32(..swarms), fastrand::u32(..peers));
            store.announce(now(), &Topology::default(), info_hash(swarm), &announcement(peer, 30))
        });
    }

    fn filled(swarms: u32, peers: u32) -> Store {
        let (peer_age, announce_interval) = (Duration::from_hours(3), Duration::from_secs(30));
        let store = Store::new(StoreOptions { peer_age, announce_interval, max_peers: 2_000_000 });
        for swarm in 0..swarms {
            for peer in 0..peers {
                store.announce(now(), &Topology::default(), info_hash(swarm), &announcement(peer, 0));
            }
        }
        store
    }

    fn now() -> Timestamp {
        Timestamp::after(Duration::from_secs(1))
    }

    fn info_hash(swarm: u32) -> InfoHash {
        let mut hash = [0; 20];
        fastrand::Rng::with_seed(swarm.into()).fill(&mut hash);
        InfoHash(hash)
    }

    fn announcement(peer: u32, want: usize) -> Announcement {
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
            // One in three is a seed.
            role: if peer.is_multiple_of(3) { Role::Seed } else { Role::Leecher },
            action: Action::Stay { completed: false },
            want,
            ids: false,
        }
    }
}
