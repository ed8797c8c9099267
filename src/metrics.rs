//! Every metric: its name, its help, its labels, as one struct of handles.
//!
//! Names of our own begin with `retracker_` and have base units. `requests` and `forwarder_status` are those of the
//! Go retracker, whose dashboards keep working: they carry no suffix in either exposition format, which OpenMetrics
//! allows to metrics of unknown type only.

mod connections;
mod forwarder;
#[cfg(target_os = "linux")]
mod process;
mod sampled;
mod udp;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

pub use self::connections::ConnectionMetrics;
pub use self::forwarder::ForwarderMetrics;
use self::forwarder::Series;
use self::sampled::Sampled;
pub use self::udp::UdpMetrics;

/// Handles of all metrics that are counted as things happen. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Untyped,
    /// Announces that were answered with peers, or with none that there were.
    pub announces_answered: Counter,
    /// Announces that were refused.
    pub announces_refused: Counter,
    /// Scrapes that were answered.
    pub scrapes_answered: Counter,
    /// Scrapes that were refused.
    pub scrapes_refused: Counter,
    /// From the request's arrival to the reply being ready to be sent, in seconds. Its lock is shared by all workers, so
    /// that it is there only when somebody looks at it.
    announce_duration: Option<Histogram>,
    /// Requests of proxies that did not say whose they are.
    pub real_ip_missing: Counter,
    /// Addresses that seem to hide many clients.
    pub gateways: Gauge,
    /// Announces whose client is not listed as a peer.
    pub unlisted: UnlistedMetrics,
    forwarder_status: Family<StatusLabels, Untyped>,
    exchanges: Family<ExchangeLabels, Counter>,
    exchange_duration: Family<ForwarderLabels, Histogram, fn() -> Histogram>,
    upstream_peers: Family<ForwarderLabels, Counter>,
    skipped: Family<SkippedLabels, Counter>,
    /// Exchanges with upstream trackers that had to wait for others to end.
    pub forward_delayed: Counter,
    /// What is counted of each forwarder that there is, by its name.
    by_forwarder: Arc<Mutex<HashMap<String, Weak<Series>>>>,
    /// How announces that forwarders take part in fared.
    pub waits: WaitMetrics,
    /// What came over UDP and was no announce or scrape that could be answered.
    pub udp: UdpMetrics,
    /// Connections over TCP and Unix sockets.
    pub connections: ConnectionMetrics,
}

/// Whether announces waited for upstream trackers, and what for.
#[derive(Clone, Debug)]
pub struct WaitMetrics {
    /// They did not: there was nothing to ask, or nothing to wait for.
    pub saved: Counter,
    /// They waited until all had answered.
    pub done: Counter,
    /// They waited until there were as many peers as the client wants.
    pub enough: Counter,
    /// They waited in vain for at least one.
    pub deadline: Counter,
}

/// Why clients that announce are not listed as peers.
#[derive(Clone, Debug)]
pub struct UnlistedMetrics {
    /// No other client could reach their address.
    pub address: Counter,
    /// A web page had sent the announce.
    pub page: Counter,
    /// A proxy did not say whose the announce is.
    pub unclear: Counter,
}

/// Measures one announce.
#[derive(Debug)]
pub struct AnnounceTimer {
    histogram: Histogram,
    start: Instant,
}

impl Drop for AnnounceTimer {
    fn drop(&mut self) {
        self.histogram.observe(self.start.elapsed().as_secs_f64());
    }
}

/// How the upstream trackers do, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ForwardSample {
    /// Each of them.
    pub forwarders: Vec<ForwarderSample>,
    /// Torrents of which they have been told.
    pub torrents: i64,
    /// Torrents of which all that was forgotten for want of room.
    pub evicted: u64,
}

/// How one upstream tracker does.
#[derive(Clone, Debug)]
pub struct ForwarderSample {
    /// Its name. What several of one name do is added up.
    pub name: String,
    /// Exchanges under way.
    pub in_flight: i64,
    /// Exchanges that wait for their turn.
    pub waiting: i64,
    /// Peers that it knows through us, or is to know.
    pub sessions: i64,
    /// Lists of its peers that are kept.
    pub lists: i64,
    /// The state of its circuit: one of [`CIRCUITS`].
    pub circuit: &'static str,
}

/// The states that a circuit can be in.
pub const CIRCUITS: [&str; 4] = ["closed", "open", "probing", "paused"];

/// How many swarms and peers there are, at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSample {
    /// Swarms.
    pub swarms: i64,
    /// IPv4 and IPv6, of each the seeds and the others.
    pub peers: [[i64; 2]; 2],
    /// Swarms dropped for want of room.
    pub evicted: u64,
}

/// What has become of the log, at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSample {
    /// Lines dropped because nobody read them.
    pub dropped: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ForwarderLabels {
    forwarder: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExchangeLabels {
    forwarder: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SkippedLabels {
    forwarder: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabels {
    name: String,
    status: Status,
}

/// An HTTP status, or `error` where there was none: as the Go retracker labels it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Status(Option<u16>);

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        match self.0 {
            Some(code) => code.encode(encoder),
            None => "error".encode(encoder),
        }
    }
}

impl Metrics {
    /// Counts for nobody: for a tracker whose metrics are not exposed.
    pub fn unexposed() -> Self {
        Self { announce_duration: None, ..Self::register(&mut Registry::default()) }
    }

    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let announces = Family::<OutcomeLabels, Counter>::default();
        let scrapes = Family::<OutcomeLabels, Counter>::default();
        let waits = Family::<OutcomeLabels, Counter>::default();
        let unlisted = Family::<ReasonLabels, Counter>::default();
        let unlisted_for = |reason| unlisted.get_or_create_owned(&ReasonLabels { reason });
        let of =
            |family: &Family<OutcomeLabels, Counter>, outcome| family.get_or_create_owned(&OutcomeLabels { outcome });
        let announce_duration = latencies();
        let metrics = Self {
            requests: Untyped::default(),
            announces_answered: of(&announces, "answered"),
            announces_refused: of(&announces, "refused"),
            scrapes_answered: of(&scrapes, "answered"),
            scrapes_refused: of(&scrapes, "refused"),
            announce_duration: Some(announce_duration.clone()),
            real_ip_missing: Counter::default(),
            gateways: Gauge::default(),
            unlisted: UnlistedMetrics {
                address: unlisted_for("address"),
                page: unlisted_for("page"),
                unclear: unlisted_for("unclear"),
            },
            forwarder_status: Family::default(),
            exchanges: Family::default(),
            exchange_duration: Family::new_with_constructor(latencies),
            upstream_peers: Family::default(),
            skipped: Family::default(),
            forward_delayed: Counter::default(),
            by_forwarder: Arc::default(),
            waits: WaitMetrics {
                saved: of(&waits, "saved"),
                done: of(&waits, "done"),
                enough: of(&waits, "enough"),
                deadline: of(&waits, "deadline"),
            },
            udp: UdpMetrics::register(registry),
            connections: ConnectionMetrics::register(registry),
        };
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("retracker_build", "The version that runs", Info::new(version));
        registry.register("retracker_announces", "Announces by outcome", announces);
        registry.register("retracker_scrapes", "Scrapes by outcome", scrapes);
        registry.register(
            "retracker_announces_unlisted",
            "Announces whose client is not listed as a peer, by reason",
            unlisted,
        );
        registry.register("retracker_forward_waits", "Announces by whether they waited for upstream trackers", waits);
        registry.register_with_unit(
            "retracker_announce_duration",
            "Time from the request to the reply, waiting for upstream trackers included",
            Unit::Seconds,
            announce_duration,
        );
        metrics.expose_requests(registry);
        metrics.expose_forwarders(registry);
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(process::Process));
        metrics
    }

    fn expose_requests(&self, registry: &mut Registry) {
        registry.register("requests", "Announce requests (name of the Go retracker)", self.requests.clone());
        registry.register(
            "retracker_real_ip_missing",
            "Requests of proxies that did not say whose they are",
            self.real_ip_missing.clone(),
        );
        registry.register(
            "retracker_gateway_addresses",
            "Addresses that seem to hide many clients: a proxy, a NAT or a Docker bridge",
            self.gateways.clone(),
        );
    }

    fn expose_forwarders(&self, registry: &mut Registry) {
        registry.register(
            "forwarder_status",
            "Exchanges with upstream trackers by HTTP status (name of the Go retracker)",
            self.forwarder_status.clone(),
        );
        registry.register(
            "retracker_forward_exchanges",
            "Exchanges with upstream trackers by outcome",
            self.exchanges.clone(),
        );
        registry.register_with_unit(
            "retracker_forward_duration",
            "Time of an exchange with an upstream tracker, from the look-up of its name to the last byte",
            Unit::Seconds,
            self.exchange_duration.clone(),
        );
        registry.register(
            "retracker_forward_peers",
            "Peers received from upstream trackers",
            self.upstream_peers.clone(),
        );
        registry.register(
            "retracker_forward_skipped",
            "Exchanges with upstream trackers that were not begun",
            self.skipped.clone(),
        );
        registry.register(
            "retracker_forward_exchanges_delayed",
            "Exchanges with upstream trackers that waited because as many were under way as may be",
            self.forward_delayed.clone(),
        );
    }

    /// Registers how the upstream trackers do, which is read when somebody asks.
    pub fn register_forwarders(registry: &mut Registry, sample: impl Fn() -> ForwardSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Registers the totals of the store, which are read when somebody asks.
    pub fn register_store(registry: &mut Registry, sample: impl Fn() -> StoreSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Registers what has become of the log, which is read when somebody asks.
    pub fn register_log(registry: &mut Registry, sample: impl Fn() -> LogSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Counts an announce that came in.
    pub fn announce_arrived(&self) {
        self.requests.0.inc();
    }

    /// Begins to measure how long an announce takes. What it returns records that when it is dropped.
    pub fn time_announce(&self) -> Option<AnnounceTimer> {
        self.announce_duration.clone().map(|histogram| AnnounceTimer { histogram, start: Instant::now() })
    }
}

/// Buckets from what a local answer takes to what the slowest upstream may.
fn latencies() -> Histogram {
    Histogram::new([
        0.000_025, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
    ])
}

/// A counter that is exposed without `_total`.
#[derive(Clone, Debug, Default)]
struct Untyped(Counter);

impl TypedMetric for Untyped {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Untyped {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        // Of the encoder's methods this is the one that adds no suffix.
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
