//! The local peers: who announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A peer is an endpoint in a swarm. Who announces from the same endpoint again is the same peer, whatever it
//!   calls itself now.
//! - A peer that has not announced for the peer age is never handed out, whether or not housekeeping has run. Counts
//!   may include it for up to a second longer in very large swarms.
//! - A swarm that nobody has asked for during the peer age goes away, and its `downloaded` count with it.
//! - The number of peers is bounded. Past the bound, swarms that are rarely asked for give way to those that are asked
//!   for often; a flood of info-hashes that are announced once each does not push out those that people use.
//! - Nothing is persisted, and nothing blocks: every operation takes one short lock.
//!
//! `now` is an argument everywhere, so that tests need not wait.

#[cfg(test)]
mod contract;
mod memory;
mod peers;
mod swarm;

pub use memory::{Store, StoreOptions, Totals};
pub use swarm::{Action, Announcement, Picked};

use std::time::Duration;

use tokio::time::Instant;

/// A moment in the life of the process, to a tenth of a second: four bytes are enough for thirteen years, and every
/// peer holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u32);

impl Moment {
    /// So long after the start of the clock.
    pub fn after(elapsed: Duration) -> Self {
        Self(u32::try_from(elapsed.as_millis() / 100).unwrap_or(u32::MAX))
    }

    /// The moment `age` after this one.
    #[must_use]
    pub fn plus(self, age: Age) -> Self {
        Self(self.0.saturating_add(age.0))
    }
}

/// How long a peer is kept after its latest announce, in the unit of [`Moment`]; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(u32);

impl Age {
    /// Rounds up to the next tenth of a second.
    pub fn new(age: Duration) -> Self {
        Self(u32::try_from(age.as_millis().div_ceil(100)).unwrap_or(u32::MAX).max(1))
    }
}

/// Where the moments come from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment::after(self.start.elapsed())
    }
}
