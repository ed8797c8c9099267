//! Bounds the CPU time that wrong tokens cost: only a limited number of them is verified in a second.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

/// How many tokens of one source may fail in a second. Beyond that, only remembered tokens of this source are accepted.
pub const FAILURES_PER_SOURCE: u32 = 50;

/// How many tokens of all sources may fail in a second. At 60 µs for each token, verifying this many tokens takes a
/// third of one core.
const IN_TOTAL: u32 = 5000;

/// The tokens that have failed in the present second.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    second: u64,
    total: u32,
    sources: HashMap<IpAddr, u32>,
}

impl Window {
    fn at(&mut self, second: u64) -> &mut Self {
        if self.second != second {
            *self = Self { second, ..Self::default() };
        }
        self
    }
}

impl Failures {
    /// Returns whether too many tokens have failed in this second, of this source or of all sources. If so, the tracker
    /// verifies no more tokens of this source in this second.
    pub(super) fn are_too_many(&self, ip: IpAddr, second: u64) -> bool {
        let mut window = self.0.lock();
        let window = window.at(second);
        window.total >= IN_TOTAL || window.sources.get(&source(ip)).is_some_and(|count| *count >= FAILURES_PER_SOURCE)
    }

    pub(super) fn count(&self, ip: IpAddr, second: u64) {
        let mut window = self.0.lock();
        let window = window.at(second);
        window.total += 1;
        *window.sources.entry(source(ip)).or_default() += 1;
    }
}

/// Returns the source that an address belongs to. The source of an IPv6 address is its /64, because a client may use
/// all addresses of a /64.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_all_together_are_bounded_for_a_second() {
        let failures = Failures::default();
        let ip = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        for _ in 0..FAILURES_PER_SOURCE {
            assert!(!failures.are_too_many(ip(1), 7));
            failures.count(ip(1), 7);
        }
        assert!(failures.are_too_many(ip(1), 7));
        assert!(!failures.are_too_many(ip(2), 7));
        (FAILURES_PER_SOURCE..IN_TOTAL).for_each(|n| failures.count(ip(n), 7));
        assert!(failures.are_too_many(ip(2), 7));
        assert!(!failures.are_too_many(ip(1), 8));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let failures = Failures::default();
        (0..FAILURES_PER_SOURCE).for_each(|n| failures.count(format!("2001:db8::{n:x}").parse().unwrap(), 1));
        assert!(failures.are_too_many("2001:db8::ffff".parse().unwrap(), 1));
        assert!(!failures.are_too_many("2001:db8:0:1::1".parse().unwrap(), 1));
    }
}
