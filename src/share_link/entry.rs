//! The entries of a log.

use std::fmt;
use std::time::Duration;

use crate::share::EngineTime;

/// The place of an entry in its log: the engine's time in milliseconds, and a number that distinguishes the entries of
/// one millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) time: EngineTime,
    pub(super) number: u64,
}

impl EntryId {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(Self { time: EngineTime(time.parse().ok()?), number: number.parse().ok()? })
    }

    /// Returns the first possible id of the moment that is earlier by `time`.
    pub(super) fn back_by(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { time: EngineTime(self.time.0.saturating_sub(millis)), number: 0 }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time.0, self.number)
    }
}

/// An entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadEntry {
    pub(super) id: EntryId,
    /// The batch as it was written.
    pub(super) batch: Vec<u8>,
}
