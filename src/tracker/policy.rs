//! What the tracker grants: how many peers, how often, and under which address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::bittorrent::address::{Reach, is_local, is_outside, tellable};
use crate::bittorrent::{AnnounceReply, ClaimedIps, NumWant};

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
    /// Seconds until a client should announce again. `-i`, `ANNOUNCE_INTERVAL`; 30.
    pub interval: u32,
    /// Whose `ip=` counts. `--ip-param`, `IP_PARAM`; `private`.
    pub ip_param: IpParam,
    /// Local seeds from which on upstream peers are held back. `--local-only-after`, `LOCAL_ONLY_AFTER`; none, never.
    pub local_only_after: Option<NonZeroU32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { interval: 30, ip_param: IpParam::default(), local_only_after: None }
    }
}

/// Whose claim about its own address counts: `ip`, `ipv4` and `ipv6` in an announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpParam {
    /// Nobody's.
    Never,
    /// That of those who come from this host or from a private network, so that retrackers on a LAN can announce for
    /// their clients. A stranger could enlist a victim's address otherwise.
    #[default]
    Private,
    /// Everybody's: for a tracker that only people who are trusted can reach.
    Always,
}

impl IpParam {
    fn counts_from(self, source: IpAddr) -> bool {
        match self {
            Self::Never => false,
            Self::Private => is_local(source),
            Self::Always => true,
        }
    }
}

/// The text is neither `never` nor `private` nor `always`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnIpParam;

impl FromStr for IpParam {
    type Err = NotAnIpParam;

    fn from_str(text: &str) -> Result<Self, NotAnIpParam> {
        match text {
            "never" => Ok(Self::Never),
            "private" => Ok(Self::Private),
            "always" => Ok(Self::Always),
            _ => Err(NotAnIpParam),
        }
    }
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
    pub(super) fn call_back(self, reply: &mut AnnounceReply) {
        reply.interval = self.interval.min(CALL_BACK);
        reply.min_interval = reply.interval;
    }

    /// The addresses that a client is recorded under: the one that it came from, or those that it claims.
    ///
    /// Whose claims count, [`IpParam`] says. `ip` is a statement about this announce; `ipv4` and `ipv6` are often a
    /// client's second address, so that they count for their own family only, unless the client is on a link, where nobody
    /// else could use its address. `is_passed_on` is whether another tracker has passed the announce on.
    pub fn addresses(&self, source: IpAddr, claimed: &ClaimedIps, is_passed_on: bool) -> Addresses {
        let own = Addresses { ip: source, is_claim: false, outside: None };
        match self.claim(source, claimed) {
            Some(ip) if ip == source => own,
            // A client that knows the address of its NAT. Its neighbours cannot use that as a rule.
            Some(ip) if !is_passed_on && is_inside(source) && is_outside(ip) => Addresses { outside: Some(ip), ..own },
            Some(ip) => Addresses { ip, is_claim: true, outside: None },
            None => own,
        }
    }

    /// The address that a client claims, if that counts.
    fn claim(&self, source: IpAddr, claimed: &ClaimedIps) -> Option<IpAddr> {
        if !self.ip_param.counts_from(source) {
            return None;
        }
        let (v4, v6) = (claimed.ipv4.map(IpAddr::V4), claimed.ipv6.map(IpAddr::V6));
        let (same_family, other_family) = if source.is_ipv4() { (v4, v6) } else { (v6, v4) };
        let other_family = other_family.filter(|_| Reach::of(source) == Reach::Link);
        let mut claims = [claimed.ip.or(same_family), other_family].into_iter().flatten();
        // Loopback is what a client behind a proxy of its own may say of itself; it helps nobody else.
        claims.find(|&ip| tellable(ip) && (!ip.is_loopback() || source.is_loopback()))
    }
}

/// Where a client is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The address for its neighbours, and for all if there is no other.
    pub ip: IpAddr,
    /// Whether it has claimed that.
    pub is_claim: bool,
    /// The address for the world outside.
    pub outside: Option<IpAddr>,
}

/// Whether an address is that of a client in a network of its owner's, and not on the tracker's own host.
fn is_inside(ip: IpAddr) -> bool {
    matches!(Reach::of(ip), Reach::Site | Reach::Link)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { interval: 30, ip_param: IpParam::Private, local_only_after: None };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

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

    fn ips(ip: &str) -> ClaimedIps {
        ClaimedIps { ip: Some(self::ip(ip)), ..ClaimedIps::default() }
    }

    /// Where a client is recorded: `10.0.0.1`, `10.0.0.9 (claim)` or `10.0.0.1, outside 8.8.8.8`.
    fn recorded(policy: Policy, source: &str, claimed: &ClaimedIps, is_passed_on: bool) -> String {
        let source = ip(source);
        let Addresses { ip, is_claim, outside } = policy.addresses(source, claimed, is_passed_on);
        let outside = outside.map(|ip| format!(", outside {ip}")).unwrap_or_default();
        format!("{ip}{}{outside}", if is_claim { " (claim)" } else { "" })
    }

    #[test]
    fn claims_count_from_this_network_only() {
        let claims = |source, claimed| recorded(POLICY, source, &ips(claimed), false);
        for local in ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "::1", "fd00::1", "169.254.1.1", "fe80::1"]
        {
            assert_eq!(claims(local, "192.168.1.15"), "192.168.1.15 (claim)");
            for useless in
                ["0.0.0.0", "224.0.0.1", "169.254.1.9", "ff02::1", "fe80::9", "::", "255.255.255.255", "240.0.0.1"]
            {
                assert_eq!(claims(local, useless), local, "{useless}");
            }
        }
        assert_eq!(claims("10.1.2.3", "10.1.2.3"), "10.1.2.3");
        assert_eq!(claims("10.1.2.3", "127.0.0.1"), "10.1.2.3");
        assert_eq!(claims("127.0.0.1", "127.0.0.7"), "127.0.0.7 (claim)");
        for stranger in ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2600::1", "2001:db8::1"] {
            assert_eq!(claims(stranger, "192.168.1.15"), stranger);
        }
    }

    #[test]
    fn a_public_claim_from_a_private_address_is_for_the_world_outside() {
        for claimed in ["8.8.8.8", "2600::5", "203.0.113.7"] {
            for source in ["10.1.2.3", "fd00::1", "169.254.1.1", "fe80::1"] {
                assert_eq!(recorded(POLICY, source, &ips(claimed), false), format!("{source}, outside {claimed}"));
                assert_eq!(recorded(POLICY, source, &ips(claimed), true), format!("{claimed} (claim)"), "passed on");
            }
            // Nobody else could use loopback.
            assert_eq!(recorded(POLICY, "127.0.0.1", &ips(claimed), false), format!("{claimed} (claim)"));
        }
        let always = Policy { ip_param: IpParam::Always, ..POLICY };
        assert_eq!(recorded(always, "100.64.0.1", &ips("8.8.8.8"), false), "100.64.0.1, outside 8.8.8.8");
        assert_eq!(recorded(always, "9.9.9.9", &ips("8.8.8.8"), false), "8.8.8.8 (claim)");
    }

    #[test]
    fn claims_count_from_nobody_or_from_everybody() {
        let claims = |ip_param, source, claimed| recorded(Policy { ip_param, ..POLICY }, source, &ips(claimed), true);
        for source in ["127.0.0.1", "10.1.2.3", "fd00::1", "8.8.8.8", "2001:db8::1"] {
            assert_eq!(claims(IpParam::Never, source, "192.168.1.15"), source);
            assert_eq!(claims(IpParam::Always, source, "203.0.113.5"), "203.0.113.5 (claim)");
            assert_eq!(claims(IpParam::Always, source, "224.0.0.1"), source);
        }
        assert_eq!(claims(IpParam::Always, "8.8.8.8", "127.0.0.1"), "8.8.8.8");
    }

    #[test]
    fn a_second_address_of_the_other_family_does_not_replace_the_first() {
        let claimed = ClaimedIps { ip: None, ipv4: Some([10, 9, 9, 9].into()), ipv6: "fd00::9".parse().ok() };
        assert_eq!(recorded(POLICY, "10.0.0.1", &claimed, false), "10.9.9.9 (claim)");
        assert_eq!(recorded(POLICY, "fd00::1", &claimed, false), "fd00::9 (claim)");
        let claimed = ClaimedIps { ipv4: None, ..claimed };
        assert_eq!(recorded(POLICY, "10.0.0.1", &claimed, false), "10.0.0.1");
    }

    #[test]
    fn a_client_on_a_link_is_where_it_says_in_either_family() {
        let v4 = ClaimedIps { ip: None, ipv4: Some([192, 168, 1, 7].into()), ipv6: None };
        assert_eq!(recorded(POLICY, "fe80::1", &v4, false), "192.168.1.7 (claim)");
        assert_eq!(
            recorded(POLICY, "fe80::1", &ClaimedIps { ipv6: "fe80::2".parse().ok(), ..v4 }, false),
            "192.168.1.7 (claim)"
        );
        let v6 = ClaimedIps { ip: None, ipv4: Some([169, 254, 1, 7].into()), ipv6: "fd00::7".parse().ok() };
        assert_eq!(recorded(POLICY, "169.254.1.7", &v6, false), "fd00::7 (claim)");
        let never = Policy { ip_param: IpParam::Never, ..POLICY };
        assert_eq!(recorded(never, "fe80::1", &v4, false), "fe80::1");
    }
}
