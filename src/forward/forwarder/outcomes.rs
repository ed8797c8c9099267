//! What an error says about the forwarder, and about the session of the client that was announced.

use crate::forward::circuit::CallOutcome;
use crate::forward::error::ForwardError;
use crate::forward::session::ExchangeOutcome;
use tracker_protocol::upstream::Retry;

/// Returns what an error says about the forwarder.
pub(super) fn call_outcome(error: &ForwardError) -> CallOutcome {
    match error {
        ForwardError::TooLong | ForwardError::Local(_) => CallOutcome::NotMade,
        // Faults of the server despite 4xx: 408 Request Timeout, 421 Misdirected Request, 425 Too Early.
        ForwardError::Refused { status: Some(408 | 421 | 425), .. }
        | ForwardError::Status { code: 408 | 421 | 425, .. } => CallOutcome::Failed,
        ForwardError::Refused { .. } | ForwardError::Status { .. } => match (error.status(), error.retry_after()) {
            (Some(429), retry_after) => CallOutcome::Pause(retry_after),
            (Some(503), Some(retry_after)) => CallOutcome::Pause(Some(retry_after)),
            _ if matches!(error, ForwardError::Refused { .. }) => CallOutcome::Alive,
            (Some(400..=499), _) => CallOutcome::Alive,
            _ => CallOutcome::Failed,
        },
        _ => CallOutcome::Failed,
    }
}

/// Returns what an error says about the client's session.
pub(super) fn exchange_outcome(error: &ForwardError) -> ExchangeOutcome {
    match (error, call_outcome(error)) {
        (ForwardError::Local(_) | ForwardError::Proxy(_), _) => ExchangeOutcome::Lost,
        (ForwardError::Refused { retry, .. }, CallOutcome::Alive) => ExchangeOutcome::refused(*retry),
        // A 4xx, or an announce that is too long: the next attempt would end the same way.
        (_, CallOutcome::Alive | CallOutcome::NotMade) => ExchangeOutcome::refused(Retry::Unsaid),
        (_, CallOutcome::Pause(_)) | (ForwardError::Dns(_) | ForwardError::Connect(_) | ForwardError::Tls(_), _) => {
            ExchangeOutcome::Lost
        }
        (_, CallOutcome::Failed) => ExchangeOutcome::Unsure,
    }
}
