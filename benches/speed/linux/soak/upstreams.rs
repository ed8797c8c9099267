//! Upstream trackers that fail and recover.

use std::time::Duration;

use futures::executor::block_on;
use load::upstream::{FakeUpstream, FakeUpstreams, UpstreamBehaviour, forwarders_file};
use tempfile::NamedTempFile;

/// The trackers' announce interval in seconds. It is longer than any peer stays.
const INTERVAL: u32 = 1800;

/// The limit of exchanges per second with each upstream tracker. With the default limit, `stopped` announces for the
/// load's peers would still be queued when the test counts the descriptors.
const RATE: u32 = 1000;

/// Three upstream trackers. One is always good, one is slow, and one changes every minute.
pub(super) struct UnreliableUpstreams {
    good: FakeUpstream,
    slow: FakeUpstream,
    changing: FakeUpstream,
}

impl UnreliableUpstreams {
    pub(super) fn start() -> Self {
        let fakes = FakeUpstreams::start();
        Self {
            good: fakes.tracker(UpstreamBehaviour::good(INTERVAL)),
            slow: fakes.tracker(UpstreamBehaviour::slow(INTERVAL, Duration::from_secs(1))),
            changing: fakes.tracker(UpstreamBehaviour::good(INTERVAL)),
        }
    }

    pub(super) fn file(&self) -> NamedTempFile {
        let all = [("good", &self.good), ("slow", &self.slow), ("changing", &self.changing)];
        forwarders_file(all.map(|(name, upstream)| (name.to_owned(), upstream.address)), Some(RATE))
    }

    /// Sets what the changing tracker does in this minute. Minutes count from 0.
    pub(super) fn change(&mut self, minute: u64) {
        match minute % 4 {
            0 => block_on(self.changing.change_to(UpstreamBehaviour::good(INTERVAL))),
            1 => block_on(self.changing.stop()),
            2 => {
                block_on(
                    self.changing.change_to(UpstreamBehaviour::answers(b"<html>It works!</html>", Duration::ZERO)),
                );
            }
            _ => block_on(self.changing.change_to(UpstreamBehaviour::Silent)),
        }
    }

    /// Returns the number of requests that each tracker has got since the last call.
    pub(super) fn request_counts(&self) -> [usize; 3] {
        [&self.good, &self.slow, &self.changing].map(FakeUpstream::take_request_count)
    }
}
