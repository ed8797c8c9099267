//! When a swarm was last used.

use super::time::Tick;

/// When a swarm was last announced or scraped, and whether that has happened more than once.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastUse(u16);

impl LastUse {
    const ONCE: u16 = 1 << Tick::BITS;
    const AGAIN: u16 = 2 << Tick::BITS;

    pub(super) fn never(now: Tick) -> Self {
        Self(now.0)
    }

    /// Returns the value after another use.
    pub(super) fn again_at(self, now: Tick) -> Self {
        let before = self.0 & !Tick::MASK;
        Self(now.0 | if before == 0 { Self::ONCE } else { Self::AGAIN })
    }

    pub(super) fn last(self) -> Tick {
        Tick(self.0 & Tick::MASK)
    }

    pub(super) fn is_again(self) -> bool {
        self.0 & Self::AGAIN != 0
    }
}
