//! Metrics of connections over TCP and Unix sockets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Open connections, and connections that were closed because of a limit.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    /// Connections that are open.
    pub open: Gauge,
    /// Idle connections that were closed because `--max-connections` was reached.
    pub shed_full: Counter,
    /// Idle connections that were closed because their address had too many connections.
    pub shed_address: Counter,
    /// Idle connections that were closed because the system had no descriptors left.
    pub shed_descriptors: Counter,
    /// Connections that were closed because unfinished requests took too much memory.
    pub shed_memory: Counter,
    /// New connections that were closed at `--max-connections`, because none was idle.
    pub refused_full: Counter,
    /// New connections that were closed because their address had too many, and none idle.
    pub refused_address: Counter,
    /// Connections whose TLS handshake failed or took too long.
    pub tls_failed: Counter,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let open = Gauge::default();
        let shed = Family::<ShedReason, Counter>::default();
        let refused = Family::<ShedReason, Counter>::default();
        let of = |family: &Family<ShedReason, Counter>, reason| family.get_or_create_owned(&ShedReason { reason });
        let metrics = Self {
            open: open.clone(),
            shed_full: of(&shed, "full"),
            shed_address: of(&shed, "address"),
            shed_descriptors: of(&shed, "descriptors"),
            shed_memory: of(&shed, "memory"),
            refused_full: of(&refused, "full"),
            refused_address: of(&refused, "address"),
            tls_failed: Counter::default(),
        };
        registry.register("retracker_connections", "Connections over TCP and Unix sockets that are open", open);
        registry.register("retracker_connections_shed", "Idle connections that were closed to make room", shed);
        registry.register(
            "retracker_connections_refused",
            "New connections that were closed because no idle one could make room",
            refused,
        );
        registry.register(
            "retracker_tls_handshakes_failed",
            "Connections whose TLS handshake failed or was late",
            metrics.tls_failed.clone(),
        );
        metrics
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ShedReason {
    reason: &'static str,
}
