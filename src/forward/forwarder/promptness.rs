//! Whether announces may wait for a forwarder.

use std::time::Duration;

use tokio::sync::watch;

/// Whether announces may wait for a forwarder. If an announce waits until its deadline and gets no list, announces stop
/// waiting. They wait again after the forwarder has replied in time.
#[derive(Debug)]
pub(in crate::forward) struct Promptness {
    late: watch::Sender<bool>,
}

impl Default for Promptness {
    fn default() -> Self {
        Self { late: watch::Sender::new(false) }
    }
}

impl Promptness {
    /// Whether announces may wait.
    pub(in crate::forward) fn is_prompt(&self) -> bool {
        !*self.late.borrow()
    }

    /// All announces stop waiting. Returns whether they waited until now.
    pub(super) fn set_late(&self) -> bool {
        !self.late.send_replace(true)
    }

    /// Records how long an exchange took that ended well.
    pub(super) fn exchange_took(&self, elapsed: Duration, deadline: Duration) {
        if elapsed <= deadline && !self.is_prompt() {
            self.late.send_replace(false);
        }
    }

    /// Completes when announces no longer wait.
    pub(in crate::forward) async fn becomes_late(&self) {
        // `wait_for` fails only when the forwarder has been dropped. The borrow of `self` prevents that.
        let _ = self.late.subscribe().wait_for(|late| *late).await;
    }
}
