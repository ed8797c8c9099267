//! How long a host waits for the swarm before it asks the upstream.

use std::time::Duration;

use tokio::time::Instant;

use crate::swarm::{ContentProgress, SwarmStatus};

/// How long a host with a torrent file waits for a first peer with pieces. Peers of one network answer within
/// milliseconds.
const FIRST_SOURCE: Duration = Duration::from_millis(200);
/// How long a host without a torrent file waits for the leader, which may have begun at this moment.
const FIRST_LEADER: Duration = Duration::from_millis(800);
/// How long a host waits for bytes of a peer that has pieces.
const FROM_SOURCE: Duration = Duration::from_secs(1);
/// How long a host waits for bytes of a connected leader. Then it claims the lease, and gets it if the leader is
/// silent.
const FROM_LEADER: Duration = Duration::from_secs(3);
/// For how long a host repeats its claim of the lease after the leader is gone. The tracker passes the lease on after
/// three seconds without a renewal.
const FOR_LEASE: Duration = Duration::from_secs(4);
/// For how long a host repeats its claim of the lease while a connected leader brings nothing, because the leader's
/// upstream is slow. The tracker passes the lease on after ten seconds without progress.
const FOR_SLOW_LEADER: Duration = Duration::from_secs(11);
const SPEED_WINDOW: Duration = Duration::from_secs(3);
/// Bytes a second. If a swarm with a torrent file and a source is slower, the upstream helps.
const SLOW: u64 = 512 * 1024;

/// What the swarm has given, and since when it has given nothing.
#[derive(Debug)]
pub(super) struct Patience {
    has_file: bool,
    started: Instant,
    last: ContentProgress,
    /// When the last piece came.
    since: Instant,
    window: (Instant, u32),
}

/// What a host that waits for the swarm does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on waiting.
    Wait,
    /// It claims the lease.
    Claim,
    /// It claims the lease. If another host holds the lease, this host asks the upstream all the same.
    ClaimOrGoAlone,
    /// It asks the upstream, and stays in the swarm.
    Help,
}

impl Patience {
    /// Begins to wait. `has_file`: there is a torrent file, so that any peer can help.
    pub(super) fn new(has_file: bool, progress: ContentProgress, now: Instant) -> Self {
        Self { has_file, started: now, last: progress, since: now, window: (now, progress.pieces) }
    }

    /// Decides what to do next. Must be called a few times a second. `piece_length` is in bytes.
    pub(super) fn look(
        &mut self,
        progress: ContentProgress,
        swarm: SwarmStatus,
        piece_length: u32,
        now: Instant,
    ) -> Verdict {
        if progress.pieces > self.last.pieces {
            self.since = now;
        }
        self.last = progress;
        let waited = now.duration_since(self.since);
        let limit = self.limit(swarm);
        let for_lease = match () {
            () if swarm.has_leader => FOR_SLOW_LEADER,
            // No piece has come since the wait began, and there is no leader. So this host claims the lease only once.
            () if self.is_first() && (self.has_file || swarm.sources == 0) => Duration::ZERO,
            () => FOR_LEASE,
        };
        if waited >= limit + for_lease {
            return Verdict::ClaimOrGoAlone;
        }
        if waited >= limit {
            return Verdict::Claim;
        }
        self.speed(swarm, piece_length, now)
    }

    /// Returns whether no piece has come since this host began to wait.
    fn is_first(&self) -> bool {
        self.since == self.started
    }

    fn limit(&self, swarm: SwarmStatus) -> Duration {
        match () {
            () if swarm.has_leader => FROM_LEADER,
            () if swarm.sources > 0 && self.has_file => FROM_SOURCE,
            () if self.has_file || !self.is_first() => FIRST_SOURCE,
            () => FIRST_LEADER,
        }
    }

    /// Measures the swarm's speed once in each [`SPEED_WINDOW`]. Returns `Help` if the speed is below [`SLOW`] and
    /// there is a torrent file. Without a torrent file, the pieces come from the leader, which is no faster than its
    /// upstream.
    fn speed(&mut self, swarm: SwarmStatus, piece_length: u32, now: Instant) -> Verdict {
        let (begun, before) = self.window;
        let seconds = now.duration_since(begun);
        if seconds < SPEED_WINDOW {
            return Verdict::Wait;
        }
        self.window = (now, self.last.pieces);
        let bytes = u64::from(self.last.pieces - before) * u64::from(piece_length);
        let is_slow = bytes < SLOW * seconds.as_secs();
        if self.has_file && swarm.sources > 0 && is_slow { Verdict::Help } else { Verdict::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u32 = 512 * 1024;
    const NOBODY: SwarmStatus = SwarmStatus { peers: 0, sources: 0, has_leader: false };
    const SOURCE: SwarmStatus = SwarmStatus { peers: 1, sources: 1, has_leader: false };
    const LEADER: SwarmStatus = SwarmStatus { peers: 1, sources: 0, has_leader: true };

    fn with(pieces: u32) -> ContentProgress {
        ContentProgress { pieces, ..ContentProgress::default() }
    }

    /// Returns the first verdict that is not `Wait`, and after how many milliseconds it comes.
    fn first(has_file: bool, swarm: SwarmStatus, piece: u32, pieces: impl Fn(u64) -> u32) -> Option<(u64, Verdict)> {
        let start = Instant::now();
        let mut patience = Patience::new(has_file, with(0), start);
        (0..20_000).step_by(50).find_map(|millis| {
            let verdict = patience.look(with(pieces(millis)), swarm, piece, start + Duration::from_millis(millis));
            (verdict != Verdict::Wait).then_some((millis, verdict))
        })
    }

    #[test]
    fn without_a_source_the_upstream_is_asked_soon() {
        assert_eq!(first(true, NOBODY, PIECE, |_| 0), Some((200, Verdict::ClaimOrGoAlone)));
        assert_eq!(first(false, NOBODY, PIECE, |_| 0), Some((800, Verdict::ClaimOrGoAlone)));
        assert_eq!(first(true, SOURCE, PIECE, |_| 0), Some((1000, Verdict::ClaimOrGoAlone)));
    }

    #[test]
    fn a_leader_may_take_its_time() {
        assert_eq!(first(false, LEADER, PIECE, |_| 0), Some((3000, Verdict::Claim)));
        assert_eq!(first(false, LEADER, PIECE, |millis| u32::try_from(millis / 2500).unwrap()), None);
    }

    /// The verdicts for a host without a torrent file. A look is the milliseconds since the start, the pieces so far,
    /// and the swarm.
    fn verdicts<const N: usize>(looks: [(u64, u32, SwarmStatus); N]) -> [Verdict; N] {
        let start = Instant::now();
        let mut patience = Patience::new(false, with(0), start);
        looks.map(|(millis, pieces, swarm)| {
            patience.look(with(pieces), swarm, PIECE, start + Duration::from_millis(millis))
        })
    }

    #[test]
    fn a_host_that_finds_others_waits_for_the_lease() {
        let looks = [(800, 0, SOURCE), (4800, 0, SOURCE), (13_900, 0, LEADER), (14_000, 0, LEADER)];
        let expected = [Verdict::Claim, Verdict::ClaimOrGoAlone, Verdict::Claim, Verdict::ClaimOrGoAlone];
        assert_eq!(verdicts(looks), expected);
    }

    #[test]
    fn who_has_lost_the_leader_waits_for_the_lease() {
        let looks = [(100, 3, LEADER), (250, 3, NOBODY), (300, 3, NOBODY), (4250, 3, NOBODY), (4300, 3, NOBODY)];
        let expected = [Verdict::Wait, Verdict::Wait, Verdict::Claim, Verdict::Claim, Verdict::ClaimOrGoAlone];
        assert_eq!(verdicts(looks), expected);
    }

    #[test]
    fn a_slow_swarm_is_helped() {
        let steady = |millis| u32::try_from(millis / 900).unwrap();
        assert_eq!(first(true, SOURCE, PIECE, steady), None);
        assert_eq!(first(true, SOURCE, PIECE / 8, steady), Some((3000, Verdict::Help)));
        // Without a torrent file the upstream does not help: the leader may be slow only because the upstream is.
        assert_eq!(first(false, LEADER, PIECE / 8, steady), None);
    }
}
