//! A simulated instance: the announces that it has heard and not written yet, and how far it has read each log.

use std::collections::VecDeque;
use std::time::Duration;

use redis::{Connection, Value};
use retracker::clock::Timestamp;
use retracker::share::{
    MAX_RECORDS, PARTITIONS, Partition, PendingBatch, PendingRecords, RecordBatch, SharedRecord, fingerprint,
};

use super::clients::SharedAnnounce;
use super::fleet::MOST_BATCHES;

/// The most batches for one log that are taken at once from the waiting records.
const MOST_TAKEN: usize = 64;

/// The bytes of a batch before its records.
const HEAD: usize = 26;
/// The bytes of the record of an IPv4 peer.
const RECORD: usize = 51;

/// The id of the last entry of a log that was read.
pub(crate) type LogPosition = Vec<u8>;

/// An instance of the tracker.
pub(crate) struct SimulatedInstance {
    pub(crate) connection: Connection,
    /// The announces that the instance will hear and must share.
    pub(crate) announces: VecDeque<SharedAnnounce>,
    /// How far the instance has read each log.
    pub(crate) positions: [LogPosition; PARTITIONS],
    pub(crate) written_records: u64,
    number: u64,
    pending: PendingRecords,
    unsent: VecDeque<(Partition, PendingBatch)>,
    sequence: u32,
}

/// What an instance has read.
#[derive(Default)]
pub(crate) struct FleetNews {
    /// The batches of other instances.
    pub(crate) batches: Vec<Vec<u8>>,
    /// Whether a log may have more batches to read.
    pub(crate) is_behind: bool,
}

impl SimulatedInstance {
    pub(crate) fn new((connection, number): (Connection, u64)) -> Self {
        Self {
            connection,
            announces: VecDeque::new(),
            positions: std::array::from_fn(|_| b"0".to_vec()),
            written_records: 0,
            number,
            pending: PendingRecords::default(),
            unsent: VecDeque::new(),
            sequence: 0,
        }
    }

    /// Hears all announces up to `now`. `record` makes the record that is to be written.
    pub(crate) fn hear_until(&mut self, now: Duration, record: impl Fn(SharedAnnounce) -> SharedRecord) {
        while let Some(announce) = self.announces.pop_front_if(|next| Duration::from_millis(next.at.into()) <= now) {
            let heard = Timestamp::after(Duration::from_millis(announce.at.into()));
            assert!(!self.pending.push(heard, record(announce)), "records were dropped for lack of room");
        }
    }

    /// Returns the batches to write now. Takes more of the waiting records only when all earlier batches are written.
    pub(crate) fn take_batches(&mut self, now: Duration) -> Vec<(Partition, Vec<u8>)> {
        if self.unsent.is_empty() {
            for partition in Partition::all() {
                let taken = self.pending.take(partition, MOST_TAKEN);
                self.unsent.extend(taken.into_iter().map(|batch| (partition, batch)));
            }
        }
        let mut room = MOST_BATCHES * MAX_RECORDS;
        let mut batches = Vec::new();
        while let Some((partition, batch)) = self.unsent.pop_front_if(|_| room > 0) {
            room = room.saturating_sub(batch.records.len());
            self.written_records += batch.records.len() as u64;
            let mut bytes = Vec::new();
            batch.seal(Timestamp::after(now), self.number, self.sequence, fingerprint([])).encode(&mut bytes);
            self.sequence = self.sequence.wrapping_add(1);
            batches.push((partition, bytes));
        }
        batches
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads the reply to `XREAD`, and notes how far each log is read. Leaves out batches that this instance has
    /// written.
    pub(crate) fn read(&mut self, reply: &Value) -> FleetNews {
        let mut news = FleetNews::default();
        for log in items(reply) {
            let [key, entries] = items(log) else { panic!("no log: {log:?}") };
            let number =
                String::from_utf8_lossy(bytes(key)).split(['{', '}']).nth(1).unwrap().parse::<usize>().unwrap();
            let entries = items(entries);
            news.is_behind |= entries.len() >= MOST_BATCHES;
            for entry in entries {
                let [id, fields] = items(entry) else { panic!("no entry: {entry:?}") };
                let [_, batch] = items(fields) else { panic!("no batch: {fields:?}") };
                let batch = bytes(batch);
                self.positions[number] = bytes(id).to_vec();
                if RecordBatch::writer(batch) != Some(self.number) {
                    news.batches.push(batch.to_vec());
                }
            }
        }
        news
    }

    /// Returns how many records a batch contains.
    pub(crate) fn records_in(batch: &[u8]) -> usize {
        batch.len().saturating_sub(HEAD) / RECORD
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Nil => &[],
        other => panic!("no array: {other:?}"),
    }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        other => panic!("no string: {other:?}"),
    }
}
