//! An instance that applies the records of the others, and is measured.

use std::time::Duration;

use load::figures::Spread;
use load::machine::thread_cpu_time;
use retracker::clock::Timestamp;
use retracker::share::{MAX_RECORDS, RecordBatch, ZoneMap, receive};
use retracker::store::{Store, StoreOptions};
use retracker::topology::Topology;

use super::clients::{self, SharedAnnounce};
use super::scenario::{GrowthScenario, PEER_AGE};

/// How many peers the store has from the start. They do not fit into the caches of the CPU.
const KNOWN: u64 = 1_000_000;

/// How long the instance had been running when the window began.
const UPTIME: Duration = Duration::from_hours(4);

/// Applies the records of the other instances. Measures how late each record is, and the CPU time that it takes.
pub(crate) struct MeasuredReceiver {
    store: Store,
    topology: Topology,
    records: u64,
    /// CPU time that was used to apply records.
    applied_in: Duration,
    /// CPU time that the whole instance used.
    pub(crate) busy: Duration,
    /// How late each record was, in milliseconds.
    lags: Vec<f64>,
}

impl MeasuredReceiver {
    /// Makes an instance that already knows the peers of all shared announces, and the first [`KNOWN`] peers.
    pub(crate) fn new(scenario: GrowthScenario, shared: &[SharedAnnounce]) -> Self {
        let announce_interval = Duration::from_secs(30);
        let store = Store::new(StoreOptions { peer_age: PEER_AGE, announce_interval, max_peers: 1 << 30 }).shared();
        let (topology, none) = (Topology::default(), Duration::ZERO);
        let receiver = Self { store, topology, records: 0, applied_in: none, busy: none, lags: Vec::new() };
        let known = shared.iter().map(|shared| shared.peer).chain(0..KNOWN.min(scenario.peers));
        let known: Vec<_> = known.map(|peer| SharedAnnounce { at: 0, instance: 0, peer }).collect();
        for batch in known.chunks(MAX_RECORDS) {
            let records = batch.iter().map(|announce| clients::record(scenario, *announce)).collect();
            receiver.apply(Duration::ZERO, PEER_AGE / 4, &RecordBatch { records, ..empty() });
        }
        receiver
    }

    /// Applies batches. Begins at `now`, a time since the start of the window. Returns the time when all are applied.
    pub(crate) fn receive(&mut self, now: Duration, batches: &[Vec<u8>]) -> Duration {
        let start = thread_cpu_time();
        let mut heard = Vec::new();
        for bytes in batches {
            let batch = RecordBatch::decode(bytes).unwrap().batch;
            self.apply(now, batch.age, &batch);
            heard.extend(batch.records.iter().map(|record| record.peer.downloaded));
        }
        let taken = thread_cpu_time().saturating_sub(start);
        let end = now + taken;
        self.applied_in += taken;
        self.busy += taken;
        self.records += heard.len() as u64;
        self.lags.extend(heard.into_iter().map(|heard| end.as_secs_f64() * 1000.0 - f64::from(heard)));
        end
    }

    fn apply(&self, now: Duration, ago: Duration, batch: &RecordBatch) {
        let now = Timestamp::after(UPTIME + now);
        let receipt = receive(&self.store, now, ago, &self.topology, &ZoneMap::default(), batch, |_| {});
        assert_eq!(receipt.recorded + receipt.outdated, batch.records.len(), "{receipt:?}");
    }

    /// Returns the average CPU time to apply one record.
    pub(crate) fn applying(&self) -> Duration {
        self.applied_in.checked_div(self.records as u32).unwrap_or_default()
    }

    /// Returns the median lag and the longest lag, in milliseconds.
    pub(crate) fn lag(&self) -> (f64, f64) {
        if self.lags.is_empty() {
            return (0.0, 0.0);
        }
        (Spread::of(self.lags.iter().copied()).median, self.lags.iter().copied().fold(0.0, f64::max))
    }
}

fn empty() -> RecordBatch {
    RecordBatch { flags: 0, instance: 0, sequence: 0, age: Duration::ZERO, zones_fingerprint: 0, records: Vec::new() }
}
