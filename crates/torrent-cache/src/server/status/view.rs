//! The status of the cache at one moment.

use serde_json::{Value, json};

use crate::flight::FlightSummary;
use crate::metrics::BlobBytes;
use crate::server::context::CacheContext;
use crate::sharing::TrackerHealth;
use crate::store::{BlobStore, StoreUsage};
use crate::swarm::SwarmSample;
use crate::swarm_tracker::TrackerError;

/// What the cache is doing.
pub(super) struct CacheStatus {
    /// Fetches under way, the oldest first.
    pub(super) transfers: Vec<FlightSummary>,
    pub(super) bytes: BlobBytes,
    /// `None` if blobs are not shared with other hosts.
    pub(super) sharing: Option<SharingStatus>,
    /// `None` if the disk cannot be read.
    pub(super) disk: Option<StoreUsage>,
}

/// How blobs are shared.
pub(super) struct SharingStatus {
    /// The port to which other hosts connect.
    pub(super) port: u16,
    pub(super) swarm: SwarmSample,
    /// The number of blobs that this host offers.
    pub(super) offered: usize,
    pub(super) tracker: TrackerHealth,
    /// Whether the operator has named a tracker.
    pub(super) is_expected: bool,
}

impl CacheStatus {
    pub(super) async fn now(context: &CacheContext) -> Self {
        let sharing = context.sharing.as_ref().map(|sharing| SharingStatus {
            port: sharing.port(),
            swarm: sharing.sample(),
            offered: sharing.seeds(),
            tracker: sharing.tracker_health(),
            is_expected: sharing.is_expected(),
        });
        Self {
            transfers: context.flights.summaries(),
            bytes: context.metrics.blob_bytes(),
            sharing,
            disk: context.with_store(BlobStore::usage).await,
        }
    }

    /// Returns what was exchanged with other hosts.
    pub(super) fn swarm(&self) -> SwarmSample {
        self.sharing.as_ref().map(|sharing| sharing.swarm).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        let BlobBytes { sent, from_upstream } = self.bytes;
        let swarm = self.swarm();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "transfers": self.transfers.iter().map(transfer).collect::<Vec<_>>(),
            "bytes": {
                "sent": sent,
                "from_upstream": from_upstream,
                "from_peers": swarm.received,
                "to_peers": swarm.sent,
                "saved": self.bytes.saved(),
            },
            "sharing": self.sharing.as_ref().map(sharing),
            "disk": self.disk.map(|disk| json!({
                "blobs": disk.blobs,
                "used": disk.bytes,
                "quota": disk.quota,
                "free": disk.free,
            })),
        })
    }
}

fn transfer(summary: &FlightSummary) -> Value {
    json!({
        "name": summary.name.to_string(),
        "upstream": &*summary.upstream,
        "length": summary.length,
        "have": summary.have(),
        "from_peers": summary.from_peers,
        "from_upstream": summary.from_upstream,
        "from_disk": summary.from_disk,
        "readers": summary.readers,
        "seconds": summary.elapsed.as_secs(),
    })
}

fn sharing(sharing: &SharingStatus) -> Value {
    let (state, error) = match &sharing.tracker {
        TrackerHealth::Unasked => ("unasked", None),
        TrackerHealth::Answers => ("answers", None),
        TrackerHealth::Fails(error) => ("fails", Some(error)),
    };
    json!({
        "port": sharing.port,
        "peers": sharing.swarm.peers,
        "offered_blobs": sharing.offered,
        "tracker": {
            "state": state,
            "error": error.map(ToString::to_string),
            "remedy": error.and_then(TrackerError::remedy),
        },
    })
}
