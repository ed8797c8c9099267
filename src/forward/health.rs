//! How a forwarder did lately, and what the log is told of it at the default level, where requests are not logged but faults
//! are.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::LastError;
use super::error::ForwardError;

/// That a forwarder fails, and that it answers again, is reported at most this often.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

/// How one forwarder did.
#[derive(Debug, Default)]
pub(super) struct Health {
    outcomes: BTreeMap<&'static str, u64>,
    /// All that were answered together.
    took: Duration,
    last_error: Option<(String, Instant)>,
    reported_failing: bool,
    /// When the log was told that it fails, and that it answers again.
    reported: [Option<Instant>; 2],
}

/// What the log is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HealthChange {
    /// It begins to fail.
    Fails,
    /// It answers again.
    AnswersAgain,
}

impl Health {
    /// Takes note of how an exchange went.
    pub(super) fn note(
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
        let failing = error.is_some_and(ForwardError::is_the_forwarders);
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

    /// Exchanges by outcome.
    pub(super) fn outcomes(&self) -> &BTreeMap<&'static str, u64> {
        &self.outcomes
    }

    /// How long it takes to answer; none if it never did.
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
    fn each_change_is_news_once_a_minute() {
        let mut health = Health::default();
        let start = Instant::now();
        let mut note = |seconds, error: Option<ForwardError>| {
            health.note(error.as_ref(), Duration::ZERO, start + Duration::from_secs(seconds))
        };
        let fault = || Some(ForwardError::Timeout);
        assert_eq!(note(0, None), None, "that it answers is no news");
        assert_eq!(note(1, fault()), Some(HealthChange::Fails));
        assert_eq!(note(2, fault()), None);
        assert_eq!(note(3, None), Some(HealthChange::AnswersAgain), "within the minute");
        assert_eq!(note(4, fault()), None, "it flaps");
        assert_eq!(note(5, None), None);
        assert_eq!(note(61, fault()), Some(HealthChange::Fails));
        assert_eq!(note(62, None), None);
        assert_eq!(note(63, None), Some(HealthChange::AnswersAgain));
        assert_eq!(note(200, Some(ForwardError::TooLong)), None, "not its fault");
    }

    #[test]
    fn figures() {
        let mut health = Health::default();
        let now = Instant::now();
        assert_eq!(health.mean_latency(), None);
        for (error, milliseconds) in [(None, 10), (None, 30), (Some(ForwardError::Timeout), 1000)] {
            health.note(error.as_ref(), Duration::from_millis(milliseconds), now);
        }
        assert_eq!(health.mean_latency(), Some(Duration::from_millis(20)));
        assert_eq!(health.outcomes(), &BTreeMap::from([("ok", 2), ("timeout", 1)]));
        let error = health.last_error(now + Duration::from_secs(5)).unwrap();
        assert_eq!((error.text.as_str(), error.ago.as_secs()), ("it did not answer in time", 5));
    }
}
