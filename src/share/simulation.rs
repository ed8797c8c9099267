//! Tests of several instances with a simulated log, in simulated time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{EngineTime, Faults, Partition, RecordBatch, ShareGate, SharedSwarms, ZoneMap, ago, fingerprint, receive};
use crate::clock::Timestamp;
use crate::store::{Action, Announcement, Store, StoreOptions};
use crate::topology::{Topology, ZonedIp};
use tracker_protocol::{InfoHash, PeerId, Role, SwarmCounts};

/// What the engine's clock shows at the start.
const ENGINE_START: u64 = 1_764_293_371_123;

/// How often the loop of an instance runs, in milliseconds.
const TICK: u64 = 100;

const INTERVAL: u64 = 30_000;

/// The least time between two announces of one client. If two announces were less than a second apart, the instances
/// might not agree on which announce was the last.
const PAUSE: u64 = 1500;

/// An instance. It knows the time only by its own clock, which started when the instance did.
struct Instance {
    store: Store,
    shared: SharedSwarms,
    /// How long the instance had been running at the start of the simulation, in milliseconds.
    uptime: u64,
    written: u32,
}

/// What the log does with batches on the way.
#[derive(Clone, Copy)]
struct LogFaults {
    /// An eighth of the batches gets lost for all instances. Half of the batches get lost for one instance.
    loses: bool,
    /// A batch comes up to three times.
    repeats: bool,
    /// A batch comes at most this many milliseconds late. So a later batch may come before an earlier batch.
    longest_delay: u64,
}

const RELIABLE: LogFaults = LogFaults { loses: false, repeats: false, longest_delay: 0 };

/// A batch in the log.
struct LogEntry {
    writer: usize,
    id: EngineTime,
    bytes: Vec<u8>,
}

struct Fleet {
    /// Milliseconds since the start.
    now: u64,
    instances: Vec<Instance>,
    faults: LogFaults,
    log: Vec<LogEntry>,
    /// The reads that are still to come: the moment, the instance that reads, and the entry. An instance may read an entry
    /// several times, or never.
    reads: BinaryHeap<Reverse<(u64, usize, usize)>>,
    rng: Rng,
    topology: Topology,
}

/// A client of one torrent.
#[derive(Clone, Copy, Debug)]
struct SharedClient {
    number: u8,
    role: Role,
    is_live: bool,
    /// When the client announced last.
    announced: u64,
}

impl SharedClient {
    fn new(number: u8) -> Self {
        Self { number, role: Role::Leecher, is_live: false, announced: 0 }
    }

    fn info_hash(self) -> InfoHash {
        torrent(self.number)
    }

    fn address(self) -> SocketAddr {
        let n = u32::from(self.number);
        let ip: IpAddr = if self.number.is_multiple_of(2) {
            Ipv4Addr::from_bits(0x0a00_0001 + n).into()
        } else {
            Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)).into()
        };
        SocketAddr::new(ip, 6881)
    }

    fn announcement(self, action: Action, started: bool) -> Announcement {
        let address = self.address();
        Announcement {
            place: ZonedIp { ip: address.ip(), zone: None },
            is_claim: false,
            outside: None,
            source: address.ip(),
            port: NonZeroU16::new(address.port()),
            peer_id: PeerId([self.number; 20]),
            role: self.role,
            started,
            action,
            want: 0,
            ids: false,
        }
    }
}

/// Returns the torrent of a client. There are three torrents, in different logs.
fn torrent(client: u8) -> InfoHash {
    InfoHash([client % 3 * 0x41; 20])
}

/// What the tests compare of a peer: the torrent, the address, and whether the peer is a seed.
type ListedAt = (InfoHash, SocketAddr, bool);

impl Fleet {
    fn new(uptimes: &[u64], peer_age: Duration, seed: u64) -> Self {
        let topology = Topology::default();
        let mut fleet = Self {
            now: 0,
            instances: Vec::new(),
            faults: RELIABLE,
            log: Vec::new(),
            reads: BinaryHeap::new(),
            rng: Rng::with_seed(seed),
            topology,
        };
        uptimes.iter().for_each(|uptime| fleet.start(*uptime, peer_age));
        fleet
    }

    /// Starts an instance. Its idea of the engine's time is off by up to 300 ms.
    fn start(&mut self, uptime: u64, peer_age: Duration) {
        let announce_interval = Duration::from_millis(INTERVAL);
        let store = Store::new(StoreOptions { peer_age, announce_interval, max_peers: 10_000 }).shared();
        let instance = Instance { store, shared: SharedSwarms::new(peer_age), uptime, written: 0 };
        let engine = EngineTime(self.engine_now().0 + self.rng.u64(..300));
        instance.shared.align(self.clock_of(&instance), engine);
        self.instances.push(instance);
    }

    fn engine_now(&self) -> EngineTime {
        EngineTime(ENGINE_START + self.now)
    }

    fn clock_of(&self, instance: &Instance) -> Timestamp {
        Timestamp::after(Duration::from_millis(instance.uptime + self.now))
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += TICK.min(end - self.now);
            self.write();
            self.read();
        }
    }

    /// Writes the records that wait at each instance into the log.
    fn write(&mut self) {
        for writer in 0..self.instances.len() {
            let instance = &self.instances[writer];
            if instance.shared.pending().pending() == 0 {
                continue;
            }
            let now = self.clock_of(instance);
            let batches: Vec<_> =
                Partition::all().flat_map(|partition| instance.shared.pending().take(partition, 64)).collect();
            for batch in batches {
                let sequence = self.instances[writer].written;
                self.instances[writer].written += 1;
                let mut bytes = Vec::new();
                batch.seal(now, writer as u64, sequence, fingerprint([])).encode(&mut bytes);
                self.append(LogEntry { writer, id: self.engine_now(), bytes });
            }
        }
    }

    fn append(&mut self, entry: LogEntry) {
        let LogFaults { loses, repeats, longest_delay } = self.faults;
        let is_lost = loses && self.rng.u8(..8) == 0;
        let misses = (loses && self.rng.bool()).then(|| self.rng.usize(..self.instances.len()));
        for reader in (0..self.instances.len()).filter(|reader| *reader != entry.writer && Some(*reader) != misses) {
            let times = if repeats { self.rng.u8(1..4) } else { 1 };
            for _ in 0..times {
                let at = self.now + self.rng.u64(..=longest_delay);
                self.reads.push(Reverse((at, reader, self.log.len())));
            }
        }
        if is_lost {
            self.reads.retain(|Reverse((_, _, at))| *at != self.log.len());
        }
        self.log.push(entry);
    }

    /// Applies the entries that are to be read by now.
    fn read(&mut self) {
        while let Some(Reverse((at, reader, entry))) = self.reads.peek().copied() {
            if at > self.now {
                break;
            }
            self.reads.pop();
            self.apply(reader, entry);
        }
    }

    fn apply(&self, reader: usize, entry: usize) {
        let Instance { store, shared, .. } = &self.instances[reader];
        let LogEntry { id, bytes, .. } = &self.log[entry];
        let now = self.clock_of(&self.instances[reader]);
        let decoded = RecordBatch::decode(bytes).unwrap();
        assert_eq!(decoded.faults, Faults::default());
        let ago = ago(shared.engine_time(now), *id, decoded.batch.age);
        let receipt = receive(store, now, ago, &self.topology, &ZoneMap::default(), &decoded.batch, |_| {});
        let done = receipt.recorded + receipt.left + receipt.outdated + receipt.expired;
        assert_eq!(done, decoded.batch.records.len(), "{receipt:?}");
    }

    /// Lets a client announce at an instance, at least [`PAUSE`] after its previous announce.
    fn announces_at(&mut self, instance: usize, client: &mut SharedClient, action: Action) -> SwarmCounts {
        let since = self.now - client.announced;
        if client.announced > 0 && since < PAUSE {
            self.run(PAUSE - since);
        }
        let started = !client.is_live && action != Action::Leave;
        client.announced = self.now;
        client.is_live = action != Action::Leave;
        if action == (Action::Stay { completed: true }) {
            client.role = Role::Seed;
        }
        let announcement = client.announcement(action, started);
        let instance = &self.instances[instance];
        let now = self.clock_of(instance);
        let selection = instance.store.announce(now, &self.topology, client.info_hash(), &announcement);
        instance.shared.heard(now, client.info_hash(), &announcement, &selection);
        selection.counts
    }

    /// Lets each live client announce once within an interval, at a random instance.
    fn interval_passes(&mut self, clients: &mut [SharedClient]) {
        let end = self.now + INTERVAL;
        self.rng.shuffle(clients);
        for client in clients.iter_mut().filter(|client| client.is_live) {
            let pause = self.rng.u64(..INTERVAL / 10);
            self.run(pause);
            let instance = self.rng.usize(..self.instances.len());
            self.announces_at(instance, client, STAYS);
        }
        self.run(end.saturating_sub(self.now));
    }

    fn peers_of(&self, instance: usize) -> BTreeSet<ListedAt> {
        let instance = &self.instances[instance];
        let now = self.clock_of(instance);
        let mut peers = BTreeSet::new();
        for info_hash in (0..3).map(torrent) {
            let listing = instance.store.list(now, &self.topology, info_hash);
            for peer in listing.into_iter().flat_map(|listing| listing.peers).filter(|peer| !peer.is_expired) {
                peers.insert((info_hash, peer.address, peer.role == Role::Seed));
            }
        }
        peers
    }
}

const STAYS: Action = Action::Stay { completed: false };
const COMPLETES: Action = Action::Stay { completed: true };

/// Returns the peers of the live clients.
fn live(clients: &[SharedClient]) -> BTreeSet<ListedAt> {
    let live = clients.iter().filter(|client| client.is_live);
    live.map(|client| (client.info_hash(), client.address(), client.role == Role::Seed)).collect()
}

/// One step of a test: the number of the client, what the client does, at which instance, and after how many
/// milliseconds.
type Step = (u8, u8, Index, u64);

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0..6_u8, 0..8_u8, any::<Index>(), 0..4000_u64), 1..40)
}

/// Returns for how many milliseconds each instance has been running: up to some hours.
fn any_uptimes() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0..10_000_000_u64, 2..=8)
}

fn play(fleet: &mut Fleet, steps: Vec<Step>) -> Vec<SharedClient> {
    let mut clients: Vec<_> = (0..6).map(SharedClient::new).collect();
    for (client, what, instance, pause) in steps {
        fleet.run(pause);
        let action = match what {
            0 | 1 => Action::Leave,
            2 => COMPLETES,
            _ => STAYS,
        };
        let instance = instance.index(fleet.instances.len());
        fleet.announces_at(instance, &mut clients[usize::from(client)], action);
    }
    clients
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn after_one_interval_all_stores_are_equal(
        seed: u64, uptimes in any_uptimes(), steps in any_steps(), hours in 1..4_u64, longest_delay in 0..20_000_u64,
    ) {
        let mut fleet = Fleet::new(&uptimes, Duration::from_hours(hours), seed);
        fleet.faults = LogFaults { repeats: true, longest_delay, ..RELIABLE };
        let mut clients = play(&mut fleet, steps);
        fleet.interval_passes(&mut clients);
        fleet.run(longest_delay + TICK);
        for instance in 0..fleet.instances.len() {
            prop_assert_eq!(fleet.peers_of(instance), live(&clients), "instance {}", instance);
        }
    }

    #[test]
    fn one_interval_after_a_loss_each_live_peer_is_everywhere(
        seed: u64, uptimes in any_uptimes(), steps in any_steps(), longest_delay in 0..5000_u64,
    ) {
        let peer_age = Duration::from_mins(10);
        let mut fleet = Fleet::new(&uptimes, peer_age, seed);
        fleet.faults = LogFaults { loses: true, repeats: true, longest_delay };
        let mut clients = play(&mut fleet, steps);
        fleet.run(TICK);
        fleet.faults.loses = false;
        for instance in &fleet.instances {
            instance.shared.resync(fleet.clock_of(instance));
        }
        fleet.interval_passes(&mut clients);
        fleet.run(longest_delay + TICK);
        for instance in 0..fleet.instances.len() {
            let peers = fleet.peers_of(instance);
            prop_assert!(live(&clients).is_subset(&peers), "instance {}: {:?}", instance, peers);
        }
        // If the record of a leave is lost, no instance shares the leave again. The peer stays until it expires.
        for _ in 0..peer_age.as_secs() / 30 {
            fleet.interval_passes(&mut clients);
        }
        for instance in 0..fleet.instances.len() {
            prop_assert_eq!(fleet.peers_of(instance), live(&clients), "instance {}", instance);
        }
    }

    #[test]
    fn a_client_that_alternates_counts_once_and_is_shared_by_one_instance(
        seed: u64, uptimes in any_uptimes(), completes_at in 0..300_u64, client: u8,
    ) {
        let peer_age = Duration::from_hours(1);
        let mut fleet = Fleet::new(&uptimes, peer_age, seed);
        let mut client = SharedClient::new(client);
        let rounds = 300;
        let count = uptimes.len() as u64;
        for round in 0..rounds {
            let action = if round == completes_at { COMPLETES } else { STAYS };
            let instance = usize::try_from(round % count).unwrap();
            let counts = fleet.announces_at(instance, &mut client, action);
            let is_done = u32::from(round >= completes_at);
            let expected =
                SwarmCounts { complete: is_done, incomplete: 1 - is_done, partial_seeds: 0, downloaded: is_done };
            prop_assert_eq!(counts, expected, "round {}", round);
            // Within two ticks, the other instances hear of the announce and have the same counts.
            fleet.run(2 * TICK);
            for instance in &fleet.instances {
                let counts = instance.store.counts(client.info_hash());
                prop_assert_eq!(counts, expected, "round {}", round);
            }
            fleet.run(INTERVAL - 2 * TICK);
        }
        // The log has the join, the completion, and one record for each quarter of an hour. It may have a second record
        // for a quarter if the client announces close to its boundary, because the instances may then not agree on which
        // announce was the first.
        let quarters = rounds * INTERVAL / 900_000;
        prop_assert!((quarters..=2 * quarters + 4).contains(&(fleet.log.len() as u64)), "{} records", fleet.log.len());
    }

    #[test]
    fn a_new_instance_has_all_peers_when_it_has_read_what_the_log_keeps(
        seed: u64, uptimes in any_uptimes(), minutes in 1..30_u64,
    ) {
        let (peer_age, interval) = (Duration::from_hours(3), Duration::from_mins(minutes));
        let mut fleet = Fleet::new(&uptimes, peer_age, seed);
        let mut clients: Vec<_> = (0..20).map(SharedClient::new).collect();
        let mut due: BinaryHeap<_> = (0..clients.len()).map(|client| Reverse((1 + client as u64, client))).collect();
        // The clients announce for longer than a peer age.
        while let Some(Reverse((at, client))) = due.pop().filter(|Reverse((at, _))| *at < 20_000_000) {
            // The instances write and read only when there is something new.
            fleet.now = fleet.now.max(at);
            let instance = fleet.rng.usize(..fleet.instances.len());
            fleet.announces_at(instance, &mut clients[client], STAYS);
            fleet.write();
            fleet.read();
            let pause = fleet.rng.u64(minutes * 30_000..=minutes * 60_000);
            due.push(Reverse((fleet.now + PAUSE + pause, client)));
        }
        fleet.start(0, peer_age);
        let newest = fleet.instances.len() - 1;
        let retention = ShareGate::retention(peer_age, interval).as_millis();
        let oldest = fleet.engine_now().0 - u64::try_from(retention).unwrap();
        for entry in (0..fleet.log.len()).filter(|entry| fleet.log[*entry].id.0 >= oldest) {
            fleet.apply(newest, entry);
        }
        for instance in 0..=newest {
            prop_assert_eq!(fleet.peers_of(instance), live(&clients), "instance {}", instance);
        }
    }
}

#[test]
fn a_stop_at_one_instance_removes_the_peer_at_the_others() {
    // The second instance has been running for an hour longer.
    let mut fleet = Fleet::new(&[5000, 3_605_000], Duration::from_hours(3), 1);
    let mut client = SharedClient::new(1);
    fleet.announces_at(0, &mut client, STAYS);
    fleet.run(2 * TICK);
    assert_eq!([0, 1].map(|instance| fleet.peers_of(instance).len()), [1, 1]);
    fleet.announces_at(1, &mut client, Action::Leave);
    fleet.run(2 * TICK);
    assert_eq!([0, 1].map(|instance| fleet.peers_of(instance).len()), [0, 0]);
}

#[test]
fn two_clients_that_complete_at_the_same_time_at_two_instances_count_twice() {
    let mut fleet = Fleet::new(&[0, 3_600_000, 7_200_000], Duration::from_hours(3), 1);
    let mut clients = [0, 3].map(SharedClient::new);
    for (instance, client) in clients.iter_mut().enumerate() {
        fleet.announces_at(instance, client, STAYS);
    }
    fleet.run(2 * PAUSE);
    fleet.faults.longest_delay = 1000;
    for (instance, client) in clients.iter_mut().enumerate() {
        fleet.announces_at(instance, client, COMPLETES);
    }
    fleet.run(2000);
    for instance in &fleet.instances {
        let counts = instance.store.counts(torrent(0));
        assert_eq!((counts.complete, counts.incomplete, counts.downloaded), (2, 0, 2));
    }
}

#[test]
fn a_client_that_starts_again_before_its_stop_is_known_is_everywhere() {
    // In each run, the log delays the record of `stopped` by a different time.
    for seed in 0..50 {
        let mut fleet = Fleet::new(&[0, 3_600_000, 7_200_000], Duration::from_hours(3), seed);
        let mut client = SharedClient::new(1);
        fleet.announces_at(1, &mut client, STAYS);
        fleet.run(2 * PAUSE);
        fleet.faults.longest_delay = 20_000;
        fleet.announces_at(0, &mut client, Action::Leave);
        // For the second instance, the client has not left yet.
        fleet.announces_at(1, &mut client, STAYS);
        fleet.run(20_000 + TICK);
        assert_eq!([0, 1, 2].map(|instance| fleet.peers_of(instance).len()), [1, 1, 1], "{seed}");
    }
}
