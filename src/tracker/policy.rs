//! What the tracker grants: how many peers, how often, and under which address.

use std::num::NonZeroU32;

use tracker_protocol::{AnnounceReply, NumWant};

use crate::topology::IpParam;

/// Peers that a client gets when it does not say how many it wants.
pub const DEFAULT_WANT: usize = 50;
/// Peers that a client gets at most.
pub const MAX_WANT: usize = 200;

/// Seconds after which a client should announce again for which peers are on their way.
const CALL_BACK: u32 = 5;

/// Upstream peers that a client is told of although there are seeds enough here: those may be off, or busy.
const A_FEW: usize = 5;

/// The tracker's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Seconds until a client should announce again. `--announce-interval`.
    pub interval: u32,
    /// Whose `ip=` counts. `--ip-param`.
    pub ip_param: IpParam,
    /// Local seeds from which on upstream peers are held back. `--local-only-after`.
    pub local_only_after: Option<NonZeroU32>,
}

impl Policy {
    /// How many peers the client is told of at most.
    pub fn want(&self, numwant: NumWant) -> usize {
        match numwant {
            NumWant::Default => DEFAULT_WANT,
            NumWant::AtMost(n) => usize::try_from(n).unwrap_or(MAX_WANT).min(MAX_WANT),
        }
    }

    /// How many peers a client that wants `want` of them, and is told of `local` ones, is told of once upstream peers are
    /// added. Where there are seeds enough, the transfer is to stay inside the network.
    pub(super) fn with_upstream(self, want: usize, local: usize, local_seeds: u32) -> usize {
        let has_enough = self.local_only_after.is_some_and(|enough| local_seeds >= enough.get());
        if has_enough { want.min(local + A_FEW) } else { want }
    }

    /// Has the client come back soon: peers of an upstream tracker are on their way. libtorrent and rTorrent come no
    /// sooner than in five and in ten minutes whatever they are told, which is why a first announce waits at all.
    pub(super) fn shorten_interval(self, reply: &mut AnnounceReply) {
        reply.interval = self.interval.min(CALL_BACK);
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
    fn upstream_peers_are_held_back_where_there_are_seeds_enough() {
        let policy = |local_only_after| Policy { local_only_after: NonZeroU32::new(local_only_after), ..POLICY };
        assert_eq!(POLICY.with_upstream(50, 10, 1000), 50, "unless told to, never");
        assert_eq!(policy(3).with_upstream(50, 10, 2), 50);
        assert_eq!(policy(3).with_upstream(50, 10, 3), 10 + A_FEW);
        assert_eq!(policy(3).with_upstream(50, 0, 3), A_FEW, "a few are always left");
        assert_eq!(policy(3).with_upstream(50, 48, 3), 50);
        assert_eq!(policy(3).with_upstream(0, 0, 3), 0);
    }
}
