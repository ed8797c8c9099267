//! What one forwarder knows of one of our clients, and which announce is due next.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use tracker_protocol::Event;
use tracker_protocol::upstream::{Retry, UpstreamReply};

/// The interval of an upstream that names no interval.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(30);

/// The shortest interval between two announces of one client, even if the upstream names a shorter interval.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);

/// The longest interval between two announces of one client. An upstream that names a longer one is probably broken.
const LONGEST_INTERVAL: Duration = Duration::from_hours(6);

/// How many attempts to send the final `completed` or `stopped` of a client that has left may fail. Then the session
/// ends.
const MAX_STOP_ATTEMPTS: u8 = 3;

/// What an exchange announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamEvent {
    /// The client has started.
    Started,
    /// The client is still here.
    Update,
    /// The client has finished its download.
    Completed,
    /// The client has left.
    Stopped,
}

impl UpstreamEvent {
    /// Returns the event to send. `client` is the event of the client's announce. The `paused` of a partial seed goes
    /// with each announce that has no other event (BEP 21).
    pub(super) fn on_wire(self, client: Option<Event>) -> Option<Event> {
        match self {
            Self::Started => Some(Event::Started),
            Self::Update => client.filter(|event| *event == Event::Paused),
            Self::Completed => Some(Event::Completed),
            Self::Stopped => Some(Event::Stopped),
        }
    }

    /// Returns the event's name in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Update => "update",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// Whether a forwarder should list a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The client is here.
    Here,
    /// The client has left.
    Left,
    /// The forwarder's entry excludes the torrent, or the forwarder was removed. The forwarder gets `stopped` if it
    /// lists the client, and nothing else.
    Hidden,
}

/// How an exchange ended, as far as its session is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExchangeOutcome {
    /// The upstream accepted the announce.
    Accepted {
        /// The time until the next announce is due.
        interval: Duration,
        /// The tracker id, which is sent with the next announce.
        tracker_id: Option<Vec<u8>>,
    },
    /// The upstream refused the client or the torrent for this long; None: for ever.
    Refused(Option<Duration>),
    /// The announce cannot have reached the upstream.
    Lost,
    /// The announce may have arrived: there was no reply, or no readable one.
    Unsure,
}

impl ExchangeOutcome {
    pub(super) fn accepted(reply: &UpstreamReply) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let interval = reply.interval.map_or(DEFAULT_INTERVAL, seconds);
        let interval = interval.max(reply.min_interval.map_or(Duration::ZERO, seconds));
        Self::Accepted {
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            tracker_id: reply.tracker_id.clone(),
        }
    }

    pub(super) fn refused(retry: Retry) -> Self {
        match retry {
            Retry::Unsaid => Self::Refused(Some(DEFAULT_INTERVAL)),
            Retry::Seconds(seconds) => Self::Refused(Some(clamped(seconds.into()))),
            Retry::Minutes(minutes) => Self::Refused(Some(clamped(u64::from(minutes) * 60))),
            Retry::Never => Self::Refused(None),
        }
    }
}

fn clamped(seconds: u64) -> Duration {
    Duration::from_secs(seconds).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// What one forwarder knows of one client.
#[derive(Debug)]
pub(super) struct Session {
    registration: Registration,
    completed: Completed,
    /// Whether the client says that it has the whole torrent.
    is_seed: bool,
    /// The exchange that is queued or under way. There is at most one at a time.
    under_way: Option<UnderWay>,
    /// The tracker id of the upstream's latest reply that had one.
    tracker_id: Option<Vec<u8>>,
    /// How many attempts to send the final `completed` or `stopped` have failed since the client left.
    stop_attempts: u8,
    /// A token, held while a `stopped` is due. The end of the process waits for all such tokens.
    open_stop: Option<TaskTrackerToken>,
    /// Distinguishes the exchanges of this session from those of an earlier session of the same client.
    pub(super) serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    event: UpstreamEvent,
    /// When the exchange was queued.
    since: Instant,
    /// Whether the exchange announces the client as a seed.
    is_seed: bool,
    /// Whether the exchange began in spite of a refusal, because its announce differs from the refused one.
    is_extra: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    /// No announce can have reached the upstream.
    None,
    /// An announce may have reached the upstream.
    Unsure,
    /// The upstream lists the client.
    Peer {
        /// When the next announce is due.
        due: Instant,
        /// Whether the upstream lists the client as a seed.
        is_seed: bool,
    },
    /// The upstream refused an announce.
    Refused {
        /// When the same announce may be sent again. `None` means never.
        until: Option<Instant>,
        /// Whether the upstream may have listed the client before the refusal.
        is_listed: bool,
        /// Whether the refused announce was that of a seed.
        is_seed: bool,
        /// Whether the refused announce was `completed`.
        completed: bool,
        /// When a different announce may be sent. This bounds the requests for a client that always changes its
        /// announces.
        others_from: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completed {
    No,
    Due,
    Sent,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            registration: Registration::None,
            completed: Completed::No,
            is_seed: false,
            under_way: None,
            tracker_id: None,
            stop_attempts: 0,
            open_stop: None,
            serial: fastrand::u64(..),
        }
    }

    /// Records that the client is here, even if it had left before.
    pub(super) fn client_is_here(&mut self) {
        self.stop_attempts = 0;
        self.open_stop = None;
    }

    /// Records that the client has finished its download. `completed` is sent only once.
    pub(super) fn set_completed(&mut self) {
        if self.completed == Completed::No {
            self.completed = Completed::Due;
        }
    }

    /// Sets the client's role. When a leecher has become a seed, an announce is due at once.
    pub(super) fn set_seed(&mut self, is_seed: bool) {
        self.is_seed = is_seed;
    }

    /// Records that the upstream may have removed the client. Then `started` is sent again.
    pub(super) fn set_unsure(&mut self) {
        if matches!(self.registration, Registration::Peer { .. }) {
            self.registration = Registration::Unsure;
        }
    }

    /// Records that the client left. `token` is held until the first attempt to send `stopped` has ended.
    pub(super) fn hold_open_stop(&mut self, token: TaskTrackerToken) {
        self.open_stop = Some(token);
    }

    /// Releases the token of a `stopped` that cannot be sent now: the end of the process must not wait for it.
    pub(super) fn release_open_stop(&mut self) {
        self.open_stop = None;
    }

    /// Returns the announce that is due now, if one is.
    pub(super) fn due(&self, presence: Presence, now: Instant) -> Option<UpstreamEvent> {
        if self.under_way.is_some() {
            return None;
        }
        if presence != Presence::Here {
            return self.due_after_leaving(presence);
        }
        if self.waits_until(now).is_some() {
            return None;
        }
        match self.registration {
            _ if self.completed == Completed::Due => Some(UpstreamEvent::Completed),
            Registration::None | Registration::Unsure | Registration::Refused { .. } => Some(UpstreamEvent::Started),
            Registration::Peer { .. } => Some(UpstreamEvent::Update),
        }
    }

    /// Returns when the next announce of a client that is here is due: at the end of the upstream's interval or
    /// refusal. `None` if an announce is due now.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let until = match self.registration {
            Registration::None | Registration::Unsure => return None,
            Registration::Peer { .. } if self.completed == Completed::Due => return None,
            Registration::Peer { is_seed, .. } if self.is_seed && !is_seed => return None,
            Registration::Peer { due, .. } => due,
            Registration::Refused { until, is_seed, completed, others_from, .. } => {
                let until = until.unwrap_or(now + LONGEST_INTERVAL);
                let is_different = is_seed != self.is_seed || (self.completed == Completed::Due && !completed);
                if is_different { until.min(others_from) } else { until }
            }
        };
        Some(until).filter(|&until| now < until)
    }

    /// Returns when the next announce is due for a client that is here. `None` while an exchange is under way.
    pub(super) fn due_at(&self, now: Instant) -> Option<Instant> {
        self.under_way.is_none().then(|| self.waits_until(now).unwrap_or(now))
    }

    /// Returns until when nothing is due for a client that is here, unless an exchange ends or the client changes.
    /// `None` if something is due now.
    pub(super) fn quiet_until(&self, now: Instant) -> Option<Instant> {
        if self.under_way.is_some() { Some(now + LONGEST_INTERVAL) } else { self.waits_until(now) }
    }

    /// Records that an exchange is queued, and returns the tracker id to send. [`Self::ended`] must follow.
    pub(super) fn begin(&mut self, event: UpstreamEvent, now: Instant) -> Option<Vec<u8>> {
        let until = if let Registration::Refused { until, .. } = self.registration { Some(until) } else { None };
        let is_extra = until.is_some_and(|until| until.is_none_or(|until| now < until));
        self.under_way = Some(UnderWay { event, since: now, is_seed: self.is_seed, is_extra });
        self.tracker_id.clone()
    }

    /// Records that the exchange under way has ended. Returns the announce that is due at once, before the client's
    /// next announce.
    pub(super) fn ended(
        &mut self,
        outcome: ExchangeOutcome,
        presence: Presence,
        now: Instant,
    ) -> Option<UpstreamEvent> {
        let UnderWay { event, since, is_seed, is_extra } = self.under_way.take()?;
        let leaving = presence != Presence::Here;
        let lost = matches!(outcome, ExchangeOutcome::Lost | ExchangeOutcome::Unsure);
        if event == UpstreamEvent::Stopped {
            return self.stop_ended(lost, leaving);
        }
        if event == UpstreamEvent::Completed {
            if !lost {
                self.completed = Completed::Sent;
            } else if leaving {
                self.stop_attempts += 1;
            }
        }
        match outcome {
            ExchangeOutcome::Accepted { interval, tracker_id } => {
                // The interval counts from the beginning of the exchange. Otherwise a client that announces every half
                // hour would come a little too early, and only every other announce would go upstream.
                self.registration = Registration::Peer { due: since + interval, is_seed };
                self.tracker_id = tracker_id.or(self.tracker_id.take());
            }
            ExchangeOutcome::Refused(pause) => {
                self.registration = Registration::Refused {
                    until: pause.map(|pause| now + pause),
                    is_listed: self.may_be_listed(),
                    is_seed,
                    completed: event == UpstreamEvent::Completed,
                    others_from: if is_extra { since + SHORTEST_INTERVAL } else { since },
                };
            }
            ExchangeOutcome::Unsure if !self.may_be_listed() => self.registration = Registration::Unsure,
            ExchangeOutcome::Lost | ExchangeOutcome::Unsure => {}
        }
        // A lost announce is not repeated at once: a failing upstream must not be asked in a loop.
        let again = lost && (!leaving || event == UpstreamEvent::Completed);
        self.due(presence, now).filter(|_| !again)
    }

    /// Returns the announce that is due for a client that is no longer here.
    fn due_after_leaving(&self, presence: Presence) -> Option<UpstreamEvent> {
        let refused = matches!(self.registration, Registration::Refused { .. });
        if presence == Presence::Left && self.completed == Completed::Due && !refused {
            return Some(UpstreamEvent::Completed);
        }
        self.may_be_listed().then_some(UpstreamEvent::Stopped)
    }

    fn stop_ended(&mut self, lost: bool, leaving: bool) -> Option<UpstreamEvent> {
        // When the process ends, it does not wait for a second attempt.
        self.open_stop = None;
        if lost && leaving {
            self.stop_attempts += 1;
            return None;
        }
        // A client that came back meanwhile gets `started`, at once or with its next announce.
        *self = Self { serial: self.serial, ..Self::new() };
        (!leaving && !lost).then_some(UpstreamEvent::Started)
    }

    /// Returns whether there is nothing more to send for a client that is no longer here.
    pub(super) fn is_over(&self, presence: Presence) -> bool {
        self.under_way.is_none()
            && (self.due_after_leaving(presence).is_none() || self.stop_attempts >= MAX_STOP_ATTEMPTS)
    }

    fn may_be_listed(&self) -> bool {
        matches!(
            self.registration,
            Registration::Unsure | Registration::Peer { .. } | Registration::Refused { is_listed: true, .. }
        )
    }
}

#[cfg(test)]
mod tests;
