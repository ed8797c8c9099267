//! The metrics of each forwarder. The metrics of a name are removed together with the last forwarder of that name.
//! Otherwise metrics would accumulate, because a reloaded file may have new names each time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::instruments::{Untyped, latencies};

/// The handles of one forwarder's metrics.
#[derive(Clone, Debug)]
pub struct ForwarderMetrics {
    duration: Histogram,
    peers: Counter,
    /// Exchanges that did not begin because too many waited for their turn.
    pub skipped_busy: Counter,
    /// Exchanges that did not begin because the forwarder's circuit was open.
    pub skipped_open: Counter,
    /// Exchanges that did not begin because the forwarder was paused.
    pub skipped_paused: Counter,
    series: Arc<Series>,
}

/// The time series for one name of forwarders. When this value is dropped, these time series are removed from the
/// families.
#[derive(Debug)]
struct Series {
    all: ForwarderFamilies,
    name: String,
    /// The pairs of outcome and HTTP status that have been counted so far.
    ends: Mutex<HashSet<(&'static str, Option<u16>)>>,
}

/// Why exchanges do not begin.
const SKIPPED: [&str; 3] = ["busy", "open", "paused"];

/// The metrics of all forwarders.
#[derive(Clone, Debug)]
pub(super) struct ForwarderFamilies {
    status: Family<StatusLabels, Untyped>,
    exchanges: Family<ExchangeLabels, Counter>,
    duration: Family<ForwarderLabels, Histogram, fn() -> Histogram>,
    peers: Family<ForwarderLabels, Counter>,
    skipped: Family<SkippedLabels, Counter>,
    /// The time series by the name of the forwarder.
    by_name: Arc<Mutex<HashMap<String, Weak<Series>>>>,
}

impl ForwarderFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            status: Family::default(),
            exchanges: Family::default(),
            duration: Family::new_with_constructor(latencies),
            peers: Family::default(),
            skipped: Family::default(),
            by_name: Arc::default(),
        };
        registry.register(
            "forwarder_status",
            "Exchanges with upstream trackers by HTTP status (name of the Go retracker)",
            families.status.clone(),
        );
        registry.register(
            "retracker_forward_exchanges",
            "Exchanges with upstream trackers by outcome",
            families.exchanges.clone(),
        );
        registry.register_with_unit(
            "retracker_forward_duration",
            "Time of an exchange with an upstream tracker, from the look-up of its name to the last byte",
            Unit::Seconds,
            families.duration.clone(),
        );
        registry.register("retracker_forward_peers", "Peers received from upstream trackers", families.peers.clone());
        registry.register(
            "retracker_forward_skipped",
            "Exchanges with upstream trackers that were not begun",
            families.skipped.clone(),
        );
        families
    }

    /// Returns one forwarder's handles. Forwarders of the same name share them.
    pub(super) fn forwarder(&self, name: &str) -> ForwarderMetrics {
        let mut by_name = self.by_name.lock();
        let series = by_name.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let series = Arc::new(Series { all: self.clone(), name: name.to_owned(), ends: Mutex::default() });
            by_name.insert(name.to_owned(), Arc::downgrade(&series));
            series
        });
        let labels = series.labels();
        let [skipped_busy, skipped_open, skipped_paused] =
            SKIPPED.map(|reason| self.skipped.get_or_create_owned(&series.skipped(reason)));
        ForwarderMetrics {
            duration: self.duration.get_or_create_owned(&labels),
            peers: self.peers.get_or_create_owned(&labels),
            skipped_busy,
            skipped_open,
            skipped_paused,
            series,
        }
    }
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

/// An HTTP status. If there is no status, the label is `error`, as in the Go retracker.
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

impl ForwarderMetrics {
    /// Returns handles that are counted but not exposed, for a removed forwarder.
    pub fn unexposed() -> Self {
        ForwarderFamilies::register(&mut Registry::default()).forwarder("")
    }

    /// Counts an exchange that has ended. `outcome` is its label, `status` the HTTP status if one was read, and `peers`
    /// the number received.
    pub fn exchange_ended(&self, outcome: &'static str, status: Option<u16>, elapsed: Duration, peers: usize) {
        let Series { all, ends, .. } = &*self.series;
        ends.lock().insert((outcome, status));
        all.status.get_or_create_owned(&self.series.status(status)).0.inc();
        all.exchanges.get_or_create_owned(&self.series.exchange(outcome)).inc();
        self.duration.observe(elapsed.as_secs_f64());
        self.peers.inc_by(peers as u64);
    }
}

impl Series {
    fn labels(&self) -> ForwarderLabels {
        ForwarderLabels { forwarder: self.name.clone() }
    }

    fn skipped(&self, reason: &'static str) -> SkippedLabels {
        SkippedLabels { forwarder: self.name.clone(), reason }
    }

    fn status(&self, status: Option<u16>) -> StatusLabels {
        StatusLabels { name: self.name.clone(), status: Status(status) }
    }

    fn exchange(&self, outcome: &'static str) -> ExchangeLabels {
        ExchangeLabels { forwarder: self.name.clone(), outcome }
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        // The lock is held to the end of this method, so that a new forwarder of this name gets new series.
        let mut by_name = self.all.by_name.lock();
        if by_name.get(&self.name).is_some_and(|series| series.strong_count() > 0) {
            return;
        }
        by_name.remove(&self.name);
        let labels = self.labels();
        self.all.duration.remove(&labels);
        self.all.peers.remove(&labels);
        for reason in SKIPPED {
            self.all.skipped.remove(&self.skipped(reason));
        }
        for (outcome, status) in self.ends.lock().drain() {
            self.all.status.remove(&self.status(status));
            self.all.exchanges.remove(&self.exchange(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn series_are_removed_with_the_last_forwarder_of_their_name() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let text = || {
            let mut text = String::new();
            text::encode(&mut text, &registry).unwrap();
            text
        };
        let (first, second, other) = (metrics.forwarder("one"), metrics.forwarder("one"), metrics.forwarder("other"));
        for forwarder in [&first, &second, &other] {
            forwarder.exchange_ended("ok", Some(200), Duration::ZERO, 3);
            forwarder.exchange_ended("refused", None, Duration::ZERO, 0);
        }
        drop(first);
        assert!(text().contains("retracker_forward_exchanges_total{forwarder=\"one\",outcome=\"ok\"} 2\n"));
        drop(second);
        assert!(!text().contains("\"one\""), "{}", text());
        assert!(text().contains("forwarder_status{name=\"other\",status=\"200\"} 1\n"));
        // A new forwarder of this name starts at zero.
        let again = metrics.forwarder("one");
        assert!(text().contains("retracker_forward_peers_total{forwarder=\"one\"} 0\n"), "{}", text());
        drop((again, other));
        assert!(metrics.forwarders.by_name.lock().is_empty() && !text().contains("\"one\""));
    }
}
