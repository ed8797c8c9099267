//! The time that all instances have in common: the time of the engine's clock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Timestamp;

/// By how many milliseconds the engine's clock must differ from the steady clock before the steady clock changes. Smaller
/// differences are normal, because the way to the engine and back takes a varying time, and clocks drift.
const TOLERANCE: u64 = 1000;

/// A moment by the engine's clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EngineTime(pub u64);

/// Tells what the engine's clock shows at a moment of our clock. The wall clocks of the instances do not matter.
///
/// Only the loop that speaks to the engine calls [`Self::align`].
#[derive(Debug, Default)]
pub struct EngineClock {
    /// What the engine's clock showed when our clock started.
    start: AtomicU64,
    /// An earlier value of `start`. It changes only when `start` differs from it by [`TOLERANCE`] or more.
    steady_start: AtomicU64,
}

impl EngineClock {
    /// Records what the engine's clock shows now. Returns whether the steady clock has changed. If so, boundaries of the
    /// gate may have been skipped, so all peers must be shared once more.
    pub fn align(&self, now: Timestamp, engine: EngineTime) -> bool {
        let start = engine.0.saturating_sub(millis(now));
        self.start.store(start, Relaxed);
        let is_off = start.abs_diff(self.steady_start.load(Relaxed)) >= TOLERANCE;
        if is_off {
            self.steady_start.store(start, Relaxed);
        }
        is_off
    }

    /// Returns what the engine's clock shows at a moment of our clock.
    pub fn at(&self, moment: Timestamp) -> EngineTime {
        EngineTime(self.start.load(Relaxed).saturating_add(millis(moment)))
    }

    /// Returns what the steady clock shows at a moment of our clock. The steady clock differs from the engine's clock
    /// by less than a second. The differences between moments of the steady clock are exact, because the gate needs
    /// exact differences.
    pub fn steady_at(&self, moment: Timestamp) -> EngineTime {
        EngineTime(self.steady_start.load(Relaxed).saturating_add(millis(moment)))
    }
}

/// Returns how long ago a record was heard. `entry` is when the engine got the record's batch, and `age` is how long the
/// batch had waited before. An `entry` in the future counts as now, because the clock of an earlier engine may have been
/// ahead.
pub fn ago(now: EngineTime, entry: EngineTime, age: Duration) -> Duration {
    Duration::from_millis(now.0.saturating_sub(entry.0)).saturating_add(age)
}

fn millis(moment: Timestamp) -> u64 {
    u64::from(moment.tenths()) * 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_difference_changes_the_steady_clock() {
        let at = |tenths| Timestamp::from_tenths(tenths);
        let clock = EngineClock::default();
        assert!(clock.align(at(50), EngineTime(1_000_000)));
        assert_eq!((clock.at(at(60)), clock.steady_at(at(60))), (EngineTime(1_001_000), EngineTime(1_001_000)));
        // The clock drifts by 999 ms, in steps.
        for drift in [300, 600, 999] {
            assert!(!clock.align(at(70), EngineTime(1_002_000 + drift)));
            assert_eq!(clock.at(at(70)), EngineTime(1_002_000 + drift));
            assert_eq!(clock.steady_at(at(70)), EngineTime(1_002_000));
        }
        assert!(clock.align(at(70), EngineTime(1_003_000)));
        assert_eq!(clock.steady_at(at(70)), EngineTime(1_003_000));
        // Another engine follows, whose clock is far behind.
        assert!(clock.align(at(70), EngineTime(0)));
        assert_eq!(clock.steady_at(at(80)), EngineTime(8000));
    }

    #[test]
    fn a_record_of_the_future_is_as_old_as_it_waited() {
        let second = Duration::from_secs(1);
        assert_eq!(ago(EngineTime(5000), EngineTime(2000), second), 4 * second);
        assert_eq!(ago(EngineTime(5000), EngineTime(9000), second), second);
    }
}
