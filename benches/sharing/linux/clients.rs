//! Simulates the announces of the peers. The real `ShareGate` decides which of them are shared.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use load::crowd::{CrowdPeer, info_hash};
use retracker::clock::Timestamp;
use retracker::share::{EngineTime, ShareGate, SharedRecord};
use retracker::store::{Hearing, PeerChange, PeerNews, PeerRecord};
use tracker_protocol::{InfoHash, PeerId, Role};

use super::scenario::{GrowthScenario, MOST_INSTANCES, PEER_AGE};

/// What the clock of the Redis shows at the start of the simulation, in milliseconds since 1970: an arbitrary
/// time, which is no multiple of the peer age or of an interval.
const ENGINE_START: u64 = 1_764_293_371_123;

const THREADS: u64 = 2;

/// An announce that is shared.
#[derive(Clone, Copy)]
pub(crate) struct SharedAnnounce {
    /// Milliseconds since the beginning of the window.
    pub(crate) at: u32,
    pub(crate) instance: usize,
    pub(crate) peer: u64,
}

/// The announces within a window of time.
#[derive(Default)]
pub(crate) struct AnnounceWindow {
    /// How many announces there are, shared or not.
    pub(crate) announces: u64,
    /// The announces that are shared, the earliest first.
    pub(crate) shared: Vec<SharedAnnounce>,
}

impl AnnounceWindow {
    /// Simulates all peers. The window begins after a quarter of the peer age and the longest pause between two
    /// announces of a peer. By then, the start of the simulation has no effect on what is shared.
    pub(crate) fn simulate(scenario: GrowthScenario, length: Duration) -> Self {
        let part = scenario.peers.div_ceil(THREADS);
        let parts = (0..THREADS).map(|n| n * part..((n + 1) * part).min(scenario.peers));
        let parts: Vec<Self> = thread::scope(|scope| {
            let threads: Vec<_> =
                parts.map(|peers| scope.spawn(|| GrowingCrowd::new(scenario, length).announce(peers))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut all = Self::default();
        for part in parts {
            all.announces += part.announces;
            all.shared.extend(part.shared);
        }
        all.shared.sort_unstable_by_key(|shared| (shared.at, shared.peer));
        all
    }
}

/// Returns the record that an instance writes about this announce.
///
/// The field `downloaded` does not count downloads here. It holds the time of the announce in milliseconds, so that the
/// receiver can compute how late the record is.
pub(crate) fn record(scenario: GrowthScenario, SharedAnnounce { at, peer, .. }: SharedAnnounce) -> SharedRecord {
    let swarm = scenario.swarm(peer);
    let crowd_peer = CrowdPeer::new(swarm, peer);
    let address = endpoint(peer);
    let news = PeerNews::Stays {
        port: address.port().try_into().unwrap(),
        role: if crowd_peer.is_seed() { Role::Seed } else { Role::Leecher },
        completed: false,
    };
    let peer_id = PeerId(crowd_peer.params().id);
    let peer = PeerRecord { ip: address.ip(), is_claim: false, peer_id, news, downloaded: at };
    SharedRecord { info_hash: InfoHash(info_hash(swarm)), zone: None, peer }
}

/// Returns the address and the port of a peer. Each of up to 1,000,000,000 peers has a public IP address of its own.
fn endpoint(peer: u64) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(0x1000_0000 + peer as u32);
    SocketAddr::new(ip.into(), 10_000 + (peer % 50_000) as u16)
}

/// Simulates peers one after the other. The gate decides by the announces of one peer, so peers do not affect each
/// other.
struct GrowingCrowd {
    scenario: GrowthScenario,
    gate: ShareGate,
    /// Milliseconds between two announces of a peer.
    interval: u64,
    /// When the window begins and ends, in milliseconds since the start of the simulation.
    begin: u64,
    end: u64,
    resync: Option<Timestamp>,
    window: AnnounceWindow,
}

impl GrowingCrowd {
    fn new(scenario: GrowthScenario, length: Duration) -> Self {
        let interval = scenario.interval.as_millis() as u64;
        let begin = longest_pause(interval) + (PEER_AGE / 4).as_millis() as u64;
        Self {
            scenario,
            gate: ShareGate::new(PEER_AGE),
            interval,
            begin,
            end: begin + length.as_millis() as u64,
            resync: scenario.after_loss.then_some(timestamp(begin)),
            window: AnnounceWindow::default(),
        }
    }

    fn announce(mut self, peers: std::ops::Range<u64>) -> AnnounceWindow {
        peers.for_each(|peer| self.announce_one(peer));
        self.window
    }

    /// Lets one peer announce until the end of the window. The simulation assumes that all instances know a shared
    /// announce at once. In a real fleet, its record arrives a little later, but long before the peer's next announce.
    fn announce_one(&mut self, peer: u64) {
        let endpoint = endpoint(peer);
        let mut random = Rng::with_seed(peer);
        // The time when each instance last heard of the peer.
        let mut seen = [None; MOST_INSTANCES];
        let seen = &mut seen[..self.scenario.instances];
        let mut now = random.u64(..self.interval);
        for announce in 0.. {
            if now >= self.end {
                break;
            }
            let instance = self.scenario.instance(peer, announce, &mut random);
            let silence = seen[instance].map(|seen| Duration::from_millis(now - seen));
            let change = (announce == 0).then_some(PeerChange::Joined);
            let hearing = Hearing { at: timestamp(now), silence, change };
            let reason = self.gate.reason(&hearing, EngineTime(ENGINE_START + now), endpoint, self.resync_at(now));
            if reason.is_some() {
                seen.fill(Some(now));
            } else {
                seen[instance] = Some(now);
            }
            if now >= self.begin {
                self.window.announces += 1;
                if reason.is_some() {
                    self.window.shared.push(SharedAnnounce { at: (now - self.begin) as u32, instance, peer });
                }
            }
            now += self.interval - self.interval / 20 + random.u64(..=self.interval / 10);
        }
    }

    /// Returns the time when the Redis lost its records; `None` before that time, or without a loss.
    fn resync_at(&self, now: u64) -> Option<Timestamp> {
        self.resync.filter(|_| now >= self.begin)
    }
}

fn longest_pause(interval: u64) -> u64 {
    interval + interval / 20
}

fn timestamp(millis: u64) -> Timestamp {
    Timestamp::after(Duration::from_millis(millis))
}
