//! The batches that are on their way to the engine, and the batches that the engine acknowledged lately.

use std::collections::VecDeque;

use crate::clock::Timestamp;
use crate::share::{MAX_RECORDS, Partition, PendingBatch, PendingRecords, RecordBatch, SharedRecord};

/// For this many tenths of a second after the engine has acknowledged a batch, the batch can still be lost: a server
/// that lacks the batch may become the primary.
const AT_RISK: u32 = 100;

/// The most records that are kept although the engine has acknowledged them. They take 8 MiB.
const MOST_KEPT: usize = (8 << 20) / size_of::<SharedRecord>();

/// The most batches of one log that one call of [`ShareOutbox::gather`] takes.
const MOST_TAKEN: usize = 64;

/// A batch with its log and its number among the batches of this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutgoingBatch {
    pub(super) partition: Partition,
    sequence: u32,
    batch: PendingBatch,
}

impl OutgoingBatch {
    /// Returns the batch to write at `now`.
    pub(super) fn seal(&self, now: Timestamp, instance: u64, zones_fingerprint: u64) -> RecordBatch {
        self.batch.clone().seal(now, instance, self.sequence, zones_fingerprint)
    }

    fn records(&self) -> usize {
        self.batch.records.len()
    }
}

/// The batches that are on their way to the engine, and the batches that the engine acknowledged lately.
#[derive(Debug, Default)]
pub(super) struct ShareOutbox {
    /// Batches that the engine has not acknowledged.
    unsent: VecDeque<OutgoingBatch>,
    /// Batches that the engine has acknowledged, with the moments of the acknowledgements.
    kept: VecDeque<(Timestamp, OutgoingBatch)>,
    /// How many records are in `kept`.
    kept_records: usize,
    next_sequence: u32,
}

impl ShareOutbox {
    /// Takes the batches that wait, unless batches are on their way already. So the number of batches on their way is
    /// bounded.
    pub(super) fn gather(&mut self, pending: &PendingRecords) {
        if !self.unsent.is_empty() {
            return;
        }
        for partition in Partition::all() {
            for batch in pending.take(partition, MOST_TAKEN) {
                self.unsent.push_back(OutgoingBatch { partition, sequence: self.next_sequence, batch });
                self.next_sequence = self.next_sequence.wrapping_add(1);
            }
        }
    }

    /// Yields the batches to send next. Together, they have about as many records as `batches` full batches, or fewer.
    /// There is at least one batch, unless none is on its way.
    pub(super) fn next(&self, batches: usize) -> impl Iterator<Item = &OutgoingBatch> {
        let mut room = batches.saturating_mul(MAX_RECORDS);
        self.unsent.iter().take_while(move |batch| {
            let has_room = room > 0;
            room = room.saturating_sub(batch.records());
            has_room
        })
    }

    /// Returns whether batches are on their way.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Records that the engine has acknowledged the first batch that is on its way.
    pub(super) fn acknowledge(&mut self, now: Timestamp) {
        let Some(batch) = self.unsent.pop_front() else { return };
        self.kept_records += batch.records();
        self.kept.push_back((now, batch));
        while self.kept_records > MOST_KEPT || self.kept.front().is_some_and(|(when, _)| !is_at_risk(now, *when)) {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.kept_records -= oldest.records();
        }
    }

    /// Puts the batches that can still be lost in front of the batches on their way, so that they are sent again.
    pub(super) fn resend(&mut self, now: Timestamp) {
        self.kept_records = 0;
        while let Some((when, batch)) = self.kept.pop_back() {
            if is_at_risk(now, when) {
                self.unsent.push_front(batch);
            }
        }
    }
}

fn is_at_risk(now: Timestamp, acknowledged: Timestamp) -> bool {
    now.tenths().saturating_sub(acknowledged.tenths()) <= AT_RISK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PeerNews, PeerRecord};
    use std::net::Ipv4Addr;
    use tracker_protocol::{InfoHash, PeerId};

    fn at(tenths: u32) -> Timestamp {
        Timestamp::from_tenths(tenths)
    }

    /// Makes a record for one of the logs.
    fn record(partition: u8) -> SharedRecord {
        let peer = PeerRecord {
            ip: Ipv4Addr::LOCALHOST.into(),
            is_claim: false,
            peer_id: PeerId([0; 20]),
            news: PeerNews::Left { port: None },
            downloaded: 0,
        };
        SharedRecord { info_hash: InfoHash([partition << 4; 20]), zone: None, peer }
    }

    /// Gathers one batch for each of these logs.
    fn gather(outbox: &mut ShareOutbox, partitions: &[u8]) {
        let pending = PendingRecords::default();
        for partition in partitions {
            pending.push(at(0), record(*partition));
        }
        outbox.gather(&pending);
    }

    fn sequences(outbox: &ShareOutbox, batches: usize) -> Vec<u32> {
        outbox.next(batches).map(|batch| batch.sequence).collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_before_what_waits() {
        let mut outbox = ShareOutbox::default();
        gather(&mut outbox, &[3, 1]);
        assert_eq!(outbox.next(9).map(|batch| batch.partition.number()).collect::<Vec<_>>(), [1, 3]);
        outbox.acknowledge(at(1));
        assert_eq!(sequences(&outbox, 9), [1]);
        gather(&mut outbox, &[2]);
        assert_eq!(sequences(&outbox, 9), [1], "nothing is taken while batches are on their way");
        outbox.acknowledge(at(1));
        gather(&mut outbox, &[2]);
        assert_eq!(sequences(&outbox, 9), [2]);
        // The connection is lost and comes back.
        outbox.resend(at(50));
        assert_eq!(sequences(&outbox, 9), [0, 1, 2]);
    }

    #[test]
    fn what_was_acknowledged_ten_seconds_ago_is_safe() {
        let mut outbox = ShareOutbox::default();
        gather(&mut outbox, &[0, 1, 2]);
        [0, 50, 102].into_iter().for_each(|tenths| outbox.acknowledge(at(tenths)));
        outbox.resend(at(110));
        assert_eq!(sequences(&outbox, 9), [1, 2]);
        outbox.resend(at(110));
        assert_eq!(sequences(&outbox, 9), [1, 2], "each batch is sent once more, not twice");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut outbox = ShareOutbox::default();
        let pending = PendingRecords::default();
        for _ in 0..MOST_KEPT + 5000 {
            pending.push(at(0), record(0));
        }
        while pending.pending() > 0 {
            outbox.gather(&pending);
            while outbox.has_unsent() {
                outbox.acknowledge(at(1));
            }
        }
        outbox.resend(at(1));
        let records: usize = outbox.unsent.iter().map(OutgoingBatch::records).sum();
        assert!((MOST_KEPT - MAX_RECORDS..=MOST_KEPT).contains(&records), "{records}");
    }

    #[test]
    fn a_pipeline_has_few_batches() {
        let mut outbox = ShareOutbox::default();
        let pending = PendingRecords::default();
        for _ in 0..3 * MAX_RECORDS {
            pending.push(at(0), record(0));
        }
        outbox.gather(&pending);
        assert_eq!(sequences(&outbox, 1), [0]);
        assert_eq!(sequences(&outbox, 2), [0, 1]);
        assert_eq!(sequences(&outbox, 9), [0, 1, 2]);
    }
}
