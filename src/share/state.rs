//! Whether this instance hears the others, for the pages.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// Whether this instance hears the others, and whether it knows what they know.
pub struct ShareState {
    warm_up: Duration,
    is_caught_up: AtomicBool,
    alone: Mutex<Option<Alone>>,
    udp_key: OnceLock<[u8; 16]>,
}

impl fmt::Debug for ShareState {
    /// Leaves out the key, because anyone who has it can forge connection ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareState").field("alone", &self.alone).finish_non_exhaustive()
    }
}

/// An instance does not hear the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// Since when.
    pub since: SystemTime,
    /// Why, and what the operator can do about it.
    pub why: String,
}

impl ShareState {
    /// An instance that starts. It is ready when it has caught up with the others, or at the latest when it has been up
    /// for this long.
    pub fn new(warm_up: Duration, start: SystemTime) -> Self {
        let alone = Alone { since: start, why: "It has just started.".to_owned() };
        Self { warm_up, is_caught_up: AtomicBool::new(false), alone: Mutex::new(Some(alone)), udp_key: OnceLock::new() }
    }

    /// Whether an instance that has been up for this long is ready.
    pub fn is_ready(&self, uptime: Duration) -> bool {
        self.is_caught_up.load(Relaxed) || uptime >= self.warm_up
    }

    /// Why the instance does not hear the others; `None` if it does.
    pub fn alone(&self) -> Option<Alone> {
        self.alone.lock().clone()
    }

    /// The instance does not hear the others. If that is known already, only the reason changes.
    pub fn begin_alone(&self, since: SystemTime, why: String) {
        let mut alone = self.alone.lock();
        let since = alone.as_ref().map_or(since, |alone| alone.since);
        *alone = Some(Alone { since, why });
    }

    /// The instance hears the others. Returns what has ended.
    pub fn end_alone(&self) -> Option<Alone> {
        self.alone.lock().take()
    }

    /// The key of UDP's connection ids that the instances share; `None` before it is known.
    pub fn udp_key(&self) -> Option<[u8; 16]> {
        self.udp_key.get().copied()
    }

    /// Takes note of the key of UDP's connection ids. Only the first one counts.
    pub fn note_udp_key(&self, key: [u8; 16]) {
        self.udp_key.get_or_init(|| key);
    }

    /// The instance knows what the others have shared. Returns whether that is so for the first time.
    pub fn catch_up(&self) -> bool {
        !self.is_caught_up.swap(true, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_it_has_caught_up_or_the_time_is_over() {
        let seconds = Duration::from_secs;
        let state = ShareState::new(seconds(10), SystemTime::UNIX_EPOCH);
        assert!(!state.is_ready(seconds(9)) && state.is_ready(seconds(10)));
        assert!(state.catch_up() && !state.catch_up());
        assert!(state.is_ready(seconds(0)));
    }

    #[test]
    fn it_is_alone_since_the_first_failure() {
        let state = ShareState::new(Duration::ZERO, SystemTime::UNIX_EPOCH);
        assert!(state.end_alone().is_some() && state.end_alone().is_none());
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        state.begin_alone(at(5), "refused".to_owned());
        state.begin_alone(at(9), "late".to_owned());
        assert_eq!(state.alone(), Some(Alone { since: at(5), why: "late".to_owned() }));
    }
}
