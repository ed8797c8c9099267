//! How long announces take: a histogram without a lock. Its buckets can be read, to compute quantiles.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::instruments::LATENCY_BOUNDS;

/// One bucket for each bound, and one for durations above the last bound.
const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// A histogram of durations that all workers share, without a lock. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct DurationHistogram(Arc<AtomicCounts>);

#[derive(Debug, Default)]
struct AtomicCounts {
    buckets: [AtomicU64; BUCKETS],
    /// The sum of all durations. It would overflow after 584 years.
    nanoseconds: AtomicU64,
}

impl DurationHistogram {
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < seconds);
        self.0.buckets.get(bucket).into_iter().for_each(|bucket| {
            bucket.fetch_add(1, Relaxed);
        });
        self.0.nanoseconds.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns the counts since the start.
    pub(super) fn counts(&self) -> DurationCounts {
        DurationCounts(self.0.buckets.each_ref().map(|bucket| bucket.load(Relaxed)))
    }
}

impl TypedMetric for DurationHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Relaxed)).as_secs_f64();
        let counts = self.counts();
        let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.0).collect();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.total(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How many durations there were in each bucket of the histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts([u64; BUCKETS]);

impl DurationCounts {
    /// Returns the durations since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = *self;
        counts.0.iter_mut().zip(earlier.0).for_each(|(count, before)| *count = count.saturating_sub(before));
        counts
    }

    /// Returns how many durations there were.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the seconds that this share of the durations does not exceed; `None` without durations. Assumes that the
    /// durations of a bucket are spread evenly between its bounds. For the last bucket, which has no upper bound,
    /// returns its lower bound.
    #[expect(clippy::cast_precision_loss, reason = "a quantile is an estimate")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = share * self.total() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, upper) in self.0.iter().map(|count| *count as f64).zip(LATENCY_BOUNDS) {
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * (rank - below) / count);
            }
            (below, lower) = (below + count, upper);
        }
        (self.total() > 0).then_some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(milliseconds: &[u64]) -> DurationCounts {
        let histogram = DurationHistogram::default();
        milliseconds.iter().for_each(|duration| histogram.observe(Duration::from_millis(*duration)));
        histogram.counts()
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        assert_eq!(DurationCounts::default().quantile(0.5), None);
        // Four durations between 1 and 2.5 ms, and one on a bound, which belongs to the bucket below.
        let some = counts(&[2, 2, 2, 2, 1]);
        let close = |share, expected: f64| (some.quantile(share).unwrap() - expected).abs() < 1e-9;
        assert!(close(0.2, 0.001) && close(0.6, 0.001_75) && close(1.0, 0.002_5), "{some:?}");
    }

    #[test]
    fn a_quantile_beyond_the_last_bound_is_that_bound() {
        assert_eq!(counts(&[1, 20_000, 20_000]).quantile(0.9), Some(10.0));
    }

    #[test]
    fn counts_since_an_earlier_moment_have_nothing_older() {
        let histogram = DurationHistogram::default();
        histogram.observe(Duration::from_secs(5));
        let earlier = histogram.counts();
        histogram.observe(Duration::from_millis(2));
        assert_eq!(histogram.counts().since(&earlier), counts(&[2]));
        assert_eq!(histogram.counts().total(), 2);
    }
}
