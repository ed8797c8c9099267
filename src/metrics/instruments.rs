//! Instruments that several metrics share.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The upper bounds of the buckets of durations, in seconds: from a local answer to the slowest exchange upstream.
pub(super) const LATENCY_BOUNDS: [f64; 16] =
    [0.000_025, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Returns a histogram with the buckets of [`LATENCY_BOUNDS`].
pub(super) fn latencies() -> Histogram {
    Histogram::new(LATENCY_BOUNDS)
}

/// A counter that is exposed without the suffix `_total`.
#[derive(Clone, Debug, Default)]
pub(super) struct Untyped(pub(super) Counter);

impl TypedMetric for Untyped {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Untyped {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        // `encode_gauge` is the only method of the encoder that adds no suffix.
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
