//! What another instance has heard of a client.

use std::net::IpAddr;

use tokio::time::Instant;

use super::ForwardedClient;

impl ForwardedClient {
    /// Returns whether this instance heard the host at this address last before the time `at`. If the other instance
    /// heard only a claim of the address, it must be a claim here, too.
    pub(in crate::forward) fn was_heard_before(&self, ip: IpAddr, is_claim: bool, at: Instant) -> bool {
        self.hosts.iter().any(|host| host.ip == ip && host.is_here() && host.seen < at && (host.is_claim || !is_claim))
    }

    /// Forgets the host at this address, which another instance heard at the time `at`. The sessions that announced only
    /// this host end without a `stopped`. Returns whether the host was here, and was heard here before.
    pub(in crate::forward) fn forget_host(&mut self, ip: IpAddr, is_claim: bool, at: Instant) -> bool {
        if !self.was_heard_before(ip, is_claim, at) {
            return false;
        }
        let Self { hosts, sessions, .. } = self;
        hosts.retain(|host| host.ip != ip);
        sessions.retain(|held| held.announcing_host(hosts).is_some());
        self.quiet = None;
        true
    }
}
