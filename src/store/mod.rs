//! The local peers: who announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A peer is an endpoint in a zone, in a swarm. Who announces from the same endpoint again is the same peer, whatever it
//!   calls itself now.
//! - A client that has the same id under several addresses, of either family, counts once in what clients are told, as what
//!   its first address says: the one that was recorded first and still announces. It is told under all of them, but under
//!   its second addresses only after everybody's first. So one that takes another's id hides itself. [`Store::totals`]
//!   counts addresses.
//! - An announce that claims another address than it comes from does nothing to a peer that announces from there itself, and
//!   `stopped` ends a client only at the address that it comes from, with all ports that it had there. An endpoint that has
//!   been silent for a few intervals goes when the same client announces from another port of the same address, unless it
//!   announced less often than that before: two clients may share id and address.
//! - A second address for clients that cannot use the first is told to them only, and comes and goes with its peer.
//! - `downloaded` counts a client once, as long as it is among the last few dozen downloads of its share of the torrents.
//! - Who asks is told of peers that it can reach, its own zone's or subnet's before others.
//! - A peer that has not announced for the peer age, rounded down by a few thousandths, is never handed out, whether or not
//!   housekeeping has run. Counts may include it for up to a minute longer, or a thousandth of the peer age, in swarms that
//!   nobody asks for or that have thousands of peers.
//! - A swarm that nobody has asked for during the peer age goes away, and its `downloaded` count with it.
//! - The number of peers is bounded. Past the bound, peers of the source that has most give way, be it the newcomer's own: a
//!   flood from one source does not push out a torrent of another one. (A source is an address, a /64 of IPv6; peers that are
//!   claimed are counted for who claims them, roughly.) Of equals, those in swarms that were asked for once only give way
//!   first, the oldest of them before others; then those in small swarms that nobody has asked for lately.
//! - Nothing is persisted, and nothing blocks: every operation takes one short lock. None looks at more than a few thousand
//!   peers while it holds it, but when the list of a huge swarm grows by an eighth, its index doubles, or nearly all of it have
//!   expired and are dropped in one pass: that takes milliseconds for half a million.
//!
//! `now` is an argument everywhere, so that tests need not wait.

mod arrival;
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
mod weights;

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
    /// The other two bits of two bytes are for whom holds the time.
    const BITS: u32 = 14;
    const MASK: u16 = (1 << Self::BITS) - 1;

    /// Ticks from then to now. None if then is not past: the workers' clocks differ by what a lock takes.
    fn since(self, then: Self) -> u16 {
        let elapsed = self.0.wrapping_sub(then.0) & Self::MASK;
        if elapsed > Self::MASK / 8 * 7 { 0 } else { elapsed }
    }

    /// Whether `now` is this moment or a later one. What is still to come is a lifetime ahead at most.
    fn has_come(self, now: Self) -> bool {
        let ahead = self.0.wrapping_sub(now.0) & Self::MASK;
        ahead == 0 || ahead > Self::MASK / 8 * 3
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
    /// A count of ticks returns to where it was after four lifetimes at least. Nothing is kept nearly as long as that without
    /// being looked at: housekeeping comes by in every one.
    const MOST_TICKS: u16 = 4096;

    fn new(age: Age) -> Self {
        let tick = age.0.div_ceil(u32::from(Self::MOST_TICKS)).max(1);
        Self { ticks: u16::try_from(age.0 / tick).unwrap_or(Self::MOST_TICKS).max(1), tick }
    }

    /// In the unit of [`Age`], but for what is rounded.
    fn length(self) -> u32 {
        u32::from(self.ticks).saturating_mul(self.tick)
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

/// What is judged by how often clients announce, in ticks. They are asked to come every interval, but many come every few
/// minutes, whatever they are told.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    /// Three intervals, and 24: the longest that pass between two announces at the first and the second pace.
    paces: [u16; 2],
    /// Four intervals, and 60: so long may a client be silent that keeps that pace.
    patience: [u16; 2],
    /// Two intervals: who has announced within them is there, even if it has announced only once.
    lately: u16,
}

/// How often an endpoint announces, in two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pace(u8);

impl Pace {
    /// That of an endpoint that has announced once.
    const UNKNOWN: Self = Self(0);
    const FAST: Self = Self(1);
    const SLOW: Self = Self(2);
    const SLOWEST: Self = Self(3);
}

impl Rhythm {
    fn new(interval: Duration, life: Lifetime) -> Self {
        let interval = u64::from(Age::new(interval).0);
        let ticks = |n: u64| u16::try_from((n * interval).div_ceil(u64::from(life.tick))).unwrap_or(u16::MAX);
        Self { paces: [ticks(3), ticks(24)], patience: [ticks(4), ticks(60)], lately: ticks(2) }
    }

    /// The pace of an endpoint that has just announced. One announce in between, for an event, makes it no fast one.
    fn pace(self, before: Pace, gap: u16) -> Pace {
        self.of_gap(gap).max(Pace(before.0.saturating_sub(1)))
    }

    fn of_gap(self, gap: u16) -> Pace {
        let [fast, slow] = self.paces;
        if gap <= fast {
            Pace::FAST
        } else if gap <= slow {
            Pace::SLOW
        } else {
            Pace::SLOWEST
        }
    }

    /// How long an endpoint that has this pace is silent at the most while it is there.
    fn patience(self, pace: Pace) -> u16 {
        let [fast, slow] = self.patience;
        match pace {
            Pace::UNKNOWN | Pace::FAST => fast,
            Pace::SLOW => slow,
            _ => u16::MAX,
        }
    }

    /// How long an endpoint must be silent to be gone, when another one of the same client has announced `gap` after its
    /// latest announce. Neither of two that are there must go, and clients of one kind keep a similar pace.
    fn silence(self, silent: Pace, announcing: Pace, gap: Option<u16>) -> u16 {
        let own = match gap {
            Some(gap) if self.of_gap(gap) >= announcing => gap.saturating_mul(3),
            _ => self.patience(announcing),
        };
        own.max(self.patience(silent))
    }

    /// Whether an endpoint that has been silent for so long is still there, as far as its pace tells.
    fn is_there(self, pace: Pace, silence: u16) -> bool {
        let [_, slow] = self.paces;
        silence
            <= match pace {
                Pace::UNKNOWN | Pace::FAST => self.lately.max(1),
                Pace::SLOW => slow,
                _ => slow.saturating_mul(3),
            }
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
