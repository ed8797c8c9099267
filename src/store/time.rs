//! Time as the store counts it: in ticks, which are as long as the life of a peer makes them, so that a peer holds its time in
//! two bytes.

use std::time::Duration;

use crate::clock::{Timestamp, Ttl};

/// A moment as swarms and peers hold it: the lower bits of a count of ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(pub(super) u16);

impl Tick {
    /// The other two bits of two bytes are for whom holds the time.
    pub(super) const BITS: u32 = 14;
    pub(super) const MASK: u16 = (1 << Self::BITS) - 1;

    /// Ticks from then to now. None if then is not past: the workers' clocks differ by what a lock takes.
    pub(super) fn since(self, then: Self) -> u16 {
        let elapsed = self.0.wrapping_sub(then.0) & Self::MASK;
        if elapsed > Self::MASK / 8 * 7 { 0 } else { elapsed }
    }

    /// Whether `now` is this moment or a later one. What is still to come is a lifetime ahead at most.
    pub(super) fn has_come(self, now: Self) -> bool {
        let ahead = self.0.wrapping_sub(now.0) & Self::MASK;
        ahead == 0 || ahead > Self::MASK / 8 * 3
    }

    pub(super) fn plus(self, ticks: u16) -> Self {
        Self(self.0.wrapping_add(ticks) & Self::MASK)
    }
}

/// How long a peer is kept, in ticks, which are as long as it takes to count that far in few of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct TtlTicks {
    ticks: u16,
    /// How long a tick is, in the unit of [`Timestamp`].
    tick: u32,
}

impl TtlTicks {
    /// A count of ticks returns to where it was after four lifetimes at least. Nothing is kept nearly as long as that without
    /// being looked at: housekeeping comes by in every one.
    pub(super) const MOST_TICKS: u16 = 4096;

    pub(super) fn new(age: Ttl) -> Self {
        let tick = age.tenths().div_ceil(u32::from(Self::MOST_TICKS)).max(1);
        Self { ticks: u16::try_from(age.tenths() / tick).unwrap_or(Self::MOST_TICKS).max(1), tick }
    }

    /// As a time, but for what is rounded.
    pub(super) fn length(self) -> Ttl {
        Ttl::from_tenths(u32::from(self.ticks).saturating_mul(self.tick))
    }

    pub(super) fn tick(self, moment: Timestamp) -> Tick {
        let [.., high, low] = (moment.tenths() / self.tick).to_be_bytes();
        Tick(u16::from_be_bytes([high, low]) & Tick::MASK)
    }

    /// Whether one who was last heard of so many ticks ago is gone.
    pub(super) fn is_over(self, elapsed: u16) -> bool {
        elapsed >= self.ticks
    }

    /// When one who was last heard of so many ticks before `now` will be gone.
    pub(super) fn end(self, now: Tick, elapsed: u16) -> Tick {
        now.plus(self.ticks.saturating_sub(elapsed))
    }

    /// A second after `now`, or a tick if that is longer.
    pub(super) fn soon(self, now: Tick) -> Tick {
        now.plus(u16::try_from(10 / self.tick).unwrap_or(1).max(1))
    }
}

/// What is judged by how often clients announce, in ticks. They are asked to come every interval, but many come every few
/// minutes, whatever they are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// Three intervals, and 24: the longest that pass between two announces at the first and the second pace.
    paces: [u16; 2],
    /// Four intervals, and 60: so long may a client be silent that keeps that pace.
    patience: [u16; 2],
    /// Two intervals: who has announced within them is there, even if it has announced only once.
    lately: u16,
}

/// How often an endpoint announces, in two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pace(pub(super) u8);

impl Pace {
    /// That of an endpoint that has announced once.
    pub(super) const UNKNOWN: Self = Self(0);
    pub(super) const FAST: Self = Self(1);
    pub(super) const SLOW: Self = Self(2);
    pub(super) const SLOWEST: Self = Self(3);
}

impl Rhythm {
    pub(super) fn new(interval: Duration, life: TtlTicks) -> Self {
        let interval = u64::from(Ttl::new(interval).tenths());
        let ticks = |n: u64| u16::try_from((n * interval).div_ceil(u64::from(life.tick))).unwrap_or(u16::MAX);
        Self { paces: [ticks(3), ticks(24)], patience: [ticks(4), ticks(60)], lately: ticks(2) }
    }

    /// The pace of an endpoint that has just announced. One announce in between, for an event, makes it no fast one.
    pub(super) fn pace(self, before: Pace, gap: u16) -> Pace {
        self.of_gap(gap).max(Pace(before.0.saturating_sub(1)))
    }

    pub(super) fn of_gap(self, gap: u16) -> Pace {
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
    pub(super) fn patience(self, pace: Pace) -> u16 {
        let [fast, slow] = self.patience;
        match pace {
            Pace::UNKNOWN | Pace::FAST => fast,
            Pace::SLOW => slow,
            _ => u16::MAX,
        }
    }

    /// How long an endpoint must be silent to be gone, when another one of the same client has announced `gap` after its
    /// latest announce. Neither of two that are there must go, and clients of one kind keep a similar pace.
    pub(super) fn silence(self, silent: Pace, announcing: Pace, gap: Option<u16>) -> u16 {
        let own = match gap {
            Some(gap) if self.of_gap(gap) >= announcing => gap.saturating_mul(3),
            _ => self.patience(announcing),
        };
        own.max(self.patience(silent))
    }

    /// Whether an endpoint that has been silent for so long is still there, as far as its pace tells.
    pub(super) fn is_there(self, pace: Pace, silence: u16) -> bool {
        let [_, slow] = self.paces;
        silence
            <= match pace {
                Pace::UNKNOWN | Pace::FAST => self.lately.max(1),
                Pace::SLOW => slow,
                _ => slow.saturating_mul(3),
            }
    }
}
