//! Every metric, with its name, help and labels, as one struct of handles.
//!
//! Our own names begin with `retracker_` and use base units. The names `requests` and `forwarder_status` are those of
//! the Go retracker, for its dashboards. These two metrics have no suffix in either exposition format. OpenMetrics
//! allows a name without a suffix only for the type unknown, so these two metrics have that type.

mod access;
mod chihaya;
mod connections;
mod durations;
mod forwarder;
mod instruments;
#[cfg(target_os = "linux")]
mod process;
mod requests;
mod sampled;
mod samples;
mod share;
mod torrents;
mod udp;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracker_protocol::Protocol;

pub use self::access::AccessMetrics;
use self::chihaya::ChihayaMetrics;
pub use self::chihaya::ResponseTimer;
pub use self::connections::ConnectionMetrics;
pub use self::durations::DurationCounts;
use self::durations::DurationHistogram;
use self::forwarder::ForwarderFamilies;
pub use self::forwarder::ForwarderMetrics;
use self::instruments::Untyped;
pub use self::requests::{OutcomeMetrics, RequestMetrics};
use self::sampled::{ChihayaSampled, Sampled};
pub use self::samples::{CIRCUITS, ForwardSample, ForwarderSample, LogSample, StoreSample, TorrentsSample, ZoneSample};
pub use self::share::{ShareMetrics, ShareSent};
pub use self::torrents::{TorrentsMetrics, TorrentsRefusals};
pub use self::udp::UdpMetrics;

/// Handles of all metrics that are counted as things happen. Cheap to clone; clones share the counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Untyped,
    /// Announces. An announce counts as answered even if its reply has no peers.
    pub announces: RequestMetrics,
    /// Scrapes.
    pub scrapes: RequestMetrics,
    /// Scrapes answered in part, because they had too many torrents. Only a Chihaya file sets this limit.
    pub scrapes_cut: Counter,
    /// The time from a request's arrival until its reply is ready. `None` without exposed metrics: reading the clock
    /// takes time.
    announce_duration: Option<DurationHistogram>,
    /// Chihaya's own metrics. `None` unless a Chihaya configuration file is in use.
    chihaya: Option<ChihayaMetrics>,
    /// Requests that came from a proxy and did not name the client.
    pub real_ip_missing: Counter,
    /// Addresses that many clients seem to share.
    pub gateways: Gauge,
    /// Announces whose client is not listed as a peer.
    pub unlisted: UnlistedMetrics,
    forwarders: ForwarderFamilies,
    /// Exchanges with upstream trackers that had to wait for other exchanges to end.
    pub forward_delayed: Counter,
    /// Announces by how they waited for upstream trackers.
    pub waits: WaitMetrics,
    /// Connection ids, and datagrams that could not be served.
    pub udp: UdpMetrics,
    /// Connections over TCP and Unix sockets.
    pub connections: ConnectionMetrics,
}

/// Announces, by how their wait for upstream trackers ended.
#[derive(Clone, Debug)]
pub struct WaitMetrics {
    /// Announces that did not wait: the peers were known, or there was no upstream tracker to ask.
    pub saved: Counter,
    /// Announces that waited until all upstream trackers had answered.
    pub done: Counter,
    /// Announces that waited until there were as many peers as the client wanted.
    pub enough: Counter,
    /// Announces that waited until the deadline for at least one upstream tracker.
    pub deadline: Counter,
}

/// Announces whose client is not listed as a peer, by reason.
#[derive(Clone, Debug)]
pub struct UnlistedMetrics {
    /// No other client could reach the client's address.
    pub address: Counter,
    /// A web page sent the announce.
    pub page: Counter,
    /// A proxy did not name the client.
    pub unclear: Counter,
}

/// Measures one announce, until the timer is dropped.
#[derive(Debug)]
pub struct AnnounceTimer {
    histogram: DurationHistogram,
    start: Instant,
}

impl Drop for AnnounceTimer {
    fn drop(&mut self) {
        self.histogram.observe(self.start.elapsed());
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl Metrics {
    /// Returns handles of metrics that are counted but not exposed.
    pub fn unexposed() -> Self {
        Self { announce_duration: None, ..Self::register(&mut Registry::default()) }
    }

    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let waits = Family::<OutcomeLabels, Counter>::default();
        let unlisted = Family::<ReasonLabels, Counter>::default();
        let unlisted_for = |reason| unlisted.get_or_create_owned(&ReasonLabels { reason });
        let of =
            |family: &Family<OutcomeLabels, Counter>, outcome| family.get_or_create_owned(&OutcomeLabels { outcome });
        let announce_duration = DurationHistogram::default();
        let metrics = Self {
            requests: Untyped::default(),
            announces: RequestMetrics::register(registry, "retracker_announces", "Announces by protocol and outcome"),
            scrapes: RequestMetrics::register(registry, "retracker_scrapes", "Scrapes by protocol and outcome"),
            scrapes_cut: Counter::default(),
            announce_duration: Some(announce_duration.clone()),
            chihaya: None,
            real_ip_missing: Counter::default(),
            gateways: Gauge::default(),
            unlisted: UnlistedMetrics {
                address: unlisted_for("address"),
                page: unlisted_for("page"),
                unclear: unlisted_for("unclear"),
            },
            forwarders: ForwarderFamilies::register(registry),
            forward_delayed: Counter::default(),
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
        registry.register(
            "retracker_forward_exchanges_delayed",
            "Exchanges with upstream trackers that waited because the largest allowed number was under way",
            metrics.forward_delayed.clone(),
        );
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(process::ProcessCollector));
        metrics
    }

    fn expose_requests(&self, registry: &mut Registry) {
        registry.register("requests", "Announce requests (name of the Go retracker)", self.requests.clone());
        registry.register(
            "retracker_real_ip_missing",
            "Requests of proxies that did not name the client",
            self.real_ip_missing.clone(),
        );
        registry.register(
            "retracker_scrapes_cut",
            "Scrapes that were answered in part, because they had more torrents than a scrape may have",
            self.scrapes_cut.clone(),
        );
        registry.register(
            "retracker_gateway_addresses",
            "Addresses that many clients seem to share: a proxy, a NAT or a Docker bridge",
            self.gateways.clone(),
        );
    }

    /// Registers the state of the upstream trackers, which is read at each scrape of `/metrics`.
    pub fn register_forwarders(registry: &mut Registry, sample: impl Fn() -> ForwardSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Registers the store's totals, which are read at each scrape of `/metrics`.
    pub fn register_store(registry: &mut Registry, sample: impl Fn() -> StoreSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Registers the zones' numbers of peers, read at each scrape of `/metrics`. Only for a tracker with zones.
    pub fn register_zones(registry: &mut Registry, sample: impl Fn() -> ZoneSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Registers Chihaya's own metrics, and the store's totals under Chihaya's names.
    pub fn register_chihaya(
        &mut self,
        registry: &mut Registry,
        sample: impl Fn() -> StoreSample + Send + Sync + 'static,
    ) {
        self.chihaya = Some(ChihayaMetrics::register(registry));
        registry.register_collector(Box::new(ChihayaSampled(Sampled::new(sample))));
    }

    /// Registers the number of dropped log lines, which is read at each scrape of `/metrics`.
    pub fn register_log(registry: &mut Registry, sample: impl Fn() -> LogSample + Send + Sync + 'static) {
        registry.register_collector(Box::new(Sampled::new(sample)));
    }

    /// Returns one forwarder's handles. Forwarders of the same name share them.
    pub fn forwarder(&self, name: &str) -> ForwarderMetrics {
        self.forwarders.forwarder(name)
    }

    /// Counts an announce that arrived.
    pub fn announce_arrived(&self) {
        self.requests.0.inc();
    }

    /// Begins to measure a request for Chihaya's metrics, if they are exposed. `action` is Chihaya's name for its kind.
    pub fn time_for_chihaya(&self, protocol: Protocol, action: &'static str, client: IpAddr) -> Option<ResponseTimer> {
        self.chihaya.as_ref().map(|chihaya| chihaya.time(protocol, action, client))
    }

    /// Records how long it took to drop expired peers.
    pub fn housekept(&self, took: Duration) {
        self.chihaya.iter().for_each(|chihaya| chihaya.housekept(took));
    }

    /// Begins to measure an announce. Recorded when the timer is dropped.
    pub fn time_announce(&self) -> Option<AnnounceTimer> {
        self.announce_duration.clone().map(|histogram| AnnounceTimer { histogram, start: Instant::now() })
    }

    /// Returns how long announces took since the start: nothing if metrics are not exposed.
    pub fn announce_durations(&self) -> DurationCounts {
        self.announce_duration.as_ref().map(DurationHistogram::counts).unwrap_or_default()
    }

    /// Returns the process's open descriptors and their limit. `None` if the system does not say.
    pub fn descriptors() -> Option<[u64; 2]> {
        #[cfg(target_os = "linux")]
        return process::descriptors();
        #[cfg(not(target_os = "linux"))]
        None
    }
}
