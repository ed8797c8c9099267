//! The time that all instances have in common: the engine's.

use std::time::Duration;

use crate::clock::Timestamp;

/// How far the engine's time may differ from what is expected before the steady clock changes. The time on the way
/// to the engine and back varies, and clocks drift.
const TOLERANCE: u64 = 1000;

/// A moment by the engine's clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineTime(pub u64);

/// Which moment of the engine's clock a moment of our clock is. No instance's wall clock counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineClock {
    /// What the engine's clock showed when our clock started.
    start: EngineTime,
    /// Nearly the same, but it stays the same while the differences are small.
    steady_start: EngineTime,
}

impl EngineClock {
    /// Takes note of what the engine's clock shows now. Returns whether the steady clock has changed: then boundaries of
    /// the gate may have been passed over, so all peers must be shared once more.
    pub fn align(&mut self, now: Timestamp, engine: EngineTime) -> bool {
        self.start = EngineTime(engine.0.saturating_sub(millis(now)));
        let is_off = self.start.0.abs_diff(self.steady_start.0) >= TOLERANCE;
        if is_off {
            self.steady_start = self.start;
        }
        is_off
    }

    /// What the engine's clock shows at a moment of our clock.
    pub fn at(self, moment: Timestamp) -> EngineTime {
        EngineTime(self.start.0.saturating_add(millis(moment)))
    }

    /// The same within a second, and the differences between moments are exact. The gate needs this.
    pub fn steady_at(self, moment: Timestamp) -> EngineTime {
        EngineTime(self.steady_start.0.saturating_add(millis(moment)))
    }
}

/// How long ago a record was heard: `entry` is when the engine got the record's batch, and `age` how long the batch had
/// waited. A moment in the future counts as now, because the clock of another engine may be ahead.
pub fn ago(now: EngineTime, entry: EngineTime, age: Duration) -> Duration {
    Duration::from_millis(now.0.saturating_sub(entry.0)).saturating_add(age)
}

fn millis(moment: Timestamp) -> u64 {
    u64::from(moment.tenths()) * 100
}
