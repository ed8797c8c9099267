//! Under which addresses a client is recorded: whether what it claims of its own address counts.

use std::net::IpAddr;
use std::str::FromStr;

use tracker_protocol::ClaimedIps;

use super::reach::{Reach, is_connectable, is_local, is_outside};

/// Whose claim about its own address counts: `ip`, `ipv4` and `ipv6` in an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpParam {
    /// Nobody's.
    Never,
    /// That of those who come from this host or from a private network, so that retrackers on a LAN can announce for
    /// their clients. A stranger could enlist a victim's address otherwise.
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

    /// The addresses that a client is recorded under: the one that it came from, or those that it claims.
    ///
    /// Whose claims count, [`IpParam`] says. `ip` is a statement about this announce; `ipv4` and `ipv6` are often a
    /// client's second address, so that they count for their own family only, unless the client is on a link, where nobody
    /// else could use its address. `is_passed_on` is whether another tracker has passed the announce on.
    pub fn addresses(self, source: IpAddr, claimed: &ClaimedIps, is_passed_on: bool) -> Addresses {
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
    fn claim(self, source: IpAddr, claimed: &ClaimedIps) -> Option<IpAddr> {
        if !self.counts_from(source) {
            return None;
        }
        let (v4, v6) = (claimed.ipv4.map(IpAddr::V4), claimed.ipv6.map(IpAddr::V6));
        let (same_family, other_family) = if source.is_ipv4() { (v4, v6) } else { (v6, v4) };
        let other_family = other_family.filter(|_| Reach::of(source) == Reach::Link);
        let mut claims = [claimed.ip.or(same_family), other_family].into_iter().flatten();
        // Loopback is what a client behind a proxy of its own may say of itself; it helps nobody else.
        claims.find(|&ip| is_connectable(ip) && (!ip.is_loopback() || source.is_loopback()))
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
mod tests;
