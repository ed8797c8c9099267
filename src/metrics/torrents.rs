//! Metrics of shared blobs.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::sampled::{Sampled, gauge};
use super::samples::TorrentsSample;

/// Counts leases, checks of ports, and requests about shared blobs that were refused.
#[derive(Clone, Debug)]
pub struct TorrentsMetrics {
    /// Leases that were granted.
    pub granted: Counter,
    /// Leases that ended because their holder did not renew them in time.
    pub expired: Counter,
    /// Checks of a host's port that succeeded, because a connection was made.
    pub reached: Counter,
    /// Checks of a host's port that failed.
    pub unreached: Counter,
    /// Requests that were refused, by reason.
    pub refused: TorrentsRefusals,
}

/// Requests about shared blobs that were refused.
#[derive(Clone, Debug)]
pub struct TorrentsRefusals {
    /// The token is missing or wrong.
    pub token: Counter,
    /// The host may not write.
    pub network: Counter,
    /// The request is malformed: its path, method, length or body.
    pub request: Counter,
    /// Another torrent file is registered for the blob.
    pub conflict: Counter,
    /// The lease has ended.
    pub stale: Counter,
    /// A limit is reached.
    pub busy: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TorrentsRefusalLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PortCheckLabels {
    outcome: &'static str,
}

impl TorrentsMetrics {
    /// Registers the metrics. Without a registry, they are counted but not exposed.
    pub fn register(registry: Option<&mut Registry>) -> Self {
        let refused = Family::<TorrentsRefusalLabels, Counter>::default();
        let by = |reason| refused.get_or_create_owned(&TorrentsRefusalLabels { reason });
        let checks = Family::<PortCheckLabels, Counter>::default();
        let checked = |outcome| checks.get_or_create_owned(&PortCheckLabels { outcome });
        let metrics = Self {
            granted: Counter::default(),
            expired: Counter::default(),
            reached: checked("reached"),
            unreached: checked("unreached"),
            refused: TorrentsRefusals {
                token: by("token"),
                network: by("network"),
                request: by("request"),
                conflict: by("conflict"),
                stale: by("stale"),
                busy: by("busy"),
            },
        };
        if let Some(registry) = registry {
            registry.register("retracker_leases_granted", "Leases of blobs that were granted", metrics.granted.clone());
            registry.register(
                "retracker_leases_expired",
                "Leases of blobs that ended because their holder did not renew them",
                metrics.expired.clone(),
            );
            registry.register(
                "retracker_port_checks",
                "Connections to the ports of hosts that asked whether they are reached, by outcome",
                checks,
            );
            registry.register(
                "retracker_torrents_refused",
                "Requests about shared blobs that were refused, by reason",
                refused,
            );
        }
        metrics
    }

    /// Registers the state of shared blobs, which is read at each scrape of `/metrics`.
    pub fn register_state(registry: &mut Registry, sample: impl Fn() -> TorrentsSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }
}

impl Collector for Sampled<TorrentsSample> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let TorrentsSample { entries, bytes, leases, polls } = self.sample();
        gauge(&mut encoder, "retracker_metainfo_entries", "Torrent files of shared blobs", entries)?;
        gauge(&mut encoder, "retracker_metainfo_bytes", "Memory that torrent files of shared blobs take", bytes)?;
        gauge(&mut encoder, "retracker_leases", "Leases of blobs that are held", leases)?;
        gauge(&mut encoder, "retracker_long_polls", "Requests that wait for a change of a lease", polls)
    }
}
