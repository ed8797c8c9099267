//! Applies the batches of other instances to the store.

use std::time::Duration;

use super::batch::{RecordBatch, SharedRecord};
use super::zones::ZoneMap;
use crate::clock::Timestamp;
use crate::store::{Applied, RecordRefusal, Store};
use crate::topology::Topology;

/// How many records of a batch had which effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Peers that were recorded.
    pub recorded: usize,
    /// Peers that have left.
    pub left: usize,
    /// Records that changed at most the count of downloads, because the store has newer news of their peers.
    pub outdated: usize,
    /// Records that were dropped because this instance does not have their zone.
    pub unknown_zone: usize,
    /// Records that were dropped because no client can reach their address.
    pub address: usize,
    /// Records that were dropped because they are older than the peer age.
    pub expired: usize,
    /// Records that were dropped because they claim an address from which a peer announces.
    pub claimed: usize,
}

/// Applies a batch of another instance to the store. `ago` is how long ago the records were heard, see
/// [`ago`](super::ago). `zones` is the zone map for the batch's fingerprint. `accepted` is called with each record that
/// told the store something.
pub fn receive(
    store: &Store,
    now: Timestamp,
    ago: Duration,
    topology: &Topology,
    zones: &ZoneMap,
    batch: &RecordBatch,
    mut accepted: impl FnMut(&SharedRecord),
) -> Receipt {
    let mut receipt = Receipt::default();
    for record in &batch.records {
        let applied =
            zones.own(record.zone).map(|zone| store.apply(now, ago, topology, record.info_hash, zone, &record.peer));
        if let Ok(Ok(Applied::Recorded | Applied::Left)) = applied {
            accepted(record);
        }
        let count = match applied {
            Err(_) => &mut receipt.unknown_zone,
            Ok(applied) => match applied {
                Ok(Applied::Recorded) => &mut receipt.recorded,
                Ok(Applied::Left) => &mut receipt.left,
                Ok(Applied::Outdated) => &mut receipt.outdated,
                Err(RecordRefusal::Address) => &mut receipt.address,
                Err(RecordRefusal::Expired) => &mut receipt.expired,
                Err(RecordRefusal::Claimed) => &mut receipt.claimed,
            },
        };
        *count += 1;
    }
    receipt
}
