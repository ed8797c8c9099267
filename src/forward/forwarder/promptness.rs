//! Whether announces may wait for a forwarder.

use std::time::Duration;

use tokio::sync::watch;

/// Whether announces may wait for a forwarder. Once an announce has waited until its deadline without a list of peers,
/// no announce waits for this forwarder any more. Announces may wait again after an exchange that ended within the
/// deadline.
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
    /// Returns whether announces may wait.
    pub(in crate::forward) fn is_prompt(&self) -> bool {
        !*self.late.borrow()
    }

    /// Makes all announces stop waiting for the forwarder. Returns whether they could wait before.
    pub(super) fn set_late(&self) -> bool {
        !self.late.send_replace(true)
    }

    /// Records how long an exchange took, whether the exchange succeeded or failed.
    pub(super) fn exchange_took(&self, elapsed: Duration, deadline: Duration) {
        if elapsed <= deadline && !self.is_prompt() {
            self.late.send_replace(false);
        }
    }

    /// Completes as soon as announces may not wait for the forwarder.
    pub(in crate::forward) async fn becomes_late(&self) {
        // `wait_for` fails only after `late` was dropped. That cannot happen, because `self` is borrowed.
        let _ = self.late.subscribe().wait_for(|late| *late).await;
    }
}
