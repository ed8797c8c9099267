//! The replies of a tracker under load.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// A load with more errors than this ends early.
const MAX_ERRORS: u64 = 1000;

pub struct LoadOutcome {
    /// Correct replies.
    pub replies: u64,
    /// Requests over UDP that got no reply.
    pub lost: u64,
    pub errors: BTreeMap<&'static str, u64>,
    pub elapsed: Duration,
    /// The nanoseconds from each request's due time to its reply. They are recorded only if the load has a rate.
    pub latencies: Histogram<u64>,
}

impl LoadOutcome {
    pub fn empty() -> Self {
        let latencies = Histogram::new(3).unwrap();
        Self { replies: 0, lost: 0, errors: BTreeMap::new(), elapsed: Duration::ZERO, latencies }
    }

    /// Adds the outcome of another load that ran at the same time.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.replies += other.replies;
        self.lost += other.lost;
        other.errors.into_iter().for_each(|(why, count)| *self.errors.entry(why).or_default() += count);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latencies += other.latencies;
        self
    }

    pub fn count_error(&mut self, why: &'static str) {
        *self.errors.entry(why).or_default() += 1;
    }

    /// Whether there are so many errors that the load should end.
    pub fn is_hopeless(&self) -> bool {
        self.errors.values().sum::<u64>() > MAX_ERRORS
    }

    pub fn per_second(&self) -> f64 {
        self.replies as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns a quantile of the latencies, in milliseconds.
    pub fn quantile(&self, fraction: f64) -> f64 {
        self.latencies.value_at_quantile(fraction) as f64 / 1e6
    }

    /// Returns an error if a request failed, or if no reply was correct.
    pub fn verdict(&self) -> Result<(), String> {
        if self.errors.is_empty() && self.replies > 0 {
            return Ok(());
        }
        Err(format!("{} right replies, errors: {:?}", self.replies, self.errors))
    }
}
