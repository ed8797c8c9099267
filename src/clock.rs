//! The clock for measuring ages, which goes on while the host sleeps.
//!
//! Linux stops the clock of [`Instant`] while the host sleeps: after eight hours of sleep, last night's peers would
//! look fresh. So [`Lookout`] measures now and then how long the host has slept, and [`now`] adds that time, without
//! further system calls.
//!
//! This clock is for ages only. Timers run on the system's clock, which lags behind after a sleep.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Milliseconds that the host has slept since [`Lookout::start`], as of the last [`Lookout::look`].
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// The shortest sleep that counts. Sleep is measured as the difference between two clocks. A smaller difference may
/// only mean that the host did other work between the readings of the two clocks.
const NOTICED: Duration = Duration::from_secs(1);

/// The system clock's time, in seconds since 1970. Tokens have the same unit.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// How long the host has slept since [`Lookout::start`], as of the last [`Lookout::look`].
pub fn slept() -> Duration {
    Duration::from_millis(SLEPT.load(Relaxed))
}

/// The present moment, for measuring ages.
pub fn now() -> Instant {
    Instant::now() + slept()
}

/// A moment in tenths of a second since [`Clock::start`]: enough for thirteen years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u32);

impl Timestamp {
    /// The moment this many tenths of a second after the start of the clock.
    pub fn from_tenths(tenths: u32) -> Self {
        Self(tenths)
    }

    /// Tenths of a second since the start of the clock.
    pub fn tenths(self) -> u32 {
        self.0
    }

    /// The moment at which this time has passed since the start of the clock.
    pub fn after(elapsed: Duration) -> Self {
        Self(u32::try_from(elapsed.as_millis() / 100).unwrap_or(u32::MAX))
    }

    /// The moment that is later than this one by `age`.
    #[must_use]
    pub fn plus(self, age: Ttl) -> Self {
        Self(self.0.saturating_add(age.0))
    }
}

/// How long something is kept, in tenths of a second; at least one tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(u32);

impl Ttl {
    /// A lifetime of this number of tenths of a second.
    pub fn from_tenths(tenths: u32) -> Self {
        Self(tenths)
    }

    /// The lifetime in tenths of a second.
    pub fn tenths(self) -> u32 {
        self.0
    }

    /// A lifetime of this length, rounded up to the next tenth of a second.
    pub fn new(age: Duration) -> Self {
        Self(u32::try_from(age.as_millis().div_ceil(100)).unwrap_or(u32::MAX).max(1))
    }
}

/// The source of timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: now() }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        Timestamp::after(now().saturating_duration_since(self.start))
    }
}

/// The time since some moment before the process began, perhaps a few milliseconds behind. For ordering only, and much
/// faster to read than the exact clock.
#[cfg(target_os = "linux")]
pub fn coarse() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from).unwrap_or_default()
}

/// The time since the first call.
#[cfg(not(target_os = "linux"))]
pub fn coarse() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}

/// Looks up how long the host has slept.
#[derive(Debug)]
pub struct Lookout {
    /// What [`ahead`] returned at the start.
    start: Duration,
    /// The sleep that [`Self::look`] has added up.
    slept: Duration,
}

impl Lookout {
    /// Starts to measure now. Earlier sleep does not count.
    pub fn start() -> Self {
        Self { start: ahead(), slept: Duration::ZERO }
    }

    /// Measures how long the host has slept since the last look, adds that time to [`slept`] and returns it. A sleep of
    /// less than a second is added only when further sleep brings the sum to a second.
    pub fn look(&mut self) -> Option<Duration> {
        let news = self.note(ahead());
        if news.is_some() {
            SLEPT.store(u64::try_from(self.slept.as_millis()).unwrap_or(u64::MAX), Relaxed);
        }
        news
    }

    fn note(&mut self, ahead: Duration) -> Option<Duration> {
        let slept = ahead.saturating_sub(self.start);
        let news = slept.saturating_sub(self.slept);
        (news >= NOTICED).then(|| {
            self.slept = slept;
            news
        })
    }
}

/// How far the clock that counts sleep is ahead of the clock that stops during sleep.
#[cfg(target_os = "linux")]
fn ahead() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    let since_boot = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
    // This clock is read first. Otherwise a pause between the two calls would look like sleep.
    let with_sleep = since_boot(ClockId::CLOCK_BOOTTIME);
    with_sleep.saturating_sub(since_boot(ClockId::CLOCK_MONOTONIC))
}

/// Other systems have only one clock, so the process cannot notice sleep.
#[cfg(not(target_os = "linux"))]
fn ahead() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_noticed_and_what_passes_between_two_calls_is_not() {
        let seconds = Duration::from_secs_f64;
        let mut lookout = Lookout { start: seconds(100.0), slept: Duration::ZERO };
        for (ahead, news, slept) in [
            (99.5, None, 0.0),
            (100.2, None, 0.0),
            (28_900.0, Some(28_800.0), 28_800.0),
            (28_900.4, None, 28_800.0),
            (28_899.0, None, 28_800.0),
            // Short sleeps add up.
            (28_900.9, None, 28_800.0),
            (28_901.5, Some(1.5), 28_801.5),
        ] {
            assert_eq!(lookout.note(seconds(ahead)), news.map(seconds), "{ahead}");
            assert_eq!(lookout.slept, seconds(slept), "{ahead}");
        }
    }

    #[test]
    fn a_host_that_does_not_sleep_is_not_said_to() {
        let mut lookout = Lookout::start();
        assert_eq!((lookout.look(), slept()), (None, Duration::ZERO));
        assert!(now() >= Instant::now() - NOTICED);
    }
}
