//! Upstream trackers that fail and come back.

use std::time::Duration;

use futures::executor::block_on;
use tempfile::NamedTempFile;

use super::super::forwarders::forwards_file;
use super::super::upstream::{Behaviour, Upstream, Upstreams};

/// Seconds after which they want to hear of a peer again: longer than any peer stays.
const INTERVAL: u32 = 1800;

/// One is always good, one is slow, and one is something else every minute.
pub(super) struct Moody {
    good: Upstream,
    slow: Upstream,
    fickle: Upstream,
}

impl Moody {
    pub(super) fn start() -> Self {
        let fakes = Upstreams::start();
        Self {
            good: fakes.tracker(Behaviour::good(INTERVAL)),
            slow: fakes.tracker(Behaviour::slow(INTERVAL, Duration::from_secs(1))),
            fickle: fakes.tracker(Behaviour::good(INTERVAL)),
        }
    }

    pub(super) fn file(&self) -> NamedTempFile {
        forwards_file([&self.good, &self.slow, &self.fickle].into_iter().map(|upstream| upstream.address))
    }

    /// What the fickle one does in that minute, counted from 0.
    pub(super) fn change(&mut self, minute: u64) {
        match minute % 4 {
            0 => block_on(self.fickle.becomes(Behaviour::good(INTERVAL))),
            1 => block_on(self.fickle.stop()),
            2 => block_on(self.fickle.becomes(Behaviour::answers(b"<html>It works!</html>", Duration::ZERO))),
            _ => block_on(self.fickle.becomes(Behaviour::Silent)),
        }
    }

    /// How many requests each of them has had since this was asked last.
    pub(super) fn asked(&self) -> [usize; 3] {
        [&self.good, &self.slow, &self.fickle].map(Upstream::forget)
    }
}
