//! What another instance has heard of a client.

use std::net::IpAddr;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::ForwardedClient;
use super::host::Host;
use tracker_protocol::Event;

/// The times of records from other instances are exact to about this much.
const UNCERTAIN: Duration = Duration::from_secs(1);

impl ForwardedClient {
    /// Returns whether the host at this address has left: another instance heard at the time `at` that it left. If the
    /// host announced here at about the same time, the host counts as left, because a client often reports the end of
    /// its download and leaves at once. But if that announce is `started` and not earlier than `at`, the host is here:
    /// it may have stopped and started again.
    pub(in crate::forward) fn has_left_elsewhere(&self, ip: IpAddr, is_claim: bool, at: Instant) -> bool {
        let Some(host) = self.hosts.iter().find(|host| is_meant(host, ip, is_claim)) else { return false };
        let margin = if host.request.event == Some(Event::Started) { Duration::ZERO } else { UNCERTAIN };
        host.is_here() && host.seen < at + margin
    }

    /// Forgets the host at this address, because another instance heard the host's announce at the time `at`. Also
    /// forgets the addresses that the client had before this address. The sessions that announced these addresses end
    /// without a `stopped`, even if a `stopped` was due. The host stays if it announced here at about the time `at` or
    /// later: if a client announces to two instances at the same time, one of them must keep the host. Returns the
    /// forgotten addresses.
    pub(in crate::forward) fn forget_host(&mut self, ip: IpAddr, is_claim: bool, at: Instant) -> SmallVec<[IpAddr; 2]> {
        let Self { hosts, sessions, .. } = self;
        let is_older = |host: &Host| at.checked_sub(UNCERTAIN).is_some_and(|at| host.left.unwrap_or(host.seen) < at);
        let found = hosts.iter().position(|host| is_meant(host, ip, is_claim) && is_older(host));
        let Some(forgotten) = found.map(|at| hosts.remove(at)) else { return SmallVec::new() };
        // A client has one address of each family at a time.
        let is_earlier = |host: &Host| host.ip.is_ipv4() == ip.is_ipv4() && host.seen < forgotten.seen;
        let earlier = hosts.iter().filter(|host| is_earlier(host)).map(|host| host.ip);
        let addresses = earlier.chain([ip]).collect();
        hosts.retain(|host| !is_earlier(host));
        sessions.retain(|held| match held.announcing_host(hosts) {
            Some(host) => host.is_here() || !held.covers(&forgotten),
            None => false,
        });
        self.quiet = None;
        addresses
    }
}

/// Returns whether a record of another instance is about this host. If the client only claimed the address at the other
/// instance, this host's address must be a claim, too.
fn is_meant(host: &Host, ip: IpAddr, is_claim: bool) -> bool {
    host.ip == ip && (host.is_claim || !is_claim)
}
