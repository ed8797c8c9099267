//! Metrics of the swarms that several instances share.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::ReasonLabels;

/// Why records are dropped.
const DROPPED: [&str; 7] = ["version", "malformed", "zone", "address", "expired", "claimed", "outbox"];
/// Why all peers are shared once more.
const RESYNCS: [&str; 4] = ["epoch", "restart", "clock", "outbox"];

/// Counts what instances tell each other.
#[derive(Clone, Debug)]
pub struct ShareMetrics {
    /// 1 while this instance hears the others, else 0.
    pub up: Gauge,
    /// Announces that were shared.
    pub sent: ShareSent,
    /// Records of other instances that were applied.
    pub received: Counter,
    /// Records that wait to be written.
    pub pending: Gauge,
    /// By how many seconds this instance is behind the other instances.
    pub lag: Gauge<f64, AtomicU64>,
    /// Instances that share the swarms, this one included.
    pub instances: Gauge,
    dropped: Family<ReasonLabels, Counter>,
    resyncs: Family<ReasonLabels, Counter>,
    errors: Family<ReasonLabels, Counter>,
}

/// Announces that were shared with the other instances, by reason.
#[derive(Clone, Debug)]
pub struct ShareSent {
    /// The peer is new.
    pub joined: Counter,
    /// The peer has another role, id or address.
    pub changed: Counter,
    /// The peer has finished its download.
    pub completed: Counter,
    /// The peer has left.
    pub left: Counter,
    /// The peer has not been shared for a while.
    pub due: Counter,
    /// Records may have been lost.
    pub resync: Counter,
}

impl ShareMetrics {
    /// Registers the metrics. Without a registry, they are counted but not exposed.
    pub fn register(registry: Option<&mut Registry>) -> Self {
        let sent = Family::<ReasonLabels, Counter>::default();
        let by = |reason| sent.get_or_create_owned(&ReasonLabels { reason });
        let metrics = Self {
            up: Gauge::default(),
            sent: ShareSent {
                joined: by("joined"),
                changed: by("changed"),
                completed: by("completed"),
                left: by("left"),
                due: by("due"),
                resync: by("resync"),
            },
            received: Counter::default(),
            pending: Gauge::default(),
            lag: Gauge::default(),
            instances: Gauge::default(),
            dropped: Family::default(),
            resyncs: Family::default(),
            errors: Family::default(),
        };
        // Each counter exists from the start with the value 0, so that a rate is right from the first event on.
        DROPPED.iter().for_each(|reason| drop(metrics.dropped.get_or_create(&ReasonLabels { reason })));
        RESYNCS.iter().for_each(|reason| drop(metrics.resyncs.get_or_create(&ReasonLabels { reason })));
        if let Some(registry) = registry {
            metrics.expose(registry, sent);
        }
        metrics
    }

    fn expose(&self, registry: &mut Registry, sent: Family<ReasonLabels, Counter>) {
        let help = "1 while this instance hears the other instances, else 0";
        registry.register("retracker_share_up", help, self.up.clone());
        registry.register("retracker_share_sent", "Announces that were shared with other instances, by reason", sent);
        let help = "Records of other instances that were applied";
        registry.register("retracker_share_received", help, self.received.clone());
        let help = "Records that were dropped, by reason";
        registry.register("retracker_share_dropped", help, self.dropped.clone());
        registry.register("retracker_share_pending", "Records that wait to be written", self.pending.clone());
        let help = "How far this instance is behind the other instances";
        registry.register_with_unit("retracker_share_lag", help, Unit::Seconds, self.lag.clone());
        let help = "How often all peers were shared once more, by reason";
        registry.register("retracker_share_resyncs", help, self.resyncs.clone());
        registry.register("retracker_share_errors", "Failures of the shared store, by reason", self.errors.clone());
        let help = "Instances that share the swarms, this one included";
        registry.register("retracker_share_instances", help, self.instances.clone());
    }

    /// Counts records that were dropped.
    pub fn dropped(&self, reason: &'static str, records: usize) {
        if records > 0 {
            self.dropped.get_or_create(&ReasonLabels { reason }).inc_by(records as u64);
        }
    }

    /// Counts that all peers are shared once more.
    pub fn resynced(&self, reason: &'static str) {
        self.resyncs.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a failure of the shared store.
    pub fn failed(&self, reason: &'static str) {
        self.errors.get_or_create(&ReasonLabels { reason }).inc();
    }
}
