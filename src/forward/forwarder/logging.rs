//! What the log says about forwarders.

use std::fmt::{self, Display};
use std::time::Duration;

use tokio::time::Instant;

use crate::forward::circuit::{Admission, CircuitState, FAILURES};
use crate::forward::error::ForwardError;
use crate::forward::health::HealthChange;
use crate::forward::session::{ExchangeOutcome, UpstreamEvent};
use tracker_protocol::AnnounceRequest;

/// When the client is announced again.
pub(super) struct Again<'a>(pub(super) UpstreamEvent, pub(super) &'a ExchangeOutcome);

impl Display for Again<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(UpstreamEvent::Stopped, _) | Self(_, ExchangeOutcome::Lost | ExchangeOutcome::Unsure) => Ok(()),
            Self(_, ExchangeOutcome::Accepted { interval, .. } | ExchangeOutcome::Refused(Some(interval))) => {
                write!(f, ", again in {interval:?}")
            }
            Self(_, ExchangeOutcome::Refused(None)) => write!(f, ", the same announce is not sent again"),
        }
    }
}

pub(super) struct Warning<'a>(pub(super) Option<&'a [u8]>);

impl Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |text| write!(f, ", with the warning \"{}\"", text.escape_ascii()))
    }
}

/// What a failure means for the exchanges to come.
pub(super) struct Consequence(pub(super) CircuitState, pub(super) Instant);

impl Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(state, now) = self;
        match state {
            CircuitState::Closed | CircuitState::Probing => Ok(()),
            CircuitState::Open { until } => {
                write!(f, "; skipped for {:.0?}, then probed", until.saturating_duration_since(now))
            }
            CircuitState::Paused { until } => write!(f, "; paused for {:.0?}", until.saturating_duration_since(now)),
        }
    }
}

/// What an exchange announces.
pub(super) struct LoggedExchange<'a> {
    pub(super) request: &'a AnnounceRequest,
    pub(super) event: UpstreamEvent,
    pub(super) admission: Admission,
}

/// Logs one exchange: what it announces, how long it took and how it ended.
pub(super) fn exchange(name: &str, subject: &LoggedExchange<'_>, elapsed: Duration, result: &dyn Display) {
    let LoggedExchange { request: AnnounceRequest { info_hash, peer_id, .. }, event, admission } = subject;
    let event = event.name();
    let probe = if *admission == Admission::Probe { " as a probe" } else { "" };
    log::debug!("forwarder {name}: {info_hash} {event} for peer {peer_id}{probe}, in {elapsed:.1?}: {result}");
}

/// Logs that a forwarder begins to fail, or that it answers again.
pub(super) fn health(name: &str, change: Option<HealthChange>, error: Option<&ForwardError>) {
    match (change, error) {
        (Some(HealthChange::Fails), Some(error)) => {
            log::warn!("forwarder {name}: {error}; further failures are logged only with -d");
        }
        (Some(HealthChange::AnswersAgain), _) => log::info!("forwarder {name}: answers again"),
        _ => {}
    }
}

/// Logs that a circuit opens or pauses. Failed probes are not logged.
pub(super) fn circuit(name: &str, before: CircuitState, after: CircuitState, now: Instant) {
    match after {
        CircuitState::Open { until } if before == CircuitState::Closed => {
            log::info!(
                "forwarder {name}: failed {FAILURES} times in a row; skipped for {:.0?}, then probed with one announce",
                until - now
            );
        }
        CircuitState::Paused { until } if before.label() != after.label() => {
            log::info!("forwarder {name}: rate limited, paused for {:.0?}", until - now);
        }
        _ => {}
    }
}
