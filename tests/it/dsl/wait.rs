//! Waiting for something that takes an unknown time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for an event. No event takes as long, even on a busy machine, so only failing tests wait until
/// the end.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Repeats an attempt until it succeeds. `what` names the goal in the failure message.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
