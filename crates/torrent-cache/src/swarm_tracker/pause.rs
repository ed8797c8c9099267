//! When a server that failed is asked again.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A server that could not be reached is not asked for so long.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether a server is asked. After each failure there is a pause. Then one call tries the server, and the others wait
/// for its outcome or for the next pause to end.
#[derive(Debug, Default)]
pub(super) struct TrackerPause(Mutex<Option<Instant>>);

impl TrackerPause {
    /// Whether a call may be made at this time.
    ///
    /// # Errors
    /// Calls must wait for so long.
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
        // The call that tried was dropped, so another one tries.
        assert_eq!(pause.admit(at(4000)), Ok(()));
        pause.ended(at(4001), false);
        assert_eq!((pause.admit(at(4001)), pause.admit(at(4001))), (Ok(()), Ok(())));
    }
}
