//! The local peers: who announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A peer is an endpoint in a zone, in a swarm. Who announces from the same endpoint again is the same peer, whatever it
//!   calls itself now.
//! - A client that has the same id and role under an address of either family counts once in what clients are told, and is
//!   told under both. [`Store::totals`] counts addresses.
//! - Who asks is told of peers that it can reach, its own zone's or subnet's before others.
//! - A peer that has not announced for the peer age, rounded down by a few thousandths, is never handed out, whether or not
//!   housekeeping has run. Counts may include it for up to a minute longer, or a thousandth of the peer age, in swarms that
//!   nobody asks for or that have thousands of peers.
//! - A swarm that nobody has asked for during the peer age goes away, and its `downloaded` count with it.
//! - The number of peers is bounded. Past the bound, small swarms that nobody has asked for lately give way: a flood of
//!   info-hashes that are announced once each does not push out those that people use.
//! - Nothing is persisted, and nothing blocks: every operation takes one short lock. None looks at more than a few thousand
//!   peers while it holds it, but when the list of a huge swarm grows by an eighth, its index doubles, or nearly all of it have
//!   expired and are dropped in one pass: that takes milliseconds for half a million.
//!
//! `now` is an argument everywhere, so that tests need not wait.

mod client_id;
#[cfg(test)]
mod contract;
mod entry;
mod index;
mod memory;
mod peers;
mod ranked;
mod shard;
mod swarm;

pub use memory::{Store, StoreOptions, Totals};
pub use swarm::{Action, Announcement, Picked};

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// A moment in the life of the process, to a tenth of a second: enough for thirteen years.
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

/// A moment as swarms and peers hold it: the lower bits of a count of ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tick(u16);

impl Tick {
    /// The others of two bytes are the peer's kind.
    const BITS: u32 = 13;
    const MASK: u16 = (1 << Self::BITS) - 1;

    /// Ticks from then to now. None if then is not past: the workers' clocks differ by what a lock takes.
    fn since(self, then: Self) -> u16 {
        let elapsed = self.0.wrapping_sub(then.0) & Self::MASK;
        if elapsed > Self::MASK / 2 { 0 } else { elapsed }
    }

    /// Whether `now` is this moment or a later one.
    fn has_come(self, now: Self) -> bool {
        now.0.wrapping_sub(self.0) & Self::MASK <= Self::MASK / 2
    }

    fn plus(self, ticks: u16) -> Self {
        Self(self.0.wrapping_add(ticks) & Self::MASK)
    }
}

/// How long a peer is kept, in ticks, which are as long as it takes to count that far in few of them.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    ticks: u16,
    /// How long a tick is, in the unit of [`Moment`].
    tick: u32,
}

impl Lifetime {
    /// A count of ticks returns to where it was after eight lifetimes at least. Nothing is kept half as long as that without
    /// being looked at: housekeeping comes by in every one.
    const MOST_TICKS: u16 = 1024;

    fn new(age: Age) -> Self {
        let tick = age.0.div_ceil(u32::from(Self::MOST_TICKS)).max(1);
        Self { ticks: u16::try_from(age.0 / tick).unwrap_or(Self::MOST_TICKS).max(1), tick }
    }

    fn tick(self, moment: Moment) -> Tick {
        let [.., high, low] = (moment.0 / self.tick).to_be_bytes();
        Tick(u16::from_be_bytes([high, low]) & Tick::MASK)
    }

    /// Whether one who was last heard of so many ticks ago is gone.
    fn is_over(self, elapsed: u16) -> bool {
        elapsed >= self.ticks
    }

    /// When one who was last heard of so many ticks before `now` will be gone.
    fn end(self, now: Tick, elapsed: u16) -> Tick {
        now.plus(self.ticks.saturating_sub(elapsed))
    }

    /// A second after `now`, or a tick if that is longer.
    fn soon(self, now: Tick) -> Tick {
        now.plus(u16::try_from(10 / self.tick).unwrap_or(1).max(1))
    }
}

/// Where the moments come from. It goes on while the host sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: clock::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment::after(clock::now().saturating_duration_since(self.start))
    }
}
