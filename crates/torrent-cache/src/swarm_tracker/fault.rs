//! How a call to the tracker fails: the cause for the log, and what the operator can do.

use std::time::Duration;

use thiserror::Error;

use crate::upstream::FetchFault;

/// Why a call failed. `Display` writes the line for the log, without path, query and headers: they can hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{server}: {fault}")]
pub struct TrackerError {
    /// The server, such as `http://10.0.0.1:2378`.
    pub server: String,
    /// The names of the settings that hold the server's address, such as `ETCD_HOST and ETCD_PORT`.
    pub settings: &'static str,
    /// What happened.
    pub fault: TrackerFault,
}

/// What happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrackerFault {
    /// No connection could be opened.
    #[error(transparent)]
    Unreachable(FetchFault),
    /// A call failed less than two seconds ago, so this call was not tried.
    #[error("it could not be reached a moment ago, and is not asked again for {} ms", .0.as_millis())]
    Paused(Duration),
    /// The reply did not come in this time.
    #[error("no reply within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection ended before the end of the reply, or the reply is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Status 401: the token is missing or wrong.
    #[error("it does not accept the token: {0}")]
    Token(String),
    /// Status 403: this host may not make this call.
    #[error("it refuses this host: {0}")]
    Forbidden(String),
    /// Status 429 or 503: a limit is reached.
    #[error("it is busy, and wants no call for {} s: {sentence}", .retry_after.as_secs())]
    Busy {
        /// The time for which the tracker wants no call.
        retry_after: Duration,
        /// What the tracker says about the limit.
        sentence: String,
    },
    /// The server answers but keeps no torrents, because its replies have no boot id.
    #[error("it replies with status {0} and without X-Boot, so it keeps no torrents")]
    NoTorrents(u16),
    /// The reply does not fit the call.
    #[error("wrong reply: {0}")]
    WrongReply(String),
    /// The tracker refuses the announce, with a `failure reason`.
    #[error("it refuses the announce: {reason}")]
    Announce {
        /// The failure reason.
        reason: String,
        /// When the announce may be tried again (BEP 31), a day at most; `None` if the tracker did not say.
        retry_after: Option<Duration>,
    },
}

impl TrackerFault {
    /// Returns whether the tracker could not be reached. A tracker that gives any reply can be reached.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Paused(_) | Self::Timeout(_) | Self::Broken(_))
    }
}

impl TrackerError {
    /// Returns what the operator can do, as words that begin with a verb. Returns `None` if only time helps.
    pub fn remedy(&self) -> Option<String> {
        let settings = self.settings;
        Some(match &self.fault {
            TrackerFault::Unreachable(_)
            | TrackerFault::Paused(_)
            | TrackerFault::Timeout(_)
            | TrackerFault::Broken(_) => {
                format!("check that the tracker runs, that its port is open, and that the value of {settings} is right")
            }
            TrackerFault::Token(_) => "set TORRENTS_TOKEN to the value of the tracker's TORRENTS_TOKEN".to_owned(),
            TrackerFault::Forbidden(_) => {
                "add the network of this host to TORRENTS_FROM (--torrents-from) at the tracker".to_owned()
            }
            TrackerFault::NoTorrents(_) => {
                format!("start the tracker with --torrents, or correct {settings}")
            }
            TrackerFault::WrongReply(_) => {
                format!("check the value of {settings}, and that the tracker is a retracker of this program's version")
            }
            TrackerFault::Announce { .. } => {
                "ask the operator of the tracker, because its access rules decide".to_owned()
            }
            TrackerFault::Busy { .. } => return None,
        })
    }
}

/// The most bytes of a text from the network that an error shows.
const MAX_SHOWN: usize = 200;

/// Shortens a text from the network for an error, and replaces its control characters.
pub(super) fn shown(text: &[u8]) -> String {
    let text = text.trim_ascii();
    String::from_utf8_lossy(text.get(..MAX_SHOWN).unwrap_or(text)).chars().map(printable).collect()
}

fn printable(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_tracker_are_short_and_on_one_line() {
        assert_eq!(shown(b" a\nb\x1b\xff \r\n"), "a?b?\u{fffd}");
        assert_eq!(shown(&[b'a'; 1000]).len(), MAX_SHOWN);
    }
}
