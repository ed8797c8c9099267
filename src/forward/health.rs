//! Counts how a forwarder's exchanges ended. The default log level gets only the changes: the forwarder begins to fail,
//! or answers again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::error::ForwardError;
use super::status::LastError;

/// Each kind of change is reported at most once in this time.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

/// The results of one forwarder's exchanges.
#[derive(Debug, Default)]
pub(super) struct Health {
    outcomes: BTreeMap<&'static str, u64>,
    /// The total time of the exchanges that succeeded.
    took: Duration,
    last_error: Option<(String, Instant)>,
    reported_failing: bool,
    /// When the log last reported each [`HealthChange`]: first `Fails`, then `AnswersAgain`.
    reported: [Option<Instant>; 2],
}

/// A change to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthChange {
    /// The forwarder begins to fail.
    Fails,
    /// The forwarder answers again.
    AnswersAgain,
}

impl Health {
    /// Records an exchange. Returns the change to report, if there is one.
    pub(super) fn record(
        &mut self,
        error: Option<&ForwardError>,
        elapsed: Duration,
        now: Instant,
    ) -> Option<HealthChange> {
        *self.outcomes.entry(error.map_or("ok", ForwardError::label)).or_default() += 1;
        match error {
            Some(error) => self.last_error = Some((error.to_string(), now)),
            None => self.took += elapsed,
        }
        if matches!(error, Some(ForwardError::Local(_))) {
            return None;
        }
        let failing = error.is_some_and(ForwardError::is_forwarder_fault);
        if self.reported_failing == failing {
            return None;
        }
        let [fails, answers] = &mut self.reported;
        let reported = if failing { fails } else { answers };
        if reported.is_some_and(|reported| now - reported < REPORT_PAUSE) {
            return None;
        }
        *reported = Some(now);
        self.reported_failing = failing;
        Some(if failing { HealthChange::Fails } else { HealthChange::AnswersAgain })
    }

    /// Returns the number of exchanges for each outcome.
    pub(super) fn outcomes(&self) -> &BTreeMap<&'static str, u64> {
        &self.outcomes
    }

    /// Returns the mean time of the exchanges that succeeded; `None` if none has.
    pub(super) fn mean_latency(&self) -> Option<Duration> {
        self.took.checked_div(u32::try_from(*self.outcomes.get("ok")?).ok()?)
    }

    pub(super) fn last_error(&self, now: Instant) -> Option<LastError> {
        let (text, when) = self.last_error.as_ref()?;
        Some(LastError { text: text.clone(), ago: now.saturating_duration_since(*when) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_reported_once_a_minute() {
        let mut health = Health::default();
        let start = Instant::now();
        let mut record = |seconds, error: Option<ForwardError>| {
            health.record(error.as_ref(), Duration::ZERO, start + Duration::from_secs(seconds))
        };
        let fault = || Some(ForwardError::Timeout);
        assert_eq!(record(0, None), None, "an answer is no change");
        assert_eq!(record(1, fault()), Some(HealthChange::Fails));
        assert_eq!(record(2, fault()), None);
        assert_eq!(record(3, None), Some(HealthChange::AnswersAgain), "within the minute");
        assert_eq!(record(4, fault()), None, "flapping is not reported");
        assert_eq!(record(5, None), None);
        assert_eq!(record(61, fault()), Some(HealthChange::Fails));
        assert_eq!(record(62, None), None);
        assert_eq!(record(63, None), Some(HealthChange::AnswersAgain));
        assert_eq!(record(200, Some(ForwardError::TooLong)), None, "not the forwarder's fault");
    }

    #[test]
    fn the_mean_latency_is_that_of_exchanges_that_were_answered() {
        let mut health = Health::default();
        let now = Instant::now();
        assert_eq!(health.mean_latency(), None);
        for (error, milliseconds) in [(None, 10), (None, 30), (Some(ForwardError::Timeout), 1000)] {
            health.record(error.as_ref(), Duration::from_millis(milliseconds), now);
        }
        assert_eq!(health.mean_latency(), Some(Duration::from_millis(20)));
        assert_eq!(health.outcomes(), &BTreeMap::from([("ok", 2), ("timeout", 1)]));
        let error = health.last_error(now + Duration::from_secs(5)).unwrap();
        assert_eq!((error.text.as_str(), error.ago.as_secs()), ("it did not answer in time", 5));
    }
}
