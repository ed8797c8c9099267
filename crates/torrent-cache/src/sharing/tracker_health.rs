//! Whether the tracker answers.

use tokio::sync::watch;

use crate::swarm_tracker::{TrackerError, TrackerFault};

/// What came of the last question to the tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TrackerHealth {
    /// This host has not asked the tracker yet.
    #[default]
    Unasked,
    /// The tracker answers.
    Answers,
    /// The tracker does not answer, or it refuses this host.
    Fails(TrackerError),
}

/// The health of the tracker, for all threads.
#[derive(Debug, Default)]
pub(super) struct TrackerWatch(watch::Sender<TrackerHealth>);

impl TrackerWatch {
    /// Returns whether the tracker answered the last question. If not, fetches do not wait for the tracker.
    pub(super) fn is_up(&self) -> bool {
        *self.0.borrow() == TrackerHealth::Answers
    }

    pub(super) fn health(&self) -> TrackerHealth {
        self.0.borrow().clone()
    }

    /// Waits until the tracker answers.
    pub(super) async fn answers(&self) {
        // The sender lives as long as `self`.
        let mut health = self.0.subscribe();
        let _answers = health.wait_for(|health| *health == TrackerHealth::Answers).await;
    }

    /// Notes the outcome of a question. Returns whether the tracker answered the question before it.
    pub(super) fn note(&self, checked: &Result<(), TrackerError>) -> bool {
        let was_up = self.is_up();
        self.0.send_if_modified(|health| {
            *health = match checked {
                Ok(()) => TrackerHealth::Answers,
                // `Paused` only says that an earlier call failed. The cause is noted already, and stays.
                Err(TrackerError { fault: TrackerFault::Paused(_), .. })
                    if matches!(health, TrackerHealth::Fails(_)) =>
                {
                    return false;
                }
                Err(error) => TrackerHealth::Fails(error.clone()),
            };
            true
        });
        was_up
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_cause_of_a_failure_stays() {
        let error = |fault| TrackerError { server: "http://10.0.0.1:2378".to_owned(), settings: "ETCD_HOST", fault };
        let timeout = error(TrackerFault::Timeout(Duration::from_secs(3)));
        let watch = TrackerWatch::default();
        assert_eq!((watch.is_up(), watch.health()), (false, TrackerHealth::Unasked));
        assert!(!watch.note(&Ok(())));
        assert!(watch.is_up());
        assert!(watch.note(&Err(timeout.clone())));
        assert!(!watch.note(&Err(error(TrackerFault::Paused(Duration::from_secs(2))))));
        assert_eq!((watch.is_up(), watch.health()), (false, TrackerHealth::Fails(timeout)));
        assert!(!watch.note(&Ok(())));
        assert!(watch.is_up());
    }
}
