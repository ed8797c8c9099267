//! What one forwarder knows of one of our peers, and what it is to be told next.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use tracker_protocol::Event;
use tracker_protocol::upstream::{Retry, UpstreamReply};

/// Until an upstream that names no interval wants to hear of a peer again.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(30);

/// An upstream hears of one peer no more often, whatever interval it names.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);

/// It hears of one peer at least as often as that: what names a longer interval is broken rather than that patient.
const LONGEST_INTERVAL: Duration = Duration::from_hours(6);

/// How often a forwarder is told that a peer has left, if that is lost.
const FAREWELLS: u8 = 3;

/// What an exchange tells a forwarder of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamEvent {
    /// It is here.
    Started,
    /// It is still here.
    Update,
    /// It has finished its download.
    Completed,
    /// It has left.
    Stopped,
}

impl UpstreamEvent {
    /// The event that stands in the announce. A partial seed says so in each that has no other (BEP 21).
    pub(super) fn for_client(self, client: Option<Event>) -> Option<Event> {
        match self {
            Self::Started => Some(Event::Started),
            Self::Update => client.filter(|event| *event == Event::Paused),
            Self::Completed => Some(Event::Completed),
            Self::Stopped => Some(Event::Stopped),
        }
    }

    /// For the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Update => "update",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// Whether a forwarder is to know of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The peer is here.
    Here,
    /// It has left.
    Left,
    /// The forwarder is no longer to know of the torrent: if it knows of the peer it is told that the peer has left, and
    /// nothing else.
    Hidden,
}

/// What came of an exchange, as far as its session is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExchangeOutcome {
    /// The forwarder took it in.
    Taken {
        /// Until it wants to hear of the peer again.
        interval: Duration,
        /// To be sent with the next announce.
        tracker_id: Option<Vec<u8>>,
    },
    /// It refuses this peer or this torrent, for so long; for ever if none.
    Refused(Option<Duration>),
    /// It cannot have outcome.
    Lost,
    /// It may have outcome: it did not say, or not in a way to be understood.
    Unsure,
}

impl ExchangeOutcome {
    pub(super) fn taken(reply: &UpstreamReply) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let interval = reply.interval.map_or(DEFAULT_INTERVAL, seconds);
        let interval = interval.max(reply.min_interval.map_or(Duration::ZERO, seconds));
        Self::Taken {
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            tracker_id: reply.tracker_id.clone(),
        }
    }

    pub(super) fn refused(retry: Retry) -> Self {
        match retry {
            Retry::Unsaid => Self::Refused(Some(DEFAULT_INTERVAL)),
            Retry::Seconds(seconds) => Self::Refused(Some(within_reason(seconds.into()))),
            Retry::Minutes(minutes) => Self::Refused(Some(within_reason(u64::from(minutes) * 60))),
            Retry::Never => Self::Refused(None),
        }
    }
}

fn within_reason(seconds: u64) -> Duration {
    Duration::from_secs(seconds).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// What one forwarder knows of one peer.
#[derive(Debug)]
pub(super) struct Session {
    registration: Registration,
    completed: Completed,
    /// Whether the client says that it has the whole torrent.
    is_seed: bool,
    /// The exchange that waits for its turn or is under way. There is one at a time.
    under_way: Option<UnderWay>,
    /// The tracker id of its latest reply that had one.
    tracker_id: Option<Vec<u8>>,
    /// How often its leave was told and lost.
    stop_attempts: u8,
    /// Held while the peer's leave has still to be told: who stops the process waits for it.
    open_stop: Option<TaskTrackerToken>,
    /// By which an exchange knows its session: there may have been another one of the same peer before.
    pub(super) serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    event: UpstreamEvent,
    /// When it began.
    since: Instant,
    /// What it says of the client's role.
    is_seed: bool,
    /// Whether it asks about something else than what the forwarder refused, before the refusal has passed.
    is_extra: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    /// It has not been told that the peer is here.
    None,
    /// It has been told, but nobody knows whether it has outcome.
    Unsure,
    /// It knows the peer, and wants to hear of it again.
    Peer {
        /// Then.
        due: Instant,
        /// Whether it knows the peer as a seed.
        is_seed: bool,
    },
    /// It refused a request, and does not want to hear the same again until then; never if none.
    Refused {
        /// Then.
        until: Option<Instant>,
        /// Whether it took the peer in before.
        knows: bool,
        /// What the request said of the peer's role.
        is_seed: bool,
        /// Whether the request said that the download has finished.
        completed: bool,
        /// Another request may be made from then on: a client that changes all the time is not to have its upstream asked
        /// all the time.
        others_from: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completed {
    No,
    Owed,
    Told,
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

    /// The peer is here, whatever was heard of it before.
    pub(super) fn stays(&mut self) {
        self.stop_attempts = 0;
        self.open_stop = None;
    }

    /// The peer says that it has finished its download. It is told once.
    pub(super) fn completes(&mut self) {
        if self.completed == Completed::No {
            self.completed = Completed::Owed;
        }
    }

    /// What the peer says of its role. A forwarder that knows it as a leecher is told at once that it is a seed.
    pub(super) fn is_seed(&mut self, is_seed: bool) {
        self.is_seed = is_seed;
    }

    /// The forwarder may have forgotten the peer: it is announced anew.
    pub(super) fn is_in_doubt(&mut self) {
        if matches!(self.registration, Registration::Peer { .. }) {
            self.registration = Registration::Unsure;
        }
    }

    /// The peer leaves; `token` is held until that is told.
    pub(super) fn leaves(&mut self, token: TaskTrackerToken) {
        self.open_stop = Some(token);
    }

    /// The peer's leave cannot be told at this time.
    pub(super) fn nobody_waits(&mut self) {
        self.open_stop = None;
    }

    /// What is to be told now, if anything is.
    pub(super) fn due(&self, presence: Presence, now: Instant) -> Option<UpstreamEvent> {
        if self.under_way.is_some() {
            return None;
        }
        if presence != Presence::Here {
            return self.last_words(presence);
        }
        if self.holds_off(now).is_some() {
            return None;
        }
        match self.registration {
            _ if self.completed == Completed::Owed => Some(UpstreamEvent::Completed),
            Registration::None | Registration::Unsure | Registration::Refused { .. } => Some(UpstreamEvent::Started),
            Registration::Peer { .. } => Some(UpstreamEvent::Update),
        }
    }

    /// Until when nothing is to be told of a peer that is here: as long as the forwarder is content with what it knows, or
    /// refuses to hear it. None if something is to be told now.
    fn holds_off(&self, now: Instant) -> Option<Instant> {
        let until = match self.registration {
            Registration::None | Registration::Unsure => return None,
            Registration::Peer { .. } if self.completed == Completed::Owed => return None,
            Registration::Peer { is_seed, .. } if self.is_seed && !is_seed => return None,
            Registration::Peer { due, .. } => due,
            Registration::Refused { until, is_seed, completed, others_from, .. } => {
                let until = until.unwrap_or(now + LONGEST_INTERVAL);
                let is_another = is_seed != self.is_seed || (self.completed == Completed::Owed && !completed);
                if is_another { until.min(others_from) } else { until }
            }
        };
        Some(until).filter(|&until| now < until)
    }

    /// Until when nothing is due for a peer that stays, as long as no exchange ends and the peer says nothing new. None if
    /// something is due already.
    pub(super) fn quiet_until(&self, now: Instant) -> Option<Instant> {
        if self.under_way.is_some() { Some(now + LONGEST_INTERVAL) } else { self.holds_off(now) }
    }

    /// An exchange begins, with the tracker id to be sent. It must be followed by [`Self::ended`].
    pub(super) fn begins(&mut self, event: UpstreamEvent, now: Instant) -> Option<Vec<u8>> {
        let until = if let Registration::Refused { until, .. } = self.registration { Some(until) } else { None };
        let is_extra = until.is_some_and(|until| until.is_none_or(|until| now < until));
        self.under_way = Some(UnderWay { event, since: now, is_seed: self.is_seed, is_extra });
        self.tracker_id.clone()
    }

    /// The exchange under way has ended. Returns what is to be told at once, without waiting for the peer's next announce.
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
            return self.signed_off(lost, leaving);
        }
        if event == UpstreamEvent::Completed {
            if !lost {
                self.completed = Completed::Told;
            } else if leaving {
                self.stop_attempts += 1;
            }
        }
        match outcome {
            ExchangeOutcome::Taken { interval, tracker_id } => {
                // From its start: a client that comes every half hour is not to be late by the time that an answer takes.
                self.registration = Registration::Peer { due: since + interval, is_seed };
                self.tracker_id = tracker_id.or(self.tracker_id.take());
            }
            ExchangeOutcome::Refused(pause) => {
                self.registration = Registration::Refused {
                    until: pause.map(|pause| now + pause),
                    knows: self.knows(),
                    is_seed,
                    completed: event == UpstreamEvent::Completed,
                    others_from: if is_extra { since + SHORTEST_INTERVAL } else { since },
                };
            }
            ExchangeOutcome::Unsure if !self.knows() => self.registration = Registration::Unsure,
            ExchangeOutcome::Lost | ExchangeOutcome::Unsure => {}
        }
        // What was lost is told later: an upstream in trouble is not asked in a circle.
        let again = lost && (!leaving || event == UpstreamEvent::Completed);
        self.due(presence, now).filter(|_| !again)
    }

    /// What is to be told of a peer that is no longer here.
    fn last_words(&self, presence: Presence) -> Option<UpstreamEvent> {
        let refused = matches!(self.registration, Registration::Refused { .. });
        if presence == Presence::Left && self.completed == Completed::Owed && !refused {
            return Some(UpstreamEvent::Completed);
        }
        self.knows().then_some(UpstreamEvent::Stopped)
    }

    fn signed_off(&mut self, lost: bool, leaving: bool) -> Option<UpstreamEvent> {
        // Nobody waits for a second attempt.
        self.open_stop = None;
        if lost && leaving {
            self.stop_attempts += 1;
            return None;
        }
        // Should the peer have come back in the meantime, it begins anew: at once, or with its next announce.
        *self = Self { serial: self.serial, ..Self::new() };
        (!leaving && !lost).then_some(UpstreamEvent::Started)
    }

    /// Whether nothing is left to tell of a peer that is no longer here.
    pub(super) fn is_over(&self, presence: Presence) -> bool {
        self.under_way.is_none() && (self.last_words(presence).is_none() || self.stop_attempts >= FAREWELLS)
    }

    fn knows(&self) -> bool {
        matches!(
            self.registration,
            Registration::Unsure | Registration::Peer { .. } | Registration::Refused { knows: true, .. }
        )
    }
}

#[cfg(test)]
mod tests;
