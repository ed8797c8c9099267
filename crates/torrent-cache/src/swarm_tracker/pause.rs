//! When a server that failed is asked again.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a server is not asked after it could not be reached.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether calls to a server are made. After a failure all calls are refused for a pause. Then one call tries, and the
/// other calls are refused for another pause, which ends early if the try succeeds.
#[derive(Debug, Default)]
pub(super) struct TrackerPause(Mutex<Option<Instant>>);

impl TrackerPause {
    /// Decides whether a call may be made at this time.
    ///
    /// # Errors
    /// The call is refused. The error is the time until the next call may be made.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut until = self.0.lock();
        if let Some(end) = *until {
            if now < end {
                return Err(end - now);
            }
            *until = Some(now + PAUSE);
        }
        Ok(())
    }

    /// Records how a call ended.
    pub(super) fn ended(&self, now: Instant, is_down: bool) {
        *self.0.lock() = is_down.then(|| now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_call_tries_again() {
        let (pause, start) = (TrackerPause::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!((pause.admit(at(0)), pause.admit(at(0))), (Ok(()), Ok(())));
        pause.ended(at(0), true);
        assert_eq!(pause.admit(at(500)), Err(Duration::from_millis(1500)));
        assert_eq!(pause.admit(at(2000)), Ok(()));
        assert_eq!(pause.admit(at(2001)), Err(Duration::from_millis(1999)));
        // The admitted call was dropped without an outcome, so another call tries.
        assert_eq!(pause.admit(at(4000)), Ok(()));
        pause.ended(at(4001), false);
        assert_eq!((pause.admit(at(4001)), pause.admit(at(4001))), (Ok(()), Ok(())));
    }
}
