//! Decides whether exchanges with a forwarder may begin: all, none for a while, or one as a probe.

use std::time::Duration;

use tokio::time::Instant;

/// This many failures in a row open the circuit.
pub(super) const FAILURES: u32 = 3;

/// How long a circuit stays open at first. The time doubles whenever a probe fails.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);

/// The longest time that a circuit stays open.
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// How long a forwarder that answers 429 without `Retry-After` is paused.
const DEFAULT_PAUSE: Duration = Duration::from_mins(1);

/// The shortest pause. `Retry-After: 0` with 429 contradicts itself, and pauses this long.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Whether exchanges with a forwarder begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CircuitState {
    /// Exchanges begin as usual.
    Closed,
    /// No exchange begins, because the forwarder has failed repeatedly.
    Open {
        /// When the forwarder is probed.
        until: Instant,
    },
    /// One exchange is under way. It decides whether the circuit closes.
    Probing,
    /// No exchange begins, because the forwarder limits our rate.
    Paused {
        /// When exchanges begin again.
        until: Instant,
    },
}

impl CircuitState {
    /// Returns the state's name in metrics and in JSON.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::Probing => "probing",
            Self::Paused { .. } => "paused",
        }
    }
}

/// What an exchange that has ended says about its forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// The forwarder answered, perhaps with a refusal.
    Alive,
    /// The exchange failed.
    Failed,
    /// The forwarder limits our rate. The duration is the forwarder's `Retry-After`, if it sent one.
    Pause(Option<Duration>),
    /// Nothing: the request was not sent.
    NotMade,
}

/// One forwarder's circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    state: CircuitState,
    /// When the state changed last.
    since: Instant,
    /// The failures in a row while the circuit was closed.
    failures: u32,
    /// How long the circuit stays open next time, without jitter.
    backoff: Duration,
}

/// How an exchange may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As usual.
    Regular,
    /// As a probe, which finds out whether the forwarder answers again. No announce of a client waits for a probe.
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

    /// Returns how an exchange would begin now, or the state that prevents it.
    pub(super) fn would_admit(&self, now: Instant) -> Result<Admission, CircuitState> {
        match self.state {
            CircuitState::Closed => Ok(Admission::Regular),
            CircuitState::Open { until } if now >= until => Ok(Admission::Probe),
            CircuitState::Paused { until } if now >= until => Ok(Admission::Regular),
            state => Err(state),
        }
    }

    /// Admits an exchange, or returns the state that prevents it. After the exchange, call [`Self::ended`].
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admission, CircuitState> {
        match self.state {
            CircuitState::Closed => Ok(Admission::Regular),
            CircuitState::Open { until } if now >= until => {
                self.set_state(CircuitState::Probing, now);
                Ok(Admission::Probe)
            }
            CircuitState::Paused { until } if now >= until => {
                self.set_state(CircuitState::Closed, now);
                Ok(Admission::Regular)
            }
            state => Err(state),
        }
    }

    /// Records how an exchange ended.
    pub(super) fn ended(&mut self, admission: Admission, call: CallOutcome, now: Instant) {
        match (call, self.state, admission) {
            // An exchange that began before the pause does not end the pause.
            (CallOutcome::Alive, CircuitState::Paused { .. }, _) => {}
            (CallOutcome::Alive, ..) => {
                self.failures = 0;
                self.backoff = FIRST_BACKOFF;
                self.set_state(CircuitState::Closed, now);
            }
            (CallOutcome::Pause(asked), ..) => {
                let pause = asked.unwrap_or(DEFAULT_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                self.failures = 0;
                self.backoff = FIRST_BACKOFF;
                self.set_state(CircuitState::Paused { until: now + pause }, now);
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
            (CallOutcome::NotMade, CircuitState::Probing, Admission::Probe) => {
                self.set_state(CircuitState::Open { until: now }, now);
            }
            // Ignored: an exchange that began before the circuit opened, or one that was never sent.
            (CallOutcome::Failed | CallOutcome::NotMade, ..) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.failures = 0;
        // Jitter: not all retrackers of a network should probe a forwarder at once.
        let jitter = 0.8 + 0.4 * fastrand::f64();
        self.set_state(CircuitState::Open { until: now + self.backoff.mul_f64(jitter) }, now);
    }

    fn set_state(&mut self, state: CircuitState, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
