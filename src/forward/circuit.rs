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
pub(super) enum State {
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

impl State {
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
pub(super) enum Sign {
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
    state: State,
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
        Self { state: State::Closed, since: now, failures: 0, backoff: FIRST_BACKOFF }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// How an exchange would begin now. The error names the state that is against it.
    pub(super) fn would_admit(&self, now: Instant) -> Result<Admission, State> {
        match self.state {
            State::Closed => Ok(Admission::Regular),
            State::Open { until } if now >= until => Ok(Admission::Probe),
            State::Paused { until } if now >= until => Ok(Admission::Regular),
            against => Err(against),
        }
    }

    /// Whether an exchange may begin now; then it must be followed by [`Self::ended`]. The error names the state that is
    /// against it.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admission, State> {
        match self.state {
            State::Closed => Ok(Admission::Regular),
            State::Open { until } if now >= until => {
                self.become_(State::Probing, now);
                Ok(Admission::Probe)
            }
            State::Paused { until } if now >= until => {
                self.become_(State::Closed, now);
                Ok(Admission::Regular)
            }
            against => Err(against),
        }
    }

    /// Takes note of how an exchange ended.
    pub(super) fn ended(&mut self, admission: Admission, sign: Sign, now: Instant) {
        match (sign, self.state, admission) {
            (Sign::Alive, State::Paused { .. }, _) => {}
            (Sign::Alive, ..) => {
                self.failures = 0;
                self.backoff = FIRST_BACKOFF;
                self.become_(State::Closed, now);
            }
            (Sign::Pause(asked), ..) => {
                let pause = asked.unwrap_or(DEFAULT_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                self.failures = 0;
                self.backoff = FIRST_BACKOFF;
                self.become_(State::Paused { until: now + pause }, now);
            }
            (Sign::Failed, State::Closed, _) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.open(now);
                }
            }
            (Sign::Failed, State::Probing, Admission::Probe) => {
                self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
                self.open(now);
            }
            (Sign::Nothing, State::Probing, Admission::Probe) => self.become_(State::Open { until: now }, now),
            // What was begun while all was well does not count any more.
            (Sign::Failed | Sign::Nothing, ..) => {}
        }
    }

    fn open(&mut self, now: Instant) {
        self.failures = 0;
        // Not all retrackers of a network are to come back to their upstream in the same moment.
        let jitter = 0.8 + 0.4 * fastrand::f64();
        self.become_(State::Open { until: now + self.backoff.mul_f64(jitter) }, now);
    }

    fn become_(&mut self, state: State, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test {
        circuit: Circuit,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            let now = Instant::now();
            Self { circuit: Circuit::new(now), now }
        }

        fn after(&mut self, seconds: f64) -> &mut Self {
            self.now += Duration::from_secs_f64(seconds);
            self
        }

        fn admits(&mut self) -> Option<Admission> {
            self.circuit.admit(self.now).ok()
        }

        fn ends(&mut self, admission: Admission, sign: Sign) -> State {
            self.circuit.ended(admission, sign, self.now);
            self.circuit.state()
        }

        fn opened(&mut self) -> &mut Self {
            for _ in 0..FAILURES {
                assert_eq!(self.admits(), Some(Admission::Regular));
                self.ends(Admission::Regular, Sign::Failed);
            }
            assert_eq!(self.admits(), None);
            self
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_any_answer_between_does_not_let_them() {
        let mut test = Test::new();
        for _ in 0..FAILURES * 2 {
            test.ends(Admission::Regular, Sign::Failed);
            test.ends(Admission::Regular, Sign::Failed);
            assert_eq!(test.ends(Admission::Regular, Sign::Alive), State::Closed);
        }
        test.opened();
    }

    #[test]
    fn one_probe_at_a_time_and_it_decides() {
        let mut test = Test::new();
        test.opened().after(3.9);
        assert_eq!(test.admits(), None);
        test.after(2.2);
        assert_eq!(test.admits(), Some(Admission::Probe));
        assert_eq!(test.admits(), None);
        // An exchange from before it opened does not decide.
        assert_eq!(test.ends(Admission::Regular, Sign::Failed), State::Probing);
        assert!(matches!(test.ends(Admission::Probe, Sign::Failed), State::Open { .. }));
        test.after(7.9);
        assert_eq!(test.admits(), None);
        test.after(4.2);
        assert_eq!(test.admits(), Some(Admission::Probe));
        assert_eq!(test.ends(Admission::Probe, Sign::Alive), State::Closed);
        // From the beginning.
        test.opened().after(6.1);
        assert_eq!(test.admits(), Some(Admission::Probe));
    }

    #[test]
    fn it_is_open_for_minutes_at_most() {
        let mut test = Test::new();
        test.opened();
        for _ in 0..10 {
            test.after(LONGEST_BACKOFF.as_secs_f64() * 1.3);
            assert_eq!(test.admits(), Some(Admission::Probe));
            test.ends(Admission::Probe, Sign::Failed);
        }
        let State::Open { until } = test.circuit.state() else { panic!("{:?}", test.circuit) };
        let pause = until - test.now;
        assert!(pause >= LONGEST_BACKOFF.mul_f64(0.8) && pause <= LONGEST_BACKOFF.mul_f64(1.2), "{pause:?}");
    }

    #[test]
    fn a_probe_that_was_not_sent_leaves_the_next_one_free() {
        let mut test = Test::new();
        test.opened().after(6.1);
        assert_eq!(test.admits(), Some(Admission::Probe));
        test.ends(Admission::Probe, Sign::Nothing);
        assert_eq!(test.admits(), Some(Admission::Probe));
    }

    #[test]
    fn it_pauses_for_as_long_as_it_is_asked_to_within_reason() {
        for (asked, pause) in [(Some(120), 120), (None, 60), (Some(0), 10), (Some(1_000_000), 3_600)] {
            let mut test = Test::new();
            test.ends(Admission::Regular, Sign::Pause(asked.map(Duration::from_secs)));
            // What was begun before neither ends the pause nor opens the circuit.
            test.ends(Admission::Regular, Sign::Alive);
            for _ in 0..FAILURES {
                test.ends(Admission::Regular, Sign::Failed);
            }
            test.after(f64::from(pause) - 0.1);
            assert_eq!(test.admits(), None, "{asked:?}");
            test.after(0.2);
            assert_eq!(test.admits(), Some(Admission::Regular), "{asked:?}");
        }
    }
}
