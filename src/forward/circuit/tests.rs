use super::*;

struct CircuitTest {
    circuit: Circuit,
    now: Instant,
}

impl CircuitTest {
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

    fn ends(&mut self, admission: Admission, call: CallOutcome) -> CircuitState {
        self.circuit.ended(admission, call, self.now);
        self.circuit.state()
    }

    fn opened(&mut self) -> &mut Self {
        for _ in 0..FAILURES {
            assert_eq!(self.admits(), Some(Admission::Regular));
            self.ends(Admission::Regular, CallOutcome::Failed);
        }
        assert_eq!(self.admits(), None);
        self
    }
}

#[test]
fn failures_in_a_row_open_it_unless_an_answer_comes_between() {
    let mut test = CircuitTest::new();
    for _ in 0..FAILURES * 2 {
        test.ends(Admission::Regular, CallOutcome::Failed);
        test.ends(Admission::Regular, CallOutcome::Failed);
        assert_eq!(test.ends(Admission::Regular, CallOutcome::Alive), CircuitState::Closed);
    }
    test.opened();
}

#[test]
fn one_probe_at_a_time_and_it_decides() {
    let mut test = CircuitTest::new();
    test.opened().after(3.9);
    assert_eq!(test.admits(), None);
    test.after(2.2);
    assert_eq!(test.admits(), Some(Admission::Probe));
    assert_eq!(test.admits(), None);
    // An exchange that began before the circuit opened does not count.
    assert_eq!(test.ends(Admission::Regular, CallOutcome::Failed), CircuitState::Probing);
    assert!(matches!(test.ends(Admission::Probe, CallOutcome::Failed), CircuitState::Open { .. }));
    test.after(7.9);
    assert_eq!(test.admits(), None);
    test.after(4.2);
    assert_eq!(test.admits(), Some(Admission::Probe));
    assert_eq!(test.ends(Admission::Probe, CallOutcome::Alive), CircuitState::Closed);
    // The backoff starts from its first value again.
    test.opened().after(6.1);
    assert_eq!(test.admits(), Some(Admission::Probe));
}

#[test]
fn it_is_open_for_five_minutes_at_most() {
    let mut test = CircuitTest::new();
    test.opened();
    for _ in 0..10 {
        test.after(LONGEST_BACKOFF.as_secs_f64() * 1.3);
        assert_eq!(test.admits(), Some(Admission::Probe));
        test.ends(Admission::Probe, CallOutcome::Failed);
    }
    let CircuitState::Open { until } = test.circuit.state() else { panic!("{:?}", test.circuit) };
    let pause = until - test.now;
    assert!(pause >= LONGEST_BACKOFF.mul_f64(0.8) && pause <= LONGEST_BACKOFF.mul_f64(1.2), "{pause:?}");
}

#[test]
fn a_probe_that_was_not_sent_leaves_the_next_one_free() {
    let mut test = CircuitTest::new();
    test.opened().after(6.1);
    assert_eq!(test.admits(), Some(Admission::Probe));
    test.ends(Admission::Probe, CallOutcome::NotMade);
    assert_eq!(test.admits(), Some(Admission::Probe));
}

#[test]
fn it_pauses_for_retry_after_within_bounds() {
    for (asked, pause) in [(Some(120), 120), (None, 60), (Some(0), 10), (Some(1_000_000), 3_600)] {
        let mut test = CircuitTest::new();
        test.ends(Admission::Regular, CallOutcome::Pause(asked.map(Duration::from_secs)));
        // An exchange that began before the pause neither ends the pause nor opens the circuit.
        test.ends(Admission::Regular, CallOutcome::Alive);
        for _ in 0..FAILURES {
            test.ends(Admission::Regular, CallOutcome::Failed);
        }
        test.after(f64::from(pause) - 0.1);
        assert_eq!(test.admits(), None, "{asked:?}");
        test.after(0.2);
        assert_eq!(test.admits(), Some(Admission::Regular), "{asked:?}");
    }
}
