//! A client's recorded addresses, and whether the client may name them itself with `ip`, `ipv4` or `ipv6`.

use std::net::IpAddr;
use std::str::FromStr;

use tracker_protocol::ClaimedIps;

use super::reach::{Reach, is_connectable, is_local, is_outside};

/// Which clients may use `ip`, `ipv4` or `ipv6` to register an address other than the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpParam {
    /// No client.
    Never,
    /// Clients on this host and on private networks: retrackers on a LAN announce for their clients. A stranger could
    /// register a victim's address, so other clients may not.
    #[default]
    Private,
    /// All clients: for a tracker that only trusted people can reach.
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

    /// Returns the addresses under which a client is recorded: the source of its announce, or its claims.
    ///
    /// `ip` names the client's address for this announce. `ipv4` and `ipv6` often name a second address, so each counts
    /// only if `source` has the same family. If `source` is link-local, both count: clients on other links cannot use
    /// `source`.
    /// `is_passed_on` is whether another retracker forwarded the announce.
    pub fn addresses(self, source: IpAddr, claimed: &ClaimedIps, is_passed_on: bool) -> Addresses {
        let own = Addresses { ip: source, is_claim: false, outside: None };
        match self.claim(source, claimed) {
            Some(ip) if ip == source => own,
            // The client claims its NAT's address, which clients in its own network usually cannot use.
            Some(ip) if !is_passed_on && is_inside(source) && is_outside(ip) => Addresses { outside: Some(ip), ..own },
            Some(ip) => Addresses { ip, is_claim: true, outside: None },
            None => own,
        }
    }

    /// Returns the address that a client claims, if claims from `source` count.
    fn claim(self, source: IpAddr, claimed: &ClaimedIps) -> Option<IpAddr> {
        if !self.counts_from(source) {
            return None;
        }
        let (v4, v6) = (claimed.ipv4.map(IpAddr::V4), claimed.ipv6.map(IpAddr::V6));
        let (same_family, other_family) = if source.is_ipv4() { (v4, v6) } else { (v6, v4) };
        let other_family = other_family.filter(|_| Reach::of(source) == Reach::Link);
        let mut claims = [claimed.ip.or(same_family), other_family].into_iter().flatten();
        // A client behind its own proxy may claim loopback, which is of no use to other hosts.
        claims.find(|&ip| is_connectable(ip) && (!ip.is_loopback() || source.is_loopback()))
    }
}

/// The text is none of `never`, `private` and `always`.
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

/// The addresses under which a client is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The address for clients in the same network; if `outside` is none, for all clients.
    pub ip: IpAddr,
    /// Whether the client claims `ip`, and did not announce from there.
    pub is_claim: bool,
    /// The address for other clients that are outside of this client's network.
    pub outside: Option<IpAddr>,
}

/// Returns whether an address is on a private network or a link, not on the tracker's host.
fn is_inside(ip: IpAddr) -> bool {
    matches!(Reach::of(ip), Reach::Site | Reach::Link)
}

#[cfg(test)]
mod tests;
