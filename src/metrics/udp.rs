//! Metrics of datagrams.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Connection ids and errors over UDP. Announces and scrapes are counted with those over HTTP.
#[derive(Clone, Debug)]
pub struct UdpMetrics {
    /// Connection ids that were issued.
    pub connects: Counter,
    /// Datagrams that are not a request.
    pub malformed: Counter,
    /// Datagrams dropped by a listener for proxies: the PROXY protocol header is missing or malformed, or the sender
    /// not trusted.
    pub unproxied: Counter,
    /// Requests whose connection id is too old, was issued to another address or is forged.
    pub unknown_id: Counter,
    /// Announces that got no response because too many announces waited for upstream trackers.
    pub busy: Counter,
    /// Responses that the system did not send.
    pub unsent: Counter,
}

impl UdpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let connects = Counter::default();
        let errors = Family::<DropReason, Counter>::default();
        let of = |reason| errors.get_or_create_owned(&DropReason { reason });
        let metrics = Self {
            connects: connects.clone(),
            malformed: of("malformed"),
            unproxied: of("unproxied"),
            unknown_id: of("unknown_id"),
            busy: of("busy"),
            unsent: of("unsent"),
        };
        registry.register("retracker_udp_connects", "Connection ids issued to clients over UDP", connects);
        registry.register("retracker_udp_errors", "Datagrams that could not be served, by reason", errors);
        metrics
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DropReason {
    reason: &'static str,
}
