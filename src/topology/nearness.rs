//! Which peers of a swarm a client gets first.

use tracker_protocol::Ip;

use super::ZoneId;

/// How near a peer is to the client that asks. The nearest come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// In the same zone.
    Zone,
    /// In the same /24 of IPv4 or /64 of IPv6, which is usually the same network segment.
    Prefix,
    /// Anywhere else.
    Elsewhere,
}

impl Nearness {
    /// Returns how near a peer is to a client. `asks` is the client's address of the peer's family, if it has one.
    /// Subnets are compared only if neither the client nor the peer has a zone. Hosts of different zones are never
    /// near: two sites may use the same private network.
    pub fn of<A: Ip>(asks: Option<A>, asks_zone: Option<ZoneId>, ip: A, zone: Option<ZoneId>) -> Self {
        if zone != asks_zone {
            Self::Elsewhere
        } else if zone.is_some() {
            Self::Zone
        } else if asks.is_some_and(|asks| asks.subnet() == ip.subnet()) {
            Self::Prefix
        } else {
            Self::Elsewhere
        }
    }

    /// Returns how near a peer can be to this client at best.
    pub fn nearest<A: Ip>(asks: Option<A>, asks_zone: Option<ZoneId>) -> Self {
        match (asks_zone, asks) {
            (Some(_), _) => Self::Zone,
            (None, Some(_)) => Self::Prefix,
            (None, None) => Self::Elsewhere,
        }
    }
}
