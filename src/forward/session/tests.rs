//! Which announce is due at which time, and what is due after a failure. The tests pass the time as an argument.

use super::*;
use tokio_util::task::TaskTracker;

fn accepted(seconds: u64) -> ExchangeOutcome {
    ExchangeOutcome::Accepted { interval: Duration::from_secs(seconds), tracker_id: None }
}

struct SessionTest {
    session: Session,
    now: Instant,
    presence: Presence,
    tracker: TaskTracker,
}

impl SessionTest {
    fn new() -> Self {
        Self { session: Session::new(), now: Instant::now(), presence: Presence::Here, tracker: TaskTracker::new() }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn due(&self) -> Option<UpstreamEvent> {
        self.session.due(self.presence, self.now)
    }

    /// Begins the exchange that is due, and ends it with this outcome.
    fn exchange(&mut self, event: UpstreamEvent, outcome: ExchangeOutcome) -> Option<UpstreamEvent> {
        assert_eq!(self.due(), Some(event));
        self.session.begin(event, self.now);
        assert_eq!(self.due(), None, "one exchange at a time");
        self.session.ended(outcome, self.presence, self.now)
    }

    fn leaves(&mut self) {
        self.presence = Presence::Left;
        self.session.hold_open_stop(self.tracker.token());
    }
}

#[test]
fn started_once_and_then_at_the_upstream_s_interval() {
    let mut test = SessionTest::new();
    assert_eq!(test.exchange(UpstreamEvent::Started, accepted(1800)), None);
    assert_eq!(test.after(1799).due(), None);
    test.after(1);
    assert_eq!(test.exchange(UpstreamEvent::Update, accepted(600)), None);
    assert_eq!(test.after(599).due(), None);
    assert_eq!(test.after(1).due(), Some(UpstreamEvent::Update));
}

#[test]
fn the_interval_is_clamped_and_never_below_min_interval() {
    let interval = |interval, min_interval| {
        let reply = UpstreamReply { interval, min_interval, ..UpstreamReply::default() };
        let ExchangeOutcome::Accepted { interval, .. } = ExchangeOutcome::accepted(&reply) else { unreachable!() };
        interval.as_secs()
    };
    assert_eq!(interval(None, None), 1800);
    assert_eq!(interval(Some(120), None), 120);
    assert_eq!(interval(Some(120), Some(60)), 120);
    assert_eq!(interval(Some(120), Some(300)), 300);
    assert_eq!(interval(Some(0), None), 10);
    assert_eq!(interval(Some(u32::MAX), Some(u32::MAX)), 6 * 3600);
}

#[test]
fn what_was_lost_is_sent_with_the_next_announce() {
    let mut test = SessionTest::new();
    assert_eq!(test.exchange(UpstreamEvent::Started, ExchangeOutcome::Lost), None);
    assert_eq!(test.exchange(UpstreamEvent::Started, accepted(1800)), None);
    test.session.set_completed();
    assert_eq!(test.exchange(UpstreamEvent::Completed, ExchangeOutcome::Lost), None);
    assert_eq!(test.exchange(UpstreamEvent::Completed, accepted(1800)), None);
    test.session.set_completed();
    assert_eq!(test.due(), None, "a second completed is not sent");
}

#[test]
fn what_happens_during_an_exchange_is_sent_after_it() {
    let mut test = SessionTest::new();
    test.session.begin(UpstreamEvent::Started, test.now);
    test.session.set_completed();
    assert_eq!(test.session.ended(accepted(1800), Presence::Here, test.now), Some(UpstreamEvent::Completed));
    test.session.begin(UpstreamEvent::Completed, test.now);
    test.leaves();
    assert!(!test.session.is_over(test.presence));
    assert_eq!(test.session.ended(accepted(1800), Presence::Left, test.now), Some(UpstreamEvent::Stopped));
    test.session.begin(UpstreamEvent::Stopped, test.now);
    assert_eq!(test.session.ended(accepted(1800), Presence::Left, test.now), None);
    assert!(test.session.is_over(test.presence) && test.tracker.is_empty());
}

#[test]
fn completed_goes_before_stopped_if_both_happen_during_an_exchange() {
    let mut test = SessionTest::new();
    test.session.begin(UpstreamEvent::Started, test.now);
    test.session.set_completed();
    test.leaves();
    assert_eq!(test.session.ended(accepted(1800), Presence::Left, test.now), Some(UpstreamEvent::Completed));
    test.session.begin(UpstreamEvent::Completed, test.now);
    assert_eq!(test.session.ended(accepted(1800), Presence::Left, test.now), Some(UpstreamEvent::Stopped));
    // A failing upstream is not asked in a loop.
    let mut test = SessionTest::new();
    test.session.set_completed();
    test.leaves();
    for attempt in 1..=3 {
        assert!(!test.session.is_over(test.presence), "{attempt}");
        assert_eq!(test.exchange(UpstreamEvent::Completed, ExchangeOutcome::Lost), None);
    }
    assert!(test.session.is_over(test.presence));
}

#[test]
fn a_hidden_client_is_stopped_where_it_is_known_and_nothing_else_is_sent() {
    for (outcome, known) in [(accepted(60), true), (ExchangeOutcome::Unsure, true), (ExchangeOutcome::Lost, false)] {
        let mut test = SessionTest::new();
        test.exchange(UpstreamEvent::Started, outcome);
        test.session.set_completed();
        test.presence = Presence::Hidden;
        assert_eq!(
            (test.due(), test.session.is_over(test.presence)),
            (known.then_some(UpstreamEvent::Stopped), !known)
        );
    }
}

#[test]
fn a_completed_that_comes_first_stands_for_started() {
    let mut test = SessionTest::new();
    test.session.set_completed();
    assert_eq!(test.exchange(UpstreamEvent::Completed, accepted(1800)), None);
    assert_eq!(test.after(1800).due(), Some(UpstreamEvent::Update));
}

#[test]
fn a_client_that_comes_back_during_its_stopped_is_started_again() {
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, accepted(1800));
    test.leaves();
    test.session.begin(UpstreamEvent::Stopped, test.now);
    test.presence = Presence::Here;
    assert_eq!(test.session.ended(accepted(1800), Presence::Here, test.now), Some(UpstreamEvent::Started));
}

#[test]
fn a_client_that_comes_back_is_started_again_even_if_its_stopped_may_be_lost() {
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, accepted(1800));
    test.leaves();
    test.session.begin(UpstreamEvent::Stopped, test.now);
    test.presence = Presence::Here;
    test.session.client_is_here();
    assert!(test.tracker.is_empty(), "no stopped is due for a client that is here");
    assert_eq!(test.session.ended(ExchangeOutcome::Unsure, Presence::Here, test.now), None);
    assert_eq!(test.due(), Some(UpstreamEvent::Started));
}

#[test]
fn a_client_that_may_be_listed_is_stopped() {
    for (outcome, is_over) in [(ExchangeOutcome::Lost, true), (ExchangeOutcome::Unsure, false)] {
        let mut test = SessionTest::new();
        assert_eq!(test.exchange(UpstreamEvent::Started, outcome), None);
        assert_eq!(test.due(), Some(UpstreamEvent::Started));
        test.leaves();
        assert_eq!(
            (test.session.is_over(test.presence), test.due()),
            (is_over, (!is_over).then_some(UpstreamEvent::Stopped))
        );
    }
}

#[test]
fn stopped_is_sent_three_times_at_most_and_only_where_the_client_may_be_listed() {
    let mut test = SessionTest::new();
    test.leaves();
    assert_eq!((test.due(), test.session.is_over(test.presence)), (None, true));

    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, accepted(1800));
    test.leaves();
    assert_eq!(test.exchange(UpstreamEvent::Stopped, ExchangeOutcome::Lost), None);
    assert!(test.tracker.is_empty(), "the end of the process waits for the first attempt only");
    assert_eq!(test.exchange(UpstreamEvent::Stopped, ExchangeOutcome::Unsure), None);
    assert!(!test.session.is_over(test.presence));
    assert_eq!(test.exchange(UpstreamEvent::Stopped, ExchangeOutcome::Lost), None);
    assert!(test.session.is_over(test.presence));
}

#[test]
fn a_refusal_holds_for_as_long_as_it_says() {
    for (retry, seconds) in [
        (Retry::Unsaid, 1800),
        (Retry::Seconds(60), 60),
        (Retry::Minutes(5), 300),
        (Retry::Minutes(u32::MAX), 6 * 3600),
    ] {
        let mut test = SessionTest::new();
        assert_eq!(test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(retry)), None);
        assert_eq!(test.after(seconds - 1).due(), None, "{retry:?}");
        assert_eq!(test.after(1).due(), Some(UpstreamEvent::Started), "{retry:?}");
        test.leaves();
        assert!(test.session.is_over(test.presence));
    }
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Never));
    assert_eq!(test.after(1_000_000).due(), None);
}

#[test]
fn a_refusal_holds_for_the_request_that_was_refused() {
    // The upstream refused `started` from a leecher. The refusal does not cover `completed` or an announce as a seed.
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Never));
    test.session.set_completed();
    assert_eq!(test.exchange(UpstreamEvent::Completed, accepted(1800)), None);
    assert_eq!(test.after(1799).due(), None);
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid));
    test.session.set_seed(true);
    assert_eq!(test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid)), None);
    // A client that changes all the time is announced at most every ten seconds.
    for _ in 0..3 {
        test.session.set_seed(false);
        assert_eq!((test.due(), test.session.quiet_until(test.now)), (None, Some(test.now + SHORTEST_INTERVAL)));
        test.after(10);
        assert_eq!(test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid)), None);
        test.session.set_seed(true);
        test.after(10);
        assert_eq!(test.exchange(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid)), None);
    }
}

#[test]
fn a_leecher_that_becomes_a_seed_is_announced_at_once_but_not_the_reverse() {
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, accepted(1800));
    test.session.set_seed(true);
    assert_eq!(test.exchange(UpstreamEvent::Update, accepted(1800)), None);
    for is_seed in [false, true] {
        test.session.set_seed(is_seed);
        assert_eq!(test.after(1).due(), None);
    }
}

#[test]
fn a_listed_client_that_is_refused_later_is_still_stopped() {
    let mut test = SessionTest::new();
    test.exchange(UpstreamEvent::Started, accepted(60));
    test.after(60).exchange(UpstreamEvent::Update, ExchangeOutcome::refused(Retry::Never));
    test.leaves();
    assert_eq!(test.exchange(UpstreamEvent::Stopped, ExchangeOutcome::Lost), None);
}

#[test]
fn the_tracker_id_is_sent_until_the_upstream_gives_another() {
    let mut test = SessionTest::new();
    let with = |id: Option<&str>| ExchangeOutcome::Accepted {
        interval: Duration::from_mins(1),
        tracker_id: id.map(|id| id.as_bytes().to_vec()),
    };
    assert_eq!(test.session.begin(UpstreamEvent::Started, test.now), None);
    test.session.ended(with(Some("a")), Presence::Here, test.now);
    assert_eq!(test.session.begin(UpstreamEvent::Update, test.now).as_deref(), Some(&b"a"[..]));
    test.session.ended(with(None), Presence::Here, test.now);
    assert_eq!(test.session.begin(UpstreamEvent::Update, test.now).as_deref(), Some(&b"a"[..]));
    test.session.ended(with(Some("b")), Presence::Here, test.now);
    assert_eq!(test.session.begin(UpstreamEvent::Update, test.now).as_deref(), Some(&b"b"[..]));
}
