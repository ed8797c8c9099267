//! Addresses at which peers may accept connections, and when each is dialled.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The most addresses that are kept for one torrent.
const MAX_CANDIDATES: usize = 200;
/// The pause before an address is dialled again after its first failure. Each further failure doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before an address is dialled again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Addresses of possible peers of one torrent.
#[derive(Debug, Default)]
pub(super) struct PeerCandidates(HashMap<SocketAddr, Candidate>);

#[derive(Debug)]
struct Candidate {
    failures: u32,
    /// When the address is to be dialled. `None` while it is being dialled or is connected.
    due: Option<Instant>,
}

impl PeerCandidates {
    /// Adds an address that the tracker named. An address that would wait for longer is dialled after [`FIRST_PAUSE`],
    /// because the tracker says that the peer is there.
    pub(super) fn add(&mut self, address: SocketAddr, now: Instant) {
        if self.0.len() < MAX_CANDIDATES || self.0.contains_key(&address) {
            let candidate = self.0.entry(address).or_insert(Candidate { failures: 0, due: Some(now) });
            candidate.failures = candidate.failures.min(1);
            candidate.due = candidate.due.map(|due| due.min(now + FIRST_PAUSE));
        }
    }

    /// Takes up to `count` addresses that are due. An address is not due again before [`Self::ended`] is called.
    pub(super) fn take_due(&mut self, count: usize, now: Instant) -> Vec<SocketAddr> {
        let due = self.0.iter_mut().filter(|(_, candidate)| candidate.due.is_some_and(|due| due <= now));
        due.take(count)
            .map(|(address, candidate)| {
                candidate.due = None;
                *address
            })
            .collect()
    }

    /// Schedules the next dial of an address whose connection ended or could not be opened.
    pub(super) fn ended(&mut self, address: SocketAddr, now: Instant) {
        if let Some(candidate) = self.0.get_mut(&address) {
            let pause = FIRST_PAUSE.saturating_mul(1 << candidate.failures.min(10)).min(LONGEST_PAUSE);
            candidate.failures += 1;
            candidate.due = Some(now + pause);
        }
    }

    /// Returns whether there are no addresses.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_waits_longer_each_time_until_it_is_told_again() {
        let address = "10.0.0.1:6881".parse().unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut candidates = PeerCandidates::default();
        candidates.add(address, start);
        assert_eq!(candidates.take_due(5, start), [address]);
        assert_eq!(candidates.take_due(5, at(100)), []);
        candidates.ended(address, start);
        assert_eq!(candidates.take_due(5, start), []);
        assert_eq!(candidates.take_due(5, at(1)), [address]);
        candidates.ended(address, at(1));
        assert_eq!(candidates.take_due(5, at(2)), []);
        assert_eq!(candidates.take_due(0, at(3)), []);
        assert_eq!(candidates.take_due(5, at(3)), [address]);
        candidates.ended(address, at(3));
        candidates.add(address, at(3));
        assert_eq!(candidates.take_due(5, at(4)), [address]);
    }

    #[test]
    fn there_are_so_many_addresses_at_most() {
        let mut candidates = PeerCandidates::default();
        let now = Instant::now();
        (1..1000).for_each(|port| candidates.add(([10, 0, 0, 1], port).into(), now));
        assert_eq!(candidates.take_due(usize::MAX, now).len(), MAX_CANDIDATES);
    }
}
