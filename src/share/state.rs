//! Whether this instance hears the other instances, as the pages show it.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// Whether this instance hears the other instances, and whether it has caught up with them.
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

/// This instance does not hear the other instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// The moment since which the instance is alone.
    pub since: SystemTime,
    /// Why the instance is alone, and what the operator can do about it.
    pub why: String,
}

impl ShareState {
    /// Makes the state of an instance that starts. The instance is ready when it has caught up with the others, or at the
    /// latest when it has been up for `warm_up`.
    pub fn new(warm_up: Duration, start: SystemTime) -> Self {
        let alone = Alone { since: start, why: "The instance has just started.".to_owned() };
        Self { warm_up, is_caught_up: AtomicBool::new(false), alone: Mutex::new(Some(alone)), udp_key: OnceLock::new() }
    }

    /// Returns whether the instance is ready if it has been up for this long.
    pub fn is_ready(&self, uptime: Duration) -> bool {
        self.is_caught_up.load(Relaxed) || uptime >= self.warm_up
    }

    /// Returns why the instance does not hear the others. `None` if it hears them.
    pub fn alone(&self) -> Option<Alone> {
        self.alone.lock().clone()
    }

    /// Records that the instance does not hear the others. If the instance is alone already, only the reason changes.
    pub fn begin_alone(&self, since: SystemTime, why: String) {
        let mut alone = self.alone.lock();
        let since = alone.as_ref().map_or(since, |alone| alone.since);
        *alone = Some(Alone { since, why });
    }

    /// Records that the instance hears the others. Returns the [`Alone`] that has ended, if the instance was alone.
    pub fn end_alone(&self) -> Option<Alone> {
        self.alone.lock().take()
    }

    /// Returns the key of UDP's connection ids that the instances share. `None` until the key is known.
    pub fn udp_key(&self) -> Option<[u8; 16]> {
        self.udp_key.get().copied()
    }

    /// Sets the key of UDP's connection ids. Only the first call has an effect.
    pub fn note_udp_key(&self, key: [u8; 16]) {
        self.udp_key.get_or_init(|| key);
    }

    /// Records that the instance has caught up with the others. Returns whether this is the first time.
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
