//! What is told, when, and what becomes of what is lost. Time is an argument.

use super::*;
use tokio_util::task::TaskTracker;

fn taken(seconds: u64) -> ExchangeOutcome {
    ExchangeOutcome::Taken { interval: Duration::from_secs(seconds), tracker_id: None }
}

struct Test {
    session: Session,
    now: Instant,
    presence: Presence,
    tracker: TaskTracker,
}

impl Test {
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

    /// Begins what is due and ends it so.
    fn tell(&mut self, event: UpstreamEvent, outcome: ExchangeOutcome) -> Option<UpstreamEvent> {
        assert_eq!(self.due(), Some(event));
        self.session.begins(event, self.now);
        assert_eq!(self.due(), None, "one exchange at a time");
        self.session.ended(outcome, self.presence, self.now)
    }

    fn leaves(&mut self) {
        self.presence = Presence::Left;
        self.session.leaves(self.tracker.token());
    }
}

#[test]
fn started_once_and_then_at_the_upstream_s_interval() {
    let mut test = Test::new();
    assert_eq!(test.tell(UpstreamEvent::Started, taken(1800)), None);
    assert_eq!(test.after(1799).due(), None);
    test.after(1);
    assert_eq!(test.tell(UpstreamEvent::Update, taken(600)), None);
    assert_eq!(test.after(599).due(), None);
    assert_eq!(test.after(1).due(), Some(UpstreamEvent::Update));
}

#[test]
fn the_interval_is_within_reason_and_never_below_the_smallest() {
    let interval = |interval, min_interval| {
        let reply = UpstreamReply { interval, min_interval, ..UpstreamReply::default() };
        let ExchangeOutcome::Taken { interval, .. } = ExchangeOutcome::taken(&reply) else { unreachable!() };
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
fn what_was_lost_is_told_with_the_next_announce() {
    let mut test = Test::new();
    assert_eq!(test.tell(UpstreamEvent::Started, ExchangeOutcome::Lost), None);
    assert_eq!(test.tell(UpstreamEvent::Started, taken(1800)), None);
    test.session.completes();
    assert_eq!(test.tell(UpstreamEvent::Completed, ExchangeOutcome::Lost), None);
    assert_eq!(test.tell(UpstreamEvent::Completed, taken(1800)), None);
    test.session.completes();
    assert_eq!(test.due(), None, "a client that says it twice has finished once");
}

#[test]
fn what_happens_during_an_exchange_is_told_behind_it() {
    let mut test = Test::new();
    test.session.begins(UpstreamEvent::Started, test.now);
    test.session.completes();
    assert_eq!(test.session.ended(taken(1800), Presence::Here, test.now), Some(UpstreamEvent::Completed));
    test.session.begins(UpstreamEvent::Completed, test.now);
    test.leaves();
    assert!(!test.session.is_over(test.presence));
    assert_eq!(test.session.ended(taken(1800), Presence::Left, test.now), Some(UpstreamEvent::Stopped));
    test.session.begins(UpstreamEvent::Stopped, test.now);
    assert_eq!(test.session.ended(taken(1800), Presence::Left, test.now), None);
    assert!(test.session.is_over(test.presence) && test.tracker.is_empty());
}

#[test]
fn who_finishes_and_leaves_during_an_exchange_has_finished_before_it_left() {
    let mut test = Test::new();
    test.session.begins(UpstreamEvent::Started, test.now);
    test.session.completes();
    test.leaves();
    assert_eq!(test.session.ended(taken(1800), Presence::Left, test.now), Some(UpstreamEvent::Completed));
    test.session.begins(UpstreamEvent::Completed, test.now);
    assert_eq!(test.session.ended(taken(1800), Presence::Left, test.now), Some(UpstreamEvent::Stopped));
    // Nor is the upstream asked in a circle.
    let mut test = Test::new();
    test.session.completes();
    test.leaves();
    for attempt in 1..=3 {
        assert!(!test.session.is_over(test.presence), "{attempt}");
        assert_eq!(test.tell(UpstreamEvent::Completed, ExchangeOutcome::Lost), None);
    }
    assert!(test.session.is_over(test.presence));
}

#[test]
fn who_is_to_be_hidden_is_signed_off_where_it_is_known_and_nothing_else_is_told() {
    for (outcome, known) in [(taken(60), true), (ExchangeOutcome::Unsure, true), (ExchangeOutcome::Lost, false)] {
        let mut test = Test::new();
        test.tell(UpstreamEvent::Started, outcome);
        test.session.completes();
        test.presence = Presence::Hidden;
        assert_eq!(
            (test.due(), test.session.is_over(test.presence)),
            (known.then_some(UpstreamEvent::Stopped), !known)
        );
    }
}

#[test]
fn a_completed_that_comes_first_stands_for_started() {
    let mut test = Test::new();
    test.session.completes();
    assert_eq!(test.tell(UpstreamEvent::Completed, taken(1800)), None);
    assert_eq!(test.after(1800).due(), Some(UpstreamEvent::Update));
}

#[test]
fn who_comes_back_while_its_leave_is_told_begins_anew() {
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, taken(1800));
    test.leaves();
    test.session.begins(UpstreamEvent::Stopped, test.now);
    test.presence = Presence::Here;
    assert_eq!(test.session.ended(taken(1800), Presence::Here, test.now), Some(UpstreamEvent::Started));
}

#[test]
fn who_comes_back_is_announced_anew_if_nobody_knows_whether_its_leave_was_heard() {
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, taken(1800));
    test.leaves();
    test.session.begins(UpstreamEvent::Stopped, test.now);
    test.presence = Presence::Here;
    test.session.stays();
    assert!(test.tracker.is_empty(), "nobody waits for the farewell of who is here");
    assert_eq!(test.session.ended(ExchangeOutcome::Unsure, Presence::Here, test.now), None);
    assert_eq!(test.due(), Some(UpstreamEvent::Started));
}

#[test]
fn who_may_be_known_is_signed_off() {
    for (outcome, is_over) in [(ExchangeOutcome::Lost, true), (ExchangeOutcome::Unsure, false)] {
        let mut test = Test::new();
        assert_eq!(test.tell(UpstreamEvent::Started, outcome), None);
        assert_eq!(test.due(), Some(UpstreamEvent::Started));
        test.leaves();
        assert_eq!(
            (test.session.is_over(test.presence), test.due()),
            (is_over, (!is_over).then_some(UpstreamEvent::Stopped))
        );
    }
}

#[test]
fn a_leave_is_told_three_times_at_most_and_never_to_who_does_not_know_the_peer() {
    let mut test = Test::new();
    test.leaves();
    assert_eq!((test.due(), test.session.is_over(test.presence)), (None, true));

    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, taken(1800));
    test.leaves();
    assert_eq!(test.tell(UpstreamEvent::Stopped, ExchangeOutcome::Lost), None);
    assert!(test.tracker.is_empty(), "nobody waits for the second attempt");
    assert_eq!(test.tell(UpstreamEvent::Stopped, ExchangeOutcome::Unsure), None);
    assert!(!test.session.is_over(test.presence));
    assert_eq!(test.tell(UpstreamEvent::Stopped, ExchangeOutcome::Lost), None);
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
        let mut test = Test::new();
        assert_eq!(test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(retry)), None);
        assert_eq!(test.after(seconds - 1).due(), None, "{retry:?}");
        assert_eq!(test.after(1).due(), Some(UpstreamEvent::Started), "{retry:?}");
        test.leaves();
        assert!(test.session.is_over(test.presence));
    }
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Never));
    assert_eq!(test.after(1_000_000).due(), None);
}

#[test]
fn a_refusal_holds_for_the_request_that_was_refused() {
    // The download finishes, or the client becomes a seed in another way: that has not been refused.
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Never));
    test.session.completes();
    assert_eq!(test.tell(UpstreamEvent::Completed, taken(1800)), None);
    assert_eq!(test.after(1799).due(), None);
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid));
    test.session.is_seed(true);
    assert_eq!(test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid)), None);
    // A client that changes all the time is asked about every ten seconds.
    for _ in 0..3 {
        test.session.is_seed(false);
        assert_eq!((test.due(), test.session.quiet_until(test.now)), (None, Some(test.now + SHORTEST_INTERVAL)));
        test.after(10);
        assert_eq!(test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid)), None);
        test.session.is_seed(true);
        test.after(10);
        assert_eq!(test.tell(UpstreamEvent::Started, ExchangeOutcome::refused(Retry::Unsaid)), None);
    }
}

#[test]
fn a_leecher_that_is_a_seed_now_is_told_at_once_and_not_the_other_way() {
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, taken(1800));
    test.session.is_seed(true);
    assert_eq!(test.tell(UpstreamEvent::Update, taken(1800)), None);
    for is_seed in [false, true] {
        test.session.is_seed(is_seed);
        assert_eq!(test.after(1).due(), None);
    }
}

#[test]
fn who_is_refused_later_is_still_signed_off() {
    let mut test = Test::new();
    test.tell(UpstreamEvent::Started, taken(60));
    test.after(60).tell(UpstreamEvent::Update, ExchangeOutcome::refused(Retry::Never));
    test.leaves();
    assert_eq!(test.tell(UpstreamEvent::Stopped, ExchangeOutcome::Lost), None);
}

#[test]
fn the_tracker_id_is_echoed_until_there_is_another() {
    let mut test = Test::new();
    let with = |id: Option<&str>| ExchangeOutcome::Taken {
        interval: Duration::from_mins(1),
        tracker_id: id.map(|id| id.as_bytes().to_vec()),
    };
    assert_eq!(test.session.begins(UpstreamEvent::Started, test.now), None);
    test.session.ended(with(Some("a")), Presence::Here, test.now);
    assert_eq!(test.session.begins(UpstreamEvent::Update, test.now).as_deref(), Some(&b"a"[..]));
    test.session.ended(with(None), Presence::Here, test.now);
    assert_eq!(test.session.begins(UpstreamEvent::Update, test.now).as_deref(), Some(&b"a"[..]));
    test.session.ended(with(Some("b")), Presence::Here, test.now);
    assert_eq!(test.session.begins(UpstreamEvent::Update, test.now).as_deref(), Some(&b"b"[..]));
}
