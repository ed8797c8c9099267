//! When each torrent is announced next.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;
use tracker_protocol::InfoHash;

/// When each torrent is announced next. The number after the time orders torrents of the same time.
#[derive(Debug, Default)]
pub(super) struct AnnounceSchedule {
    due: BTreeMap<(Instant, u64), InfoHash>,
    times: HashMap<InfoHash, (Instant, u64)>,
    next: u64,
}

impl AnnounceSchedule {
    /// Sets the time of a torrent, in place of the time that the torrent had before.
    pub(super) fn set(&mut self, info_hash: InfoHash, at: Instant) {
        self.next += 1;
        let time = (at, self.next);
        if let Some(before) = self.times.insert(info_hash, time) {
            self.due.remove(&before);
        }
        self.due.insert(time, info_hash);
    }

    /// Returns the earliest time.
    pub(super) fn first(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Removes the torrents whose time has come, and returns them.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<InfoHash> {
        let mut taken = Vec::new();
        while let Some(first) = self.due.first_entry().filter(|first| first.key().0 <= now) {
            let info_hash = first.remove();
            self.times.remove(&info_hash);
            taken.push(info_hash);
        }
        taken
    }

    /// Removes all torrents.
    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_torrent_has_one_time() {
        let (mut schedule, start) = (AnnounceSchedule::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let [a, b, c] = [1, 2, 3].map(|byte| InfoHash([byte; 20]));
        schedule.set(a, at(1));
        schedule.set(b, at(1));
        schedule.set(c, at(9));
        schedule.set(a, at(5));
        assert_eq!(schedule.first(), Some(at(1)));
        assert_eq!(schedule.take_due(at(0)), []);
        assert_eq!(schedule.take_due(at(1)), [b]);
        schedule.set(c, at(2));
        assert_eq!(schedule.take_due(at(5)), [c, a]);
        assert_eq!((schedule.first(), schedule.take_due(at(100))), (None, Vec::new()));
    }
}
