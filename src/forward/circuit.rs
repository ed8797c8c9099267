//! Whether a forwarder is asked at all: as ever, not for a while, or with one exchange to see whether it is back.

use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row open the circuit.
const FAILURES: u32 = 3;

/// How long a circuit stays open at first; twice as long each time that a probe fails.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);

/// How long it stays open at most.
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// How long a forwarder is left alone that says that it is asked too often, but not for how long.
const DEFAULT_PAUSE: Duration = Duration::from_mins(1);

/// How long a forwarder that asks to be left alone is at least: one that says "0 seconds" contradicts itself.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a forwarder can have itself left alone.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Whether a forwarder is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CircuitState {
    /// It is.
    Closed,
    /// It failed again and again: not until then.
    Open {
        /// When it is probed.
        until: Instant,
    },
    /// One exchange is under way that tells whether it is back.
    Probing,
    /// It asked to be left alone until then.
    Paused {
        /// When it is asked again.
        until: Instant,
    },
}

impl CircuitState {
    /// Names the state in metrics and in JSON.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::Probing => "probing",
            Self::Paused { .. } => "paused",
        }
    }
}

/// What an exchange that has ended says of its forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// It is there: it answered, be it with a refusal.
    Alive,
    /// It failed.
    Failed,
    /// It wants to be left alone, for so long if it said so.
    Pause(Option<Duration>),
    /// Nothing: it was not asked in the end.
    Nothing,
}

/// One forwarder's circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    state: CircuitState,
    /// When the state became what it is.
    since: Instant,
    /// In a row, while closed.
    failures: u32,
    /// How long it stays open next time, before jitter.
    backoff: Duration,
}

/// An exchange that may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As ever.
    Regular,
    /// To see whether the forwarder is back. Nobody is to wait for it.
    Probe,
}

impl Circuit {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: CircuitState::Closed, since: now, failures: 0, backoff: FIRST_BACKOFF }
    }

    pub(super) fn state(&self) -> CircuitState {
        self.state
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// How an exchange would begin now. The error names the state that is against it.
    pub(super) fn would_admit(&self, now: Instant) -> Result<Admission, CircuitState> {
        match self.state {
            CircuitState::Closed => Ok(Admission::Regular),
            CircuitState::Open { until } if now >= until => Ok(Admission::Probe),
            CircuitState::Paused { until } if now >= until => Ok(Admission::Regular),
            against => Err(against),
        }
    }

    /// Whether an exchange may begin now; then it must be followed by [`Self::ended`]. The error names the state that is
    /// against it.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admission, CircuitState> {
        match self.state {
            CircuitState::Closed => Ok(Admission::Regular),
            CircuitState::Open { until } if now >= until => {
                self.become_(CircuitState::Probing, now);
                Ok(Admission::Probe)
            }
            CircuitState::Paused { until } if now >= until => {
                self.become_(CircuitState::Closed, now);
                Ok(Admission::Regular)
            }
            against => Err(against),
        }
    }

    /// Takes note of how an exchange ended.
    pub(super) fn ended(&mut self, admission: Admission, call: CallOutcome, now: Instant) {
        match (call, self.state, admission) {
            (CallOutcome::Alive, CircuitState::Paused { .. }, _) => {}
            (CallOutcome::Alive, ..) => {
                self.failures = 0;
                self.backoff = FIRST_BACKOFF;
                self.become_(CircuitState::Closed, now);
            }
            (CallOutcome::Pause(asked), ..) => {
                let pause = asked.unwrap_or(DEFAULT_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                self.failures = 0;
                self.backoff = FIRST_BACKOFF;
                self.become_(CircuitState::Paused { until: now + pause }, now);
            }
            (CallOutcome::Failed, CircuitState::Closed, _) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.open(now);
                }
            }
            (CallOutcome::Failed, CircuitState::Probing, Admission::Probe) => {
                self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
                self.open(now);
            }
            (CallOutcome::Nothing, CircuitState::Probing, Admission::Probe) => {
                self.become_(CircuitState::Open { until: now }, now);
            }
            // What was begun while all was well does not count any more.
            (CallOutcome::Failed | CallOutcome::Nothing, ..) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.failures = 0;
        // Not all retrackers of a network are to come back to their upstream in the same moment.
        let jitter = 0.8 + 0.4 * fastrand::f64();
        self.become_(CircuitState::Open { until: now + self.backoff.mul_f64(jitter) }, now);
    }

    fn become_(&mut self, state: CircuitState, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
