//! Which announces are shared with the other instances.
//!
//! All changes are shared: peers that join, change, complete and leave. Only a few of the other announces are shared.
//! These few ensure that the logs always have a record of each live peer. The gate has no memory per peer. Instead, each
//! endpoint has one boundary in every quarter of the peer age: a moment that is the same for all instances. The gate
//! shares the first announce after a boundary. A record from another instance counts as an announce, so only one
//! instance shares the peer, even if a balancer sends each announce of a client to another instance.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::time::EngineTime;
use crate::clock::Timestamp;
use crate::store::{Hearing, PeerChange};

/// The logs keep records for this long in addition to the time that follows from the settings.
const RESERVE: Duration = Duration::from_mins(5);

/// The logs are kept long enough for clients that announce at this interval, because many clients announce only every
/// half hour, whatever the announce interval is.
const LEAST_INTERVAL: Duration = Duration::from_mins(30);

/// The rule that decides which announces are shared.
#[derive(Clone, Copy, Debug)]
pub struct ShareGate {
    /// The time between two boundaries of an endpoint, in milliseconds: a quarter of the peer age.
    quarter: u64,
}

/// Why an announce is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShareReason {
    /// The announce changes what other instances must know.
    Change(PeerChange),
    /// The announce is the first one after a boundary of its endpoint.
    Due,
    /// The announce is the peer's first one since records may have been lost.
    Resync,
}

impl ShareGate {
    /// Makes the gate for this peer age.
    pub fn new(peer_age: Duration) -> Self {
        Self { quarter: millis(peer_age / 4).max(1) }
    }

    /// Returns how long the logs must keep records. Within this time, each live peer has a record, if the peer announces
    /// at least once in three quarters of the peer age.
    pub fn retention(peer_age: Duration, announce_interval: Duration) -> Duration {
        (peer_age / 4 + announce_interval.max(LEAST_INTERVAL) + RESERVE).min(peer_age)
    }

    /// Returns why an announce from this endpoint is shared. `None` if the announce is not shared. `at` is the moment of
    /// the announce by the steady clock. `resync` is the latest moment at which records may have been lost. A peer that
    /// was last heard before `resync` is shared once more. `resync` is `None` if no records were lost.
    pub fn reason(
        self,
        hearing: &Hearing,
        at: EngineTime,
        endpoint: SocketAddr,
        resync: Option<Timestamp>,
    ) -> Option<ShareReason> {
        if let Some(change) = hearing.change {
            return Some(ShareReason::Change(change));
        }
        let silence = hearing.silence.map_or(u64::MAX, millis);
        if self.is_due(at.0, silence, endpoint) {
            return Some(ShareReason::Due);
        }
        // Both moments are rounded down. So if they are equal, the peer may have been heard just before the loss.
        let is_lost = |resync: Timestamp| hearing.at.tenths() <= tenths(silence).saturating_add(resync.tenths());
        resync.is_some_and(is_lost).then_some(ShareReason::Resync)
    }

    /// Returns whether a boundary of the endpoint lies between the previous announce and this one. `now` and `silence`
    /// are in milliseconds.
    fn is_due(self, now: u64, silence: u64, endpoint: SocketAddr) -> bool {
        let since_boundary = now.wrapping_add(spread(endpoint)) % self.quarter;
        silence > since_boundary
    }
}

/// Returns the number that gives an endpoint its boundaries. All instances and versions must use the same function. Every
/// announce needs the number, so the function is a cheap one: a client that chose its boundaries would gain nothing.
fn spread(endpoint: SocketAddr) -> u64 {
    let port = u64::from(endpoint.port());
    match endpoint.ip() {
        IpAddr::V4(ip) => mixed(u64::from(ip.to_bits()) << 16 | port),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            octets.as_chunks().0.iter().fold(port, |state, half| mixed(state ^ u64::from_be_bytes(*half)))
        }
    }
}

/// Returns a number in which each bit of `number` has changed half of the bits. This is the finalizer of `SplitMix64`
/// (Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn tenths(millis: u64) -> u32 {
    u32::try_from(millis / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
