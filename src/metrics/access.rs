//! Metrics of the access rules.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counts announces that the access rules refused, and keys for tokens.
#[derive(Clone, Debug)]
pub struct AccessMetrics {
    /// Refused by the rule about networks.
    pub networks: Counter,
    /// Refused by the rule about clients.
    pub clients: Counter,
    /// Refused by the rule about torrents.
    pub torrents: Counter,
    /// Refused because of the token, scrapes included.
    pub jwt: Counter,
    /// The keys in force.
    pub keys: Gauge,
    /// Failed attempts to fetch the keys.
    pub key_failures: Counter,
    token_faults: Family<TokenLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RuleLabels {
    rule: &'static str,
}

impl AccessMetrics {
    /// Registers the metrics. Without a registry, they are counted but not exposed.
    pub fn register(registry: Option<&mut Registry>) -> Self {
        let refused = Family::<RuleLabels, Counter>::default();
        let by = |rule| refused.get_or_create_owned(&RuleLabels { rule });
        let metrics = Self {
            networks: by("networks"),
            clients: by("clients"),
            torrents: by("torrents"),
            jwt: by("jwt"),
            keys: Gauge::default(),
            key_failures: Counter::default(),
            token_faults: Family::default(),
        };
        if let Some(registry) = registry {
            registry.register("retracker_access_refused", "Announces that the access rules refused, by rule", refused);
            registry.register(
                "retracker_jwt_refused",
                "Announces and scrapes that were refused because of their token, by reason",
                metrics.token_faults.clone(),
            );
            registry.register("retracker_jwt_keys", "Keys with which tokens are checked", metrics.keys.clone());
            registry.register(
                "retracker_jwt_key_fetches_failed",
                "Attempts to fetch the keys for tokens that failed",
                metrics.key_failures.clone(),
            );
        }
        metrics
    }

    /// Returns the counter of announces and scrapes whose token was refused for this reason.
    pub fn token_fault(&self, reason: &'static str) -> Counter {
        self.token_faults.get_or_create_owned(&TokenLabels { reason })
    }
}
