//! Announces or scrapes, by protocol and outcome.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tracker_protocol::Protocol;

/// The counters of announces, or those of scrapes.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    http: OutcomeMetrics,
    udp: OutcomeMetrics,
}

/// Requests over one protocol, by outcome.
#[derive(Clone, Debug)]
pub struct OutcomeMetrics {
    /// Requests that were answered.
    pub answered: Counter,
    /// Requests that were refused.
    pub refused: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    protocol: &'static str,
    outcome: &'static str,
}

impl RequestMetrics {
    pub(super) fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<RequestLabels, Counter>::default();
        let of = |protocol| {
            let counter = |outcome| family.get_or_create_owned(&RequestLabels { protocol, outcome });
            OutcomeMetrics { answered: counter("answered"), refused: counter("refused") }
        };
        let metrics = Self { http: of("http"), udp: of("udp") };
        registry.register(name, help, family);
        metrics
    }

    /// Returns the counters of requests over this protocol.
    pub fn over(&self, protocol: Protocol) -> &OutcomeMetrics {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Udp => &self.udp,
        }
    }

    /// Returns how many requests were answered, over all protocols.
    pub fn answered(&self) -> u64 {
        self.http.answered.get() + self.udp.answered.get()
    }

    /// Returns how many requests were refused, over all protocols.
    pub fn refused(&self) -> u64 {
        self.http.refused.get() + self.udp.refused.get()
    }
}
