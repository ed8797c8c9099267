//! The limits of what clients get: how many peers, and how often.

use std::num::NonZeroU32;

use tracker_protocol::{AnnounceReply, NumWant};

use crate::topology::IpParam;

/// How many peers a client gets when it does not say how many it wants.
pub const DEFAULT_WANT: usize = 50;
/// The most peers that a client gets.
pub const MAX_WANT: usize = 200;

/// The interval for a client while upstream peers are still to come, in seconds.
const SOON: u32 = 5;

/// How many upstream peers a client gets although there are enough local seeds, which may be off or busy.
const FEW: usize = 5;

/// The tracker's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Seconds until a client should announce again. `--announce-interval`.
    pub interval: u32,
    /// Which clients may register another address. `--ip-param`.
    pub ip_param: IpParam,
    /// Clients get few upstream peers once there are this many local seeds. `--local-only-after`.
    pub local_only_after: Option<NonZeroU32>,
}

impl Policy {
    /// The most peers for a client.
    pub fn want(&self, numwant: NumWant) -> usize {
        match numwant {
            NumWant::Default => DEFAULT_WANT,
            NumWant::AtMost(n) => usize::try_from(n).unwrap_or(MAX_WANT).min(MAX_WANT),
        }
    }

    /// The most peers for a client that wants `want` and gets `local` local ones, once upstream peers are added. If there are
    /// enough local seeds, the transfer should stay inside the network.
    pub(super) fn with_upstream(self, want: usize, local: usize, local_seeds: u32) -> usize {
        let has_enough = self.local_only_after.is_some_and(|enough| local_seeds >= enough.get());
        if has_enough { want.min(local + FEW) } else { want }
    }

    /// Shortens the interval, because upstream peers are still to come. libtorrent and rTorrent announce after five and ten
    /// minutes at the earliest, whatever the interval, which is why a first announce waits at all.
    pub(super) fn shorten_interval(self, reply: &mut AnnounceReply) {
        reply.interval = self.interval.min(SOON);
        reply.min_interval = reply.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { interval: 30, ip_param: IpParam::Private, local_only_after: None };

    #[test]
    fn numwant_is_clamped() {
        let want = |numwant| POLICY.want(numwant);
        assert_eq!(want(NumWant::Default), 50);
        assert_eq!(want(NumWant::AtMost(0)), 0);
        assert_eq!(want(NumWant::AtMost(80)), 80);
        assert_eq!(want(NumWant::AtMost(u32::MAX)), 200);
    }

    #[test]
    fn clients_get_few_upstream_peers_if_there_are_enough_local_seeds() {
        let policy = |local_only_after| Policy { local_only_after: NonZeroU32::new(local_only_after), ..POLICY };
        assert_eq!(POLICY.with_upstream(50, 10, 1000), 50, "unless told to, never");
        assert_eq!(policy(3).with_upstream(50, 10, 2), 50);
        assert_eq!(policy(3).with_upstream(50, 10, 3), 10 + FEW);
        assert_eq!(policy(3).with_upstream(50, 0, 3), FEW, "a few are always left");
        assert_eq!(policy(3).with_upstream(50, 48, 3), 50);
        assert_eq!(policy(3).with_upstream(0, 0, 3), 0);
    }
}
