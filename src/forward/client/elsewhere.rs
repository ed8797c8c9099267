//! What another instance has heard of a client.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::ForwardedClient;

/// The times of records from other instances are exact to about this much.
const UNCERTAIN: Duration = Duration::from_secs(1);

impl ForwardedClient {
    /// Returns whether the host at this address left at another instance at `at`. In doubt it has: a client often
    /// reports the end of its download and leaves at once.
    pub(in crate::forward) fn has_left_elsewhere(&self, ip: IpAddr, is_claim: bool, at: Instant) -> bool {
        self.was_heard_before(ip, is_claim, at + UNCERTAIN)
    }

    /// Returns whether this instance last heard the host before `at`. A claim heard elsewhere matches only a claim
    /// here.
    fn was_heard_before(&self, ip: IpAddr, is_claim: bool, at: Instant) -> bool {
        self.hosts.iter().any(|host| host.ip == ip && host.is_here() && host.seen < at && (host.is_claim || !is_claim))
    }

    /// Forgets the host at this address, which another instance heard at `at`. Sessions that announced only this host
    /// end without a `stopped`. In doubt the host stays: if a client announces to two instances at once, one must keep
    /// it. Returns whether the host was here and was last heard before `at`.
    pub(in crate::forward) fn forget_host(&mut self, ip: IpAddr, is_claim: bool, at: Instant) -> bool {
        let certain = at.checked_sub(UNCERTAIN);
        if !certain.is_some_and(|certain| self.was_heard_before(ip, is_claim, certain)) {
            return false;
        }
        let Self { hosts, sessions, .. } = self;
        hosts.retain(|host| host.ip != ip);
        sessions.retain(|held| held.announcing_host(hosts).is_some());
        self.quiet = None;
        true
    }
}
