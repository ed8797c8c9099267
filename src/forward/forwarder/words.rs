//! What the log says of an exchange.

use std::fmt::{self, Display};

use crate::forward::session::{ExchangeOutcome, UpstreamEvent};

/// When the forwarder is told of the peer again.
pub(super) struct Again<'a>(pub(super) UpstreamEvent, pub(super) &'a ExchangeOutcome);

impl Display for Again<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(UpstreamEvent::Stopped, _) | Self(_, ExchangeOutcome::Lost | ExchangeOutcome::Unsure) => Ok(()),
            Self(_, ExchangeOutcome::Taken { interval, .. } | ExchangeOutcome::Refused(Some(interval))) => {
                write!(f, ", again in {interval:?}")
            }
            Self(_, ExchangeOutcome::Refused(None)) => write!(f, ", not asked again for this peer"),
        }
    }
}

pub(super) struct Warning<'a>(pub(super) Option<&'a [u8]>);

impl Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |text| write!(f, ", with the warning \"{}\"", text.escape_ascii()))
    }
}
