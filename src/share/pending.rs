//! The records that wait to be written into the logs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::batch::{MAX_RECORDS, RecordBatch, SharedRecord};
use crate::clock::Timestamp;
use tracker_protocol::InfoHash;

/// The number of logs.
pub const PARTITIONS: usize = 16;

/// The most records that wait. They take 64 MiB.
const MOST_PENDING: usize = (64 << 20) / size_of::<SharedRecord>();

/// One call of [`PendingRecords::take`] takes no further batch when it has taken this many records.
const MOST_TAKEN: usize = 8 * MAX_RECORDS;

/// A batch contains only records that were heard within this many tenths of a second, because all records of a batch
/// count as heard at the same moment. The limit matters only while the engine is away. Otherwise, batches are written
/// more often.
const SPAN: u32 = 10;

/// One of the logs. All records of a torrent are in the same log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Partition(u8);

impl Partition {
    /// Returns the log of a torrent.
    pub fn of(info_hash: InfoHash) -> Self {
        let [first, ..] = info_hash.0;
        Self(first >> 4)
    }

    /// Yields all logs.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..16).map(Self)
    }

    /// Returns the number of the log, which is below [`PARTITIONS`].
    pub fn number(self) -> usize {
        self.0.into()
    }
}

/// The records that wait to be written into the logs, by log. Their number is bounded: if the engine is away for too
/// long, old records are dropped.
#[derive(Debug)]
pub struct PendingRecords {
    logs: [Mutex<VecDeque<PendingBatch>>; PARTITIONS],
    most: usize,
    pending: AtomicUsize,
    lost: AtomicU64,
}

/// Records that will be one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingBatch {
    /// When the first record was heard.
    pub heard: Timestamp,
    /// The records, in the order in which they were heard; at most [`MAX_RECORDS`].
    pub records: Vec<SharedRecord>,
}

impl PendingBatch {
    /// Returns the batch to write at `now`. `sequence` is its number among the batches of the instance.
    pub fn seal(self, now: Timestamp, instance: u64, sequence: u32, zones_fingerprint: u64) -> RecordBatch {
        let tenths = now.tenths().saturating_sub(self.heard.tenths());
        let age = Duration::from_millis(u64::from(tenths) * 100);
        RecordBatch { flags: 0, instance, sequence, age, zones_fingerprint, records: self.records }
    }
}

impl Default for PendingRecords {
    fn default() -> Self {
        Self::with_room_for(MOST_PENDING)
    }
}

impl PendingRecords {
    /// Makes an empty value with room for this many records.
    fn with_room_for(most: usize) -> Self {
        let logs = std::array::from_fn(|_| Mutex::default());
        Self { logs, most, pending: AtomicUsize::new(0), lost: AtomicU64::new(0) }
    }

    /// Appends a record. Returns whether older records had to be dropped.
    pub fn push(&self, now: Timestamp, record: SharedRecord) -> bool {
        let partition = Partition::of(record.info_hash);
        let Some(log) = self.logs.get(partition.number()) else { return false };
        let mut log = log.lock();
        let is_open = |last: &&mut PendingBatch| {
            last.records.len() < MAX_RECORDS && now.tenths().saturating_sub(last.heard.tenths()) < SPAN
        };
        match log.back_mut().filter(is_open) {
            Some(last) => last.records.push(record),
            None => log.push_back(PendingBatch { heard: now, records: vec![record] }),
        }
        if self.pending.fetch_add(1, Relaxed) < self.most {
            return false;
        }
        let dropped = log.pop_front().map_or(0, |oldest| oldest.records.len());
        self.pending.fetch_sub(dropped, Relaxed);
        self.lost.fetch_add(dropped as u64, Relaxed);
        true
    }

    /// Takes the oldest batches of a log: at most `most` batches, and fewer if the batches are long.
    pub fn take(&self, partition: Partition, most: usize) -> Vec<PendingBatch> {
        let Some(log) = self.logs.get(partition.number()) else { return Vec::new() };
        let mut log = log.lock();
        let mut room = MOST_TAKEN;
        let has_room = |batch: &&PendingBatch| {
            let has_room = room > 0;
            room = room.saturating_sub(batch.records.len());
            has_room
        };
        let end = log.iter().take(most).take_while(has_room).count();
        let taken: Vec<_> = log.drain(..end).collect();
        self.pending.fetch_sub(taken.iter().map(|batch| batch.records.len()).sum(), Relaxed);
        taken
    }

    /// Returns how many records wait.
    pub fn pending(&self) -> usize {
        self.pending.load(Relaxed)
    }

    /// Returns how many records were dropped since the start because there was no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PeerNews, PeerRecord};
    use std::net::Ipv4Addr;
    use tracker_protocol::PeerId;

    fn at(tenths: u32) -> Timestamp {
        Timestamp::from_tenths(tenths)
    }

    /// Makes a record that tests recognise by its number.
    fn record(partition: u8, number: u32) -> SharedRecord {
        let peer = PeerRecord {
            ip: Ipv4Addr::LOCALHOST.into(),
            is_claim: false,
            peer_id: PeerId([0; 20]),
            news: PeerNews::Left { port: None },
            downloaded: number,
        };
        SharedRecord { info_hash: InfoHash([partition << 4 | 7; 20]), zone: None, peer }
    }

    fn numbers(batches: &[PendingBatch]) -> Vec<Vec<u32>> {
        batches.iter().map(|batch| batch.records.iter().map(|record| record.peer.downloaded).collect()).collect()
    }

    fn log(n: usize) -> Partition {
        Partition::all().nth(n).unwrap()
    }

    #[test]
    fn a_batch_has_what_was_heard_within_a_second() {
        let pending = PendingRecords::default();
        for (number, tenths) in [(1, 100), (2, 100), (3, 109), (4, 110), (5, 300)] {
            assert!(!pending.push(at(tenths), record(3, number)));
        }
        pending.push(at(300), record(4, 6));
        assert_eq!((pending.pending(), pending.take(log(2), 9)), (6, vec![]));
        let taken = pending.take(log(3), 2);
        assert_eq!(numbers(&taken), [vec![1, 2, 3], vec![4]]);
        let sealed = taken[0].clone().seal(at(112), 7, 1, 9);
        assert_eq!((sealed.age, sealed.instance, sealed.sequence), (Duration::from_millis(1200), 7, 1));
        assert_eq!(numbers(&pending.take(log(3), 2)), [[5]]);
        assert_eq!(numbers(&pending.take(log(4), 2)), [[6]]);
        assert_eq!((pending.pending(), pending.lost()), (0, 0));
    }

    #[test]
    fn a_batch_is_no_longer_than_another_instance_reads() {
        let pending = PendingRecords::default();
        assert!((0..3000).all(|number| !pending.push(at(1), record(0, number))));
        let lengths: Vec<_> = pending.take(log(0), 9).iter().map(|batch| batch.records.len()).collect();
        assert_eq!(lengths, [MAX_RECORDS, MAX_RECORDS, 440]);
        assert!((0..20_000).all(|number| !pending.push(at(1), record(0, number))));
        let lengths: Vec<_> = [9, 9].map(|most| pending.take(log(0), most).len()).into();
        assert_eq!(lengths, [8, 8], "what is on its way takes little memory");
        assert_eq!(pending.pending(), 0);
    }

    #[test]
    fn when_there_is_no_more_room_the_oldest_are_dropped() {
        let pending = PendingRecords::with_room_for(3);
        let dropped: Vec<_> = (0..5).map(|number| pending.push(at(number * 100), record(0, number))).collect();
        assert_eq!(dropped, [false, false, false, true, true]);
        assert_eq!((pending.pending(), pending.lost()), (3, 2));
        assert_eq!(numbers(&pending.take(log(0), 9)), [[2], [3], [4]]);
    }
}
