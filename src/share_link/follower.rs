//! How far this instance has read the logs, and how it reads an entry.

use std::collections::HashMap;
use std::time::Duration;

use super::entry::{EntryId, ReadEntry};
use crate::metrics::ShareMetrics;
use crate::share::{
    BatchError, DecodedBatch, EngineTime, Faults, PARTITIONS, Partition, Receipt, RecordBatch, ZoneMap, fingerprint,
};
use crate::topology::Topology;

/// After the connection was lost, reading begins this long before the last entry that was read. The reason is that
/// another server may have become the primary: its clock may be behind, and it may lack the last entries.
const OVERLAP: Duration = Duration::from_secs(10);

/// After another server has become the primary, reading begins this long before the moment at which this instance's
/// writes last reached that server. The clocks of the servers may differ by this much, see `retracker check`.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

/// The most zone maps that are remembered. Instances with the same zones share one map.
const MOST_MAPS: usize = 256;

/// How far this instance has read the logs, and which zones other instances have.
#[derive(Debug)]
pub(super) struct Follower {
    positions: [EntryId; PARTITIONS],
    /// For each log, the last entry that was read before its position was moved back. Up to this entry, entries are
    /// read again.
    known: [EntryId; PARTITIONS],
    epochs: [Option<Vec<u8>>; PARTITIONS],
    /// The zone maps of other instances by fingerprint. If the engine does not have the names of the zones, the map is
    /// empty.
    maps: HashMap<u64, ZoneMap>,
}

impl Default for Follower {
    fn default() -> Self {
        let positions = [EntryId::default(); PARTITIONS];
        Self { positions, known: positions, epochs: std::array::from_fn(|_| None), maps: HashMap::new() }
    }
}

impl Follower {
    /// Returns the last entry of a log that was read.
    pub(super) fn position(&self, partition: Partition) -> EntryId {
        self.positions.get(partition.number()).copied().unwrap_or_default()
    }

    /// Records that an entry of a log was read.
    pub(super) fn advance(&mut self, partition: Partition, id: EntryId) {
        if let Some(position) = self.positions.get_mut(partition.number()) {
            *position = id;
        }
    }

    /// Moves all positions back by [`OVERLAP`], because the connection was lost.
    pub(super) fn step_back(&mut self) {
        self.note_known();
        self.positions.iter_mut().for_each(|position| *position = position.back_by(OVERLAP));
    }

    fn note_known(&mut self) {
        for (known, position) in self.known.iter_mut().zip(&self.positions) {
            *known = (*known).max(*position);
        }
    }

    /// Moves positions back, because another server has become the primary. What this server has got since `beat` is
    /// read again, because this instance may have followed the old server meanwhile. `beat` is the moment at which this
    /// instance's writes last reached the new server. Without `beat`, all logs are read from their beginning.
    pub(super) fn read_again_since(&mut self, beat: Option<EngineTime>) {
        let start = EntryId { time: beat.unwrap_or_default(), number: 0 }.back_by(CLOCKS_DIFFER);
        self.note_known();
        self.positions.iter_mut().for_each(|position| *position = (*position).min(start));
    }

    /// Whether the entry is read for the first time. If the entry is read again, it is applied even if this instance
    /// wrote it. Suppose that another instance wrote a client's join and this instance wrote its leave. If only the
    /// join were applied again, the client would come back.
    pub(super) fn is_new(&self, partition: Partition, id: EntryId) -> bool {
        self.known.get(partition.number()).is_none_or(|known| id > *known)
    }

    /// Whether `epoch` is the epoch of the first log that this instance knows.
    pub(super) fn is_first_epoch(&self, epoch: Option<&[u8]>) -> bool {
        self.epochs.first().is_some_and(|known| known.as_deref() == epoch)
    }

    /// Records the epoch of a log. If it differs from the last epoch, the engine has forgotten the log in between. Then
    /// this method returns true, and the log is read from its beginning.
    pub(super) fn note_epoch(&mut self, partition: Partition, epoch: &[u8]) -> bool {
        let Some(known) = self.epochs.get_mut(partition.number()) else { return false };
        let is_other = known.as_ref().is_some_and(|known| known != epoch);
        *known = Some(epoch.to_vec());
        if is_other {
            self.advance(partition, EntryId::default());
            self.known.get_mut(partition.number()).into_iter().for_each(|known| *known = EntryId::default());
        }
        is_other
    }

    /// Returns whether the zones with this fingerprint were looked up.
    pub(super) fn knows_zones(&self, fingerprint: u64) -> bool {
        self.maps.contains_key(&fingerprint)
    }

    /// Records the zones with the fingerprint `wanted`. `names` is a JSON list of their names, or `None` if the engine
    /// does not have the list.
    pub(super) fn note_zones(&mut self, wanted: u64, names: Option<&[u8]>, topology: &Topology) {
        if self.maps.len() >= MOST_MAPS {
            self.maps.clear();
        }
        let names: Vec<String> = names.and_then(|names| serde_json::from_slice(names).ok()).unwrap_or_default();
        let is_right = fingerprint(names.iter().map(String::as_str)) == wanted;
        let map = if is_right { ZoneMap::new(names.iter().map(String::as_str), topology) } else { ZoneMap::default() };
        self.maps.insert(wanted, map);
    }

    /// Forgets all zone maps, so that names that were missing are looked up again.
    pub(super) fn forget_zones(&mut self) {
        self.maps.clear();
    }

    /// Returns the zone map for this fingerprint.
    pub(super) fn zones(&self, fingerprint: u64) -> Option<&ZoneMap> {
        self.maps.get(&fingerprint)
    }
}

/// Returns the batch in an entry. `None` if the batch cannot be read, or if the instance `own` has written it.
pub(super) fn read(entry: &ReadEntry, own: Option<u64>, metrics: &ShareMetrics) -> Option<RecordBatch> {
    if own.is_some() && RecordBatch::writer(&entry.batch) == own {
        return None;
    }
    let DecodedBatch { batch, faults } = match RecordBatch::decode(&entry.batch) {
        Ok(decoded) => decoded,
        Err(BatchError::Version(_)) => {
            metrics.dropped("version", 1);
            return None;
        }
        Err(BatchError::Short) => {
            metrics.dropped("malformed", 1);
            return None;
        }
    };
    let Faults { kind, port, cut, surplus } = faults;
    metrics.dropped("malformed", kind + port + cut + surplus);
    Some(batch)
}

/// Adds the receipt of a batch to the metrics.
pub(super) fn count(receipt: Receipt, metrics: &ShareMetrics) {
    let Receipt { recorded, left, outdated, unknown_zone, address, expired, claimed } = receipt;
    metrics.received.inc_by((recorded + left + outdated) as u64);
    for (reason, records) in [("zone", unknown_zone), ("address", address), ("expired", expired), ("claimed", claimed)]
    {
        metrics.dropped(reason, records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(time: u64, number: u64) -> EntryId {
        EntryId { time: EngineTime(time), number }
    }

    #[test]
    fn reading_begins_before_what_was_read_last() {
        let mut follower = Follower::default();
        let [first, second] = [0, 1].map(|n| Partition::all().nth(n).unwrap());
        follower.advance(first, id(50_000, 7));
        follower.advance(second, id(3000, 0));
        follower.step_back();
        assert_eq!([follower.position(first), follower.position(second)], [id(40_000, 0), id(0, 0)]);
    }

    #[test]
    fn what_another_server_has_got_since_the_last_beat_is_read_again() {
        let mut follower = Follower::default();
        let [first, second] = [0, 1].map(|n| Partition::all().nth(n).unwrap());
        follower.advance(first, id(200_000, 7));
        follower.advance(second, id(3000, 1));
        assert!(follower.is_new(first, id(1, 0)));
        follower.read_again_since(Some(EngineTime(150_000)));
        assert_eq!([follower.position(first), follower.position(second)], [id(90_000, 0), id(3000, 1)]);
        let is_new = |n| follower.is_new(first, id(200_000, n));
        assert_eq!([is_new(7), is_new(8)], [false, true]);
        // The connection is lost before another server becomes the primary.
        let mut follower = Follower::default();
        follower.advance(first, id(200_000, 7));
        follower.advance(second, id(3000, 1));
        follower.step_back();
        follower.read_again_since(Some(EngineTime(150_000)));
        assert_eq!([7, 8].map(|n| follower.is_new(first, id(200_000, n))), [false, true]);
        // Before everything was read again, a second server becomes the primary. It knows nothing of this instance.
        follower.advance(first, id(100_000, 0));
        follower.read_again_since(None);
        assert_eq!([follower.position(first), follower.position(second)], [id(0, 0), id(0, 0)]);
        assert!(!follower.is_new(first, id(200_000, 7)) && follower.is_new(second, id(3000, 2)));
    }

    #[test]
    fn a_log_that_the_engine_has_forgotten_is_read_from_its_beginning() {
        let mut follower = Follower::default();
        let [first, second] = [0, 1].map(|n| Partition::all().nth(n).unwrap());
        assert!(!follower.note_epoch(first, b"a") && !follower.note_epoch(second, b"b"));
        follower.advance(first, id(50_000, 7));
        follower.advance(second, id(50_000, 7));
        assert!(!follower.note_epoch(first, b"a"));
        assert!(follower.note_epoch(second, b"c"));
        assert!(!follower.note_epoch(second, b"c") && follower.is_new(second, id(1, 0)));
        assert!(follower.is_first_epoch(Some(b"a")));
        assert!(!follower.is_first_epoch(Some(b"b")) && !follower.is_first_epoch(None));
        assert_eq!([follower.position(first), follower.position(second)], [id(50_000, 7), id(0, 0)]);
    }

    #[test]
    fn zones_that_do_not_fit_their_fingerprint_are_not_used() {
        let topology = Topology::default();
        let mut follower = Follower::default();
        let wanted = fingerprint(["oslo"]);
        for names in [None, Some(&b"[\"rome\"]"[..]), Some(b"junk"), Some(b"")] {
            follower.note_zones(wanted, names, &topology);
            assert_eq!(follower.zones(wanted), Some(&ZoneMap::default()), "{names:?}");
        }
        follower.note_zones(wanted, Some(b"[\"oslo\"]"), &topology);
        assert_eq!(follower.zones(wanted), Some(&ZoneMap::new(["oslo"], &topology)));
        (0..2000).for_each(|n| follower.note_zones(n, None, &topology));
        assert!(follower.maps.len() <= MOST_MAPS);
    }
}
