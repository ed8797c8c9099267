//! The metrics of Chihaya v2 under its names, for its dashboards. They exist while a Chihaya file is in use.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use tracker_protocol::{Protocol, Refusal};

/// Chihaya's histograms.
#[derive(Clone, Debug)]
pub(super) struct ChihayaMetrics {
    http: Family<ResponseLabels, Histogram, Milliseconds>,
    udp: Family<ResponseLabels, Histogram, Milliseconds>,
    housekeeping: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResponseLabels {
    action: &'static str,
    address_family: &'static str,
    error: &'static str,
}

/// Makes histograms with the buckets of Chihaya.
#[derive(Clone, Debug)]
struct Milliseconds;

impl MetricConstructor<Histogram> for Milliseconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..10).map(|n| 9.375 * f64::from(1 << n)))
    }
}

impl ChihayaMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let [http, udp] = [(); 2].map(|()| Family::new_with_constructor(Milliseconds));
        let metrics = Self { http, udp, housekeeping: Milliseconds.new_metric() };
        registry.register(
            "chihaya_http_response_duration_milliseconds",
            "Time from a request over HTTP to its reply, as Chihaya names it",
            metrics.http.clone(),
        );
        registry.register(
            "chihaya_udp_response_duration_milliseconds",
            "Time from a request over UDP to its response, as Chihaya names it",
            metrics.udp.clone(),
        );
        registry.register(
            "chihaya_storage_gc_duration_milliseconds",
            "Time to drop expired peers, as Chihaya names it",
            metrics.housekeeping.clone(),
        );
        metrics
    }

    pub(super) fn housekept(&self, took: Duration) {
        self.housekeeping.observe(milliseconds(took));
    }

    pub(super) fn time(&self, protocol: Protocol, action: &'static str, client: IpAddr) -> ResponseTimer {
        let family = match protocol {
            Protocol::Http => &self.http,
            Protocol::Udp => &self.udp,
        };
        let address_family = if client.is_ipv4() { "IPv4" } else { "IPv6" };
        let labels = ResponseLabels { action, address_family, error: "" };
        ResponseTimer { family: family.clone(), labels, start: Instant::now() }
    }
}

/// Measures the time until a response. The response counts as sent when the timer is dropped.
#[derive(Debug)]
pub struct ResponseTimer {
    family: Family<ResponseLabels, Histogram, Milliseconds>,
    labels: ResponseLabels,
    start: Instant,
}

impl ResponseTimer {
    /// Records a refusal. The reason of each access rule has its own label. All other reasons share one label, because
    /// some of them contain numbers that clients choose.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.labels.error = match refusal {
            Refusal::Denied(reason) | Refusal::NotNow { reason, .. } => reason,
            _ => "bad request",
        };
    }
}

impl Drop for ResponseTimer {
    fn drop(&mut self) {
        self.family.get_or_create(&self.labels).observe(milliseconds(self.start.elapsed()));
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
