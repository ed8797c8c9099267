//! The numbers of peers in each zone.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::topology::ZoneId;
use tracker_protocol::Role;

/// The numbers of peers in each zone: seeds, others.
#[derive(Debug)]
pub(super) struct ZoneCounts(Box<[[AtomicI64; 2]]>);

impl ZoneCounts {
    pub(super) fn new() -> Self {
        Self((0..ZoneId::MOST).map(|_| Default::default()).collect())
    }

    /// Adds `more` peers, possibly negative. Without zones, counting costs nothing.
    pub(super) fn add(&self, zone: Option<ZoneId>, role: Role, more: i64) {
        if let Some([seeds, others]) = zone.and_then(|zone| self.0.get(zone.number())) {
            (if role == Role::Seed { seeds } else { others }).fetch_add(more, Relaxed);
        }
    }

    /// Returns the numbers of seeds and of others in a zone.
    pub(super) fn of(&self, zone: ZoneId) -> [i64; 2] {
        let counts = self.0.get(zone.number());
        counts.map(|counts| counts.each_ref().map(|count| count.load(Relaxed))).unwrap_or_default()
    }
}
