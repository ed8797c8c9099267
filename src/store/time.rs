//! Time in ticks, fractions of the peer age: a moment takes only two bytes in an entry.

use std::time::Duration;

use crate::clock::{Timestamp, Ttl};

/// A moment as swarms and peers store it: the low bits of a count of ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(pub(super) u16);

impl Tick {
    /// How many bits a moment has. Entries store other values in the remaining two bits of the two bytes.
    pub(super) const BITS: u32 = 14;
    pub(super) const MASK: u16 = (1 << Self::BITS) - 1;

    /// Returns the ticks since `then`, 0 if `then` is later. `then` can be a little later, because workers read the
    /// clock at different times. While an old record of another instance is applied, `then` can be later by nearly a
    /// lifetime.
    pub(super) fn since(self, then: Self) -> u16 {
        let elapsed = self.0.wrapping_sub(then.0) & Self::MASK;
        if elapsed > Self::MASK / 4 * 3 { 0 } else { elapsed }
    }

    /// Returns whether `now` is this moment or later. A future moment is at most a lifetime ahead.
    pub(super) fn has_come(self, now: Self) -> bool {
        let ahead = self.0.wrapping_sub(now.0) & Self::MASK;
        ahead == 0 || ahead > Self::MASK / 8 * 3
    }

    pub(super) fn plus(self, ticks: u16) -> Self {
        Self(self.0.wrapping_add(ticks) & Self::MASK)
    }

    pub(super) fn minus(self, ticks: u16) -> Self {
        Self(self.0.wrapping_sub(ticks) & Self::MASK)
    }
}

/// How long a peer is kept, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct TtlTicks {
    ticks: u16,
    /// How long a tick is, in tenths of a second.
    tick: u32,
}

impl TtlTicks {
    /// The most ticks in a peer's lifetime. The 14-bit count wraps after at least four lifetimes. Housekeeping checks
    /// everything in each lifetime.
    pub(super) const MOST_TICKS: u16 = 4096;

    pub(super) fn new(age: Ttl) -> Self {
        let tick = age.tenths().div_ceil(u32::from(Self::MOST_TICKS)).max(1);
        Self { ticks: u16::try_from(age.tenths() / tick).unwrap_or(Self::MOST_TICKS).max(1), tick }
    }

    /// Returns the lifetime, rounded down to whole ticks.
    pub(super) fn length(self) -> Ttl {
        Ttl::from_tenths(u32::from(self.ticks).saturating_mul(self.tick))
    }

    pub(super) fn tick(self, moment: Timestamp) -> Tick {
        let [.., high, low] = (moment.tenths() / self.tick).to_be_bytes();
        Tick(u16::from_be_bytes([high, low]) & Tick::MASK)
    }

    /// Returns the moment at which the tick of `moment` began.
    pub(super) fn start_of_tick(self, moment: Timestamp) -> Timestamp {
        Timestamp::from_tenths(moment.tenths() / self.tick * self.tick)
    }

    /// Returns how many ticks have begun since the moment that lies `ago` tenths of a second before `now`.
    pub(super) fn ticks_ago(self, now: Timestamp, ago: u32) -> u16 {
        let before = i64::from(now.tenths()) - i64::from(ago);
        let tick = i64::from(self.tick);
        let ticks = i64::from(now.tenths()).div_euclid(tick) - before.div_euclid(tick);
        u16::try_from(ticks).unwrap_or(u16::MAX)
    }

    /// Returns the duration of this number of ticks.
    pub(super) fn duration(self, ticks: u16) -> Duration {
        Duration::from_millis(u64::from(ticks) * u64::from(self.tick) * 100)
    }

    /// Returns whether a peer that last announced `elapsed` ticks ago has expired.
    pub(super) fn is_over(self, elapsed: u16) -> bool {
        elapsed >= self.ticks
    }

    /// Returns the expiry time of a peer that last announced `elapsed` ticks before `now`.
    pub(super) fn end(self, now: Tick, elapsed: u16) -> Tick {
        now.plus(self.ticks.saturating_sub(elapsed))
    }

    /// Returns the moment one second after `now`, or one tick after `now` if a tick is longer than a second.
    pub(super) fn soon(self, now: Tick) -> Tick {
        now.plus(u16::try_from(10 / self.tick).unwrap_or(1).max(1))
    }
}

/// Time limits in ticks, from the announce interval. Many clients announce every few minutes, whatever the interval is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// The longest gap between two announces at the paces [`Pace::FAST`] and [`Pace::SLOW`]: 3 and 24 intervals.
    paces: [u16; 2],
    /// How long an endpoint may be silent at these two paces: 4 and 60 intervals.
    patience: [u16; 2],
    /// Two intervals. An endpoint that announced within this time counts as there, even after a single announce.
    lately: u16,
}

/// How often an endpoint announces, in two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pace(pub(super) u8);

impl Pace {
    /// The pace of an endpoint that has announced once.
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

    /// Returns the pace after a `gap` of so many ticks. The pace quickens by one step at most, because an early
    /// announce may be for an event.
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

    /// Returns how long an endpoint of this pace may be silent and still count as there.
    pub(super) fn patience(self, pace: Pace) -> u16 {
        let [fast, slow] = self.patience;
        match pace {
            Pace::UNKNOWN | Pace::FAST => fast,
            Pace::SLOW => slow,
            _ => u16::MAX,
        }
    }

    /// Returns how long an endpoint must be silent to count as gone, when another endpoint announces with the same
    /// client id. Both may be there, as two clients. So the longer of two limits applies: the patience for the silent
    /// endpoint's pace, and three times `gap`, the time since the announcing endpoint's previous announce, because
    /// clients of one kind keep a similar pace. If `gap` is unknown or unusually short, the patience for the announcing
    /// endpoint's pace replaces the second limit.
    pub(super) fn silence(self, silent: Pace, announcing: Pace, gap: Option<u16>) -> u16 {
        let own = match gap {
            Some(gap) if self.of_gap(gap) >= announcing => gap.saturating_mul(3),
            _ => self.patience(announcing),
        };
        own.max(self.patience(silent))
    }

    /// Returns whether an endpoint of this pace is probably still there after this silence.
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
