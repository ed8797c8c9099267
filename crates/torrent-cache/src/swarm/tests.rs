//! Hosts on this machine share blobs with each other.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use sha1::{Digest as _, Sha1};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;

mod hostile;
mod limits;
mod raw;

/// More time than any step needs, even on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// The seeds of a host, by info-hash.
#[derive(Default)]
struct Shelf(Mutex<HashMap<InfoHash, Arc<SharedContent>>>);

impl SeedCatalogue for Shelf {
    fn open(&self, info_hash: InfoHash) -> Option<Arc<SharedContent>> {
        self.0.lock().get(&info_hash).cloned()
    }
}

struct TestHost {
    swarm: Arc<PeerSwarm>,
    shelf: Arc<Shelf>,
}

impl TestHost {
    fn new(number: u8) -> Self {
        let networks = vec!["127.0.0.0/8".parse().unwrap()];
        let options = PeeringOptions { ports: 0..=0, networks, peer_id: PeerId([number; 20]) };
        let shelf = Arc::<Shelf>::default();
        Self { swarm: Arc::new(PeerSwarm::start(options, Arc::clone(&shelf) as _).unwrap()), shelf }
    }

    fn address(&self) -> SocketAddr {
        self.address_on(1)
    }

    /// Returns the address 127.0.0.`last` of this host. The swarm tells hosts apart by their addresses, so a test gives
    /// each host a different address.
    fn address_on(&self, last: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 0, last), self.swarm.port()).into()
    }

    fn seed(&self, info_hash: InfoHash, blob: &[u8]) {
        let content = Arc::new(SharedContent::complete(file(blob), shape(blob), ()));
        self.shelf.0.lock().insert(info_hash, content);
    }

    async fn join(
        &self,
        blob: &[u8],
        hashes: Vec<PieceHash>,
        info_hash: InfoHash,
    ) -> (SwarmMembership, Arc<SharedContent>) {
        let is_forming = hashes.is_empty();
        let content = Arc::new(SharedContent::new(file(b""), shape(blob), hashes));
        (self.swarm.join(info_hash, Arc::clone(&content), is_forming).await.unwrap(), content)
    }
}

const INFO_HASH: InfoHash = InfoHash([7; 20]);
const SMALL: u32 = 64 * 1024;

fn shape(blob: &[u8]) -> PieceShape {
    PieceShape::new(blob.len() as u64, SMALL).unwrap()
}

fn blob(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

fn hashes(blob: &[u8]) -> Vec<PieceHash> {
    blob.chunks(SMALL as usize).map(|piece| Sha1::digest(piece).into()).collect()
}

fn file(bytes: &[u8]) -> Arc<std::fs::File> {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, bytes).unwrap();
    Arc::new(file)
}

async fn completed(content: &SharedContent) -> Vec<u8> {
    let mut progress = content.progress();
    let all = progress.wait_for(|progress| progress.pieces == content.shape().count);
    timeout(DEADLINE, all).await.expect("the blob is complete").unwrap();
    let mut bytes = vec![0; usize::try_from(content.shape().length).unwrap()];
    content.read(0, &mut bytes).unwrap();
    bytes
}

/// Waits until the counters meet a condition, because they change a moment after the content.
async fn sampled(host: &TestHost, is_such: impl Fn(SwarmSample) -> bool) {
    let wait = async {
        while !is_such(host.swarm.sample()) {
            yield_now().await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{:?}", host.swarm.sample()));
}

#[tokio::test]
async fn a_blob_goes_from_a_seed_to_several_hosts() {
    let blob = blob(3_000_001);
    let seed = TestHost::new(1);
    seed.seed(INFO_HASH, &blob);
    let hosts = [2, 3, 4].map(TestHost::new);
    let mut members = Vec::new();
    for host in &hosts {
        let member = host.join(&blob, hashes(&blob), INFO_HASH).await;
        let others = hosts.iter().filter(|other| other.swarm.port() != host.swarm.port()).map(TestHost::address);
        member.0.add_peers(others.chain([seed.address()]).collect());
        members.push(member);
    }
    for (_, content) in &members {
        assert!(completed(content).await == blob);
    }
    for host in &hosts {
        sampled(host, |sample| sample.received >= blob.len() as u64).await;
        assert_eq!(host.swarm.sample().received, blob.len() as u64);
    }
}

#[tokio::test]
async fn hosts_get_a_blob_while_the_leader_still_fetches_it() {
    let blob = blob(1_000_000);
    let hosts = [1, 2, 3].map(TestHost::new);
    let mut members = Vec::new();
    for host in &hosts {
        members.push(host.join(&blob, Vec::new(), INFO_HASH).await);
    }
    let (leader, followers) = members.split_first().unwrap();
    for (follower, _) in followers {
        follower.set_leader(Some(hosts[0].address()));
        follower.add_peers(hosts[1..].iter().map(TestHost::address).collect());
    }
    let (membership, content) = leader;
    while let Some(offset) = membership.claim(false).await.unwrap() {
        let offset = usize::try_from(offset).unwrap();
        let end = blob.len().min(offset + SMALL as usize);
        content.append(offset as u64, &blob[offset..end]).unwrap();
        // The followers must get each piece before the leader gets the next one.
        for (_, content) in followers {
            let pieces = content.progress().wait_for(|progress| progress.prefix == end as u64).await.map(|now| *now);
            assert_eq!(pieces.unwrap().prefix, end as u64);
        }
    }
    for (_, content) in &members {
        assert!(completed(content).await == blob);
        assert_eq!(content.hashes().unwrap(), hashes(&blob));
    }
}

#[tokio::test]
async fn only_the_leader_is_believed() {
    let blob = blob(500_000);
    let hosts = [1, 2, 3].map(TestHost::new);
    let liar = hosts[0].join(&blob, Vec::new(), INFO_HASH).await;
    let leader = hosts[1].join(&blob, Vec::new(), INFO_HASH).await;
    let follower = hosts[2].join(&blob, Vec::new(), INFO_HASH).await;
    while let Some(offset) = liar.0.claim(false).await.unwrap() {
        liar.1.append(offset, &vec![9; SMALL as usize]).unwrap();
    }
    follower.0.add_peers(vec![hosts[0].address_on(2)]);
    let mut status = follower.0.status();
    timeout(DEADLINE, status.wait_for(|status| status.sources == 1)).await.unwrap().unwrap();
    follower.0.set_leader(Some(hosts[1].address_on(3)));
    while let Some(offset) = leader.0.claim(false).await.unwrap() {
        let offset = usize::try_from(offset).unwrap();
        leader.1.append(offset as u64, &blob[offset..blob.len().min(offset + SMALL as usize)]).unwrap();
    }
    assert!(completed(&follower.1).await == blob);
}
