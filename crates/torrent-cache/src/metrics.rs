//! Every metric, with its name, help and labels. One struct holds the handles.

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::store::StoreUsage;
use crate::swarm::SwarmSample;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// A blob of a registry.
    Blob,
    /// A manifest.
    Manifest,
    /// Tags or referrers.
    List,
    /// `/v2/`.
    Ping,
    /// A part or an object of an OSTree repository.
    Ostree,
    /// Another request whose target is a whole URL, as clients send to a proxy.
    Proxied,
    /// `/health`, `/metrics` and the status page.
    Page,
    /// A request that was refused before its kind was known.
    Other,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// The reply came from the disk.
    Hit,
    /// The reply came from the upstream or other hosts, and its content is stored.
    Miss,
    /// The reply came from the upstream, and is not stored.
    Passed,
    /// The reply came from the disk, because the upstream failed.
    Stale,
    /// The client has the content already.
    NotModified,
    /// This program answered by itself.
    Answered,
    /// A reply with a status 4xx.
    Refused,
    /// A reply with a status 5xx.
    Failed,
}

/// Where the bytes of a reply come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteSource {
    /// The disk, where the blob was complete before the request.
    Disk,
    /// The upstream.
    Upstream,
    /// Other hosts.
    Peers,
}

/// Bytes of blobs since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobBytes {
    /// Bytes that were sent to clients.
    pub sent: u64,
    /// Bytes that came from upstreams.
    pub from_upstream: u64,
}

impl BlobBytes {
    /// Returns how many bytes clients got that upstreams did not have to send. The number is negative if clients left
    /// before a fetch ended.
    pub fn saved(&self) -> i64 {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        signed(self.sent) - signed(self.from_upstream)
    }
}

/// Implements `EncodeLabelValue` with a text for each case.
macro_rules! label_value {
    ($label:ident: $($case:ident = $text:literal),*) => {
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                let text = match self {
                    $(Self::$case => $text),*
                };
                EncodeLabelValue::encode(&text, encoder)
            }
        }
    };
}

label_value!(RequestKind: Blob = "blob", Manifest = "manifest", List = "list", Ping = "ping", Ostree = "ostree",
    Proxied = "proxied", Page = "page", Other = "other");
label_value!(RequestOutcome: Hit = "hit", Miss = "miss", Passed = "passed", Stale = "stale",
    NotModified = "not_modified", Answered = "answered", Refused = "refused", Failed = "failed");
label_value!(ByteSource: Disk = "disk", Upstream = "upstream", Peers = "peers");

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheRequestLabels {
    kind: RequestKind,
    outcome: RequestOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    source: ByteSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    code: u16,
}

/// Values that are read when the metrics are asked for.
#[derive(Clone, Copy, Debug)]
pub struct CacheSample {
    /// What the store holds; `None` if the disk cannot be read.
    pub usage: Option<StoreUsage>,
    /// Fetches under way.
    pub flights: usize,
    /// Authorisations that are kept.
    pub grants: u64,
    /// Files that were evicted since the start.
    pub evictions: u64,
    /// The bytes that were exchanged with other hosts; `None` if blobs are not shared.
    pub swarm: Option<SwarmSample>,
    /// Whether the tracker answers.
    pub has_tracker: bool,
    /// Blobs that are offered to other hosts.
    pub seeds: usize,
}

/// Handles of all metrics.
pub struct CacheMetrics {
    requests: Family<CacheRequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    sent: Family<ByteLabels, Counter>,
    /// Connections that are open.
    pub connections: Gauge,
    /// Fetches of blobs that were begun or continued.
    pub fetches: Counter,
    /// Bytes of blobs in replies. `sent` counts these bytes as well, and those of manifests and of replies that are
    /// passed through.
    blobs_sent: Counter,
    received: Family<ByteLabels, Counter>,
    sampled: Mutex<SampledMetrics>,
}

struct SampledMetrics {
    registry: Registry,
    blobs: Gauge,
    bytes: Gauge,
    quota: Gauge,
    free: Gauge,
    flights: Gauge,
    grants: Gauge,
    evictions: Counter,
    seeds: Gauge,
    tracker: Gauge,
    peers: Gauge,
    saved: Gauge,
    to_peers: Counter,
    wasted: Counter,
    wrong_pieces: Counter,
}

impl Default for CacheMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("torrent_cache");
        let (requests, errors, sent, received) =
            (Family::default(), Family::default(), Family::default(), Family::default());
        registry.register("requests", "Requests by kind and outcome", requests.clone());
        registry.register("errors", "Replies with an error, by status code", errors.clone());
        registry.register_with_unit(
            "sent",
            "Bytes of bodies to clients: source disk if they were there before, upstream if they were fetched for the \
             request, even if other hosts delivered some of them",
            Unit::Bytes,
            sent.clone(),
        );
        let (fetches, evictions) = (Counter::default(), Counter::default());
        registry.register("fetches", "Fetches of blobs from upstream that were begun or continued", fetches.clone());
        let help = "Bytes of blobs that came from upstream, or from other hosts (peers)";
        registry.register_with_unit("received", help, Unit::Bytes, received.clone());
        registry.register("evictions", "Files that were removed to make room", evictions.clone());
        let [to_peers, wasted, wrong_pieces] = [0; 3].map(|_| Counter::default());
        for (name, help, counter) in [
            ("peer_sent", "Bytes of blobs to other hosts", &to_peers),
            ("peer_wasted", "Bytes from other hosts that this host had already", &wasted),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
        }
        registry.register("peer_wrong_pieces", "Pieces from other hosts with wrong bytes", wrong_pieces.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge("connections", "Open connections of clients");
        let (blobs, flights) = (gauge("blobs", "Blobs on disk"), gauge("flights", "Fetches of blobs under way"));
        let grants = gauge("kept_authorizations", "Authorisations that are kept");
        let bytes = gauge("storage_bytes", "Bytes of all files on disk");
        let quota = gauge("storage_quota_bytes", "Bytes that may be used on disk");
        let free = gauge("storage_free_bytes", "Free bytes of the file system");
        let tracker = gauge("tracker_up", "Whether the tracker answers, so that blobs are shared: 1 or 0");
        let (seeds, peers) =
            (gauge("offered_blobs", "Blobs that other hosts can get"), gauge("peers", "Connections to other hosts"));
        let saved = gauge(
            "saved_bytes",
            "Bytes of blobs that clients got and upstream did not have to send, below zero if clients left early",
        );
        let sampled = SampledMetrics {
            registry,
            blobs,
            bytes,
            quota,
            free,
            flights,
            grants,
            evictions,
            seeds,
            tracker,
            peers,
            saved,
            to_peers,
            wasted,
            wrong_pieces,
        };
        let blobs_sent = Counter::default();
        Self { requests, errors, sent, connections, fetches, blobs_sent, received, sampled: Mutex::new(sampled) }
    }
}

impl CacheMetrics {
    /// Counts a request.
    pub fn request(&self, kind: RequestKind, outcome: RequestOutcome) {
        self.requests.get_or_create(&CacheRequestLabels { kind, outcome }).inc();
    }

    /// Counts a reply with this status, if the status is an error.
    pub fn status(&self, code: u16) {
        if code >= 400 {
            self.errors.get_or_create(&ErrorLabels { code }).inc();
        }
    }

    /// Returns the counter of bytes to clients from this source.
    pub fn sent(&self, source: ByteSource) -> Counter {
        self.sent.get_or_create(&ByteLabels { source }).clone()
    }

    /// Counts bytes of a blob that go to a client. [`Self::sent`] counts the same bytes by their source.
    pub fn blob_sent(&self, bytes: u64) {
        self.blobs_sent.inc_by(bytes);
    }

    /// Counts bytes of a blob that came from an upstream.
    pub fn received(&self, bytes: u64) {
        self.received.get_or_create(&ByteLabels { source: ByteSource::Upstream }).inc_by(bytes);
    }

    /// Returns the bytes of blobs since the start.
    pub fn blob_bytes(&self) -> BlobBytes {
        let from_upstream = self.received.get_or_create(&ByteLabels { source: ByteSource::Upstream }).get();
        BlobBytes { sent: self.blobs_sent.get(), from_upstream }
    }

    /// Returns all metrics in the format of OpenMetrics 1.0.0.
    pub fn text(&self, sample: &CacheSample) -> Result<String, fmt::Error> {
        let sampled = self.sampled.lock();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if let Some(usage) = &sample.usage {
            sampled.blobs.set(number(usage.blobs));
            sampled.bytes.set(number(usage.bytes));
            sampled.quota.set(number(usage.quota));
            sampled.free.set(number(usage.free));
        }
        sampled.flights.set(i64::try_from(sample.flights).unwrap_or(i64::MAX));
        sampled.grants.set(number(sample.grants));
        raise(&sampled.evictions, sample.evictions);
        sampled.tracker.set(sample.has_tracker.into());
        sampled.seeds.set(i64::try_from(sample.seeds).unwrap_or(i64::MAX));
        let swarm = sample.swarm.unwrap_or_default();
        sampled.peers.set(number(swarm.peers));
        raise(&self.received.get_or_create(&ByteLabels { source: ByteSource::Peers }), swarm.received);
        sampled.saved.set(self.blob_bytes().saved());
        raise(&sampled.to_peers, swarm.sent);
        raise(&sampled.wasted, swarm.wasted);
        raise(&sampled.wrong_pieces, swarm.wrong);
        let mut out = String::new();
        text::encode(&mut out, &sampled.registry)?;
        Ok(out)
    }
}

/// Sets a counter to a value that another part of the program counts.
fn raise(counter: &Counter, now: u64) {
    counter.inc_by(now.saturating_sub(counter.get()));
}

impl fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheMetrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_are_named() {
        let metrics = CacheMetrics::default();
        metrics.request(RequestKind::Blob, RequestOutcome::Hit);
        metrics.status(200);
        metrics.status(404);
        metrics.sent(ByteSource::Disk).inc_by(7);
        let usage = StoreUsage { bytes: 4096, blobs: 1, quota: 9, free: 8 };
        metrics.blob_sent(7);
        metrics.received(9);
        let swarm = SwarmSample { sent: 11, received: 12, wasted: 13, wrong: 14, peers: 15 };
        let (usage, swarm) = (Some(usage), Some(swarm));
        let sample = CacheSample { usage, flights: 2, grants: 3, evictions: 4, swarm, has_tracker: true, seeds: 5 };
        let text = metrics.text(&sample).unwrap();
        for line in [
            "torrent_cache_requests_total{kind=\"blob\",outcome=\"hit\"} 1",
            "torrent_cache_errors_total{code=\"404\"} 1",
            "torrent_cache_sent_bytes_total{source=\"disk\"} 7",
            "torrent_cache_storage_bytes 4096",
            "torrent_cache_blobs 1",
            "torrent_cache_flights 2",
            "torrent_cache_kept_authorizations 3",
            "torrent_cache_evictions_total 4",
            "torrent_cache_received_bytes_total{source=\"upstream\"} 9",
            "torrent_cache_received_bytes_total{source=\"peers\"} 12",
            "torrent_cache_saved_bytes -2",
            "torrent_cache_peer_sent_bytes_total 11",
            "torrent_cache_peer_wasted_bytes_total 13",
            "torrent_cache_peer_wrong_pieces_total 14",
            "torrent_cache_peers 15",
            "torrent_cache_offered_blobs 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("code=\"200\""));
        assert!(metrics.text(&sample).unwrap().contains("evictions_total 4"));
    }
}
