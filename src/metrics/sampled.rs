//! Metrics whose values are read at each scrape of `/metrics`, not counted as things happen.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::samples::{CIRCUITS, ForwardSample, ForwarderSample, LogSample, StoreSample, ZoneSample};

/// Reads a sample at each scrape of `/metrics`.
pub(super) struct Sampled<S>(Box<dyn Fn() -> S + Send + Sync>);

impl<S> Sampled<S> {
    pub(super) fn new(sample: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self(Box::new(sample))
    }

    pub(super) fn sample(&self) -> S {
        (self.0)()
    }
}

impl<S> fmt::Debug for Sampled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sampled")
    }
}

impl Collector for Sampled<StoreSample> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sample = (self.0)();
        gauge(&mut encoder, "retracker_swarms", "Torrents of the local swarms", sample.swarms)?;
        let help = "Swarms dropped because the store was full";
        counter(&mut encoder, "retracker_swarms_evicted", help, sample.evicted)?;
        let help = "Peers dropped because the store was full";
        counter(&mut encoder, "retracker_peers_evicted", help, sample.evicted_peers)?;
        let mut peers = encoder.encode_descriptor("retracker_peers", "Local peers", None, MetricType::Gauge)?;
        for (family, counts) in ["ipv4", "ipv6"].into_iter().zip(sample.peers) {
            for (role, count) in ["seed", "leecher"].into_iter().zip(counts) {
                ConstGauge::new(count).encode(peers.encode_family(&[("family", family), ("role", role)])?)?;
            }
        }
        Ok(())
    }
}

impl Collector for Sampled<ZoneSample> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Local peers in each zone";
        let mut peers = encoder.encode_descriptor("retracker_peers_by_zone", help, None, MetricType::Gauge)?;
        for (zone, counts) in (self.0)().zones {
            for (role, count) in ["seed", "leecher"].into_iter().zip(counts) {
                ConstGauge::new(count).encode(peers.encode_family(&[("zone", zone.as_str()), ("role", role)])?)?;
            }
        }
        Ok(())
    }
}

/// The store's metrics under Chihaya v2's names, for its dashboards.
pub(super) struct ChihayaSampled(pub(super) Sampled<StoreSample>);

impl fmt::Debug for ChihayaSampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChihayaSampled")
    }
}

impl Collector for ChihayaSampled {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let StoreSample { swarms, peers, .. } = (self.0.0)();
        let [seeds, others] = [0, 1].map(|role| peers.iter().filter_map(|counts| counts.get::<usize>(role)).sum());
        gauge(&mut encoder, "chihaya_storage_infohashes_count", "The local swarms, as Chihaya names them", swarms)?;
        gauge(&mut encoder, "chihaya_storage_seeders_count", "The local seeds, as Chihaya names them", seeds)?;
        gauge(&mut encoder, "chihaya_storage_leechers_count", "The other local peers, as Chihaya names them", others)
    }
}

impl Collector for Sampled<LogSample> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Log lines that were dropped because the reader of stderr did not keep up";
        counter(&mut encoder, "retracker_log_lines_dropped", help, (self.0)().dropped)
    }
}

type Figure = fn(&ForwarderSample) -> i64;

impl Collector for Sampled<ForwardSample> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sample = (self.0)();
        gauge(
            &mut encoder,
            "retracker_forward_torrents",
            "Torrents that are announced to upstream trackers",
            sample.torrents,
        )?;
        let help = "Torrents that were dropped because too many were announced upstream";
        counter(&mut encoder, "retracker_forward_torrents_evicted", help, sample.evicted)?;
        // Forwarders of the same name share one line: two lines would be invalid.
        let mut by_name = BTreeMap::<&str, Vec<&ForwarderSample>>::new();
        for forwarder in &sample.forwarders {
            by_name.entry(&forwarder.name).or_default().push(forwarder);
        }
        let figures: [(&str, &str, Figure); 4] = [
            ("retracker_forward_exchanges_in_flight", "Exchanges with upstream trackers under way", |one| {
                one.in_flight
            }),
            (
                "retracker_forward_exchanges_waiting",
                "Exchanges with upstream trackers that wait for their turn",
                |one| one.waiting,
            ),
            ("retracker_forward_sessions", "Clients that are announced to an upstream tracker, or are to be", |one| {
                one.sessions
            }),
            ("retracker_forward_lists", "Upstream peer lists that are kept", |one| one.lists),
        ];
        for (name, help, figure) in figures {
            let mut gauges = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (forwarder, samples) in &by_name {
                let sum = samples.iter().map(|sample| figure(sample)).sum::<i64>();
                ConstGauge::new(sum).encode(gauges.encode_family(&[("forwarder", *forwarder)])?)?;
            }
        }
        let (name, help) =
            ("retracker_forward_circuit", "Forwarders of this name that are in this state, usually 0 or 1");
        let mut circuits = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (forwarder, samples) in &by_name {
            for state in CIRCUITS {
                let count = samples.iter().filter(|sample| sample.circuit == state).count();
                let labels = [("forwarder", *forwarder), ("state", state)];
                ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX)).encode(circuits.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

pub(super) fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
