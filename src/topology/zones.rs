//! Zones: parts of the network whose members reach each other, and the addresses by which others reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

use ipnet::IpNet;

/// The address by which a NAT is reached from outside; one of each family, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExternalAddress {
    /// For peers on IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For peers on IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl ExternalAddress {
    /// That of the same family: a NAT forwards to its own.
    pub(super) fn instead_of(self, ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// A part of the network whose members reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// What the operator calls it.
    pub name: String,
    /// The addresses of its members.
    pub networks: Vec<IpNet>,
    /// By which other zones, and the world, reach its members. To another zone it may be a private one.
    pub external: ExternalAddress,
}

/// One of the zones that are configured, in one byte: each peer holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZoneId(NonZeroU8);

impl ZoneId {
    /// How many there can be.
    pub const MOST: usize = 255;

    /// That of the nth zone, from 0 on; none from [`Self::MOST`] on.
    pub fn nth(n: usize) -> Option<Self> {
        u8::try_from(n + 1).ok().and_then(NonZeroU8::new).map(Self)
    }

    pub(super) fn number(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

/// Where a peer is, or who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZonedIp {
    /// Its address, canonical.
    pub ip: IpAddr,
    /// Its zone; none when no zone has its address.
    pub zone: Option<ZoneId>,
}

impl ZonedIp {
    /// That of a client whose address is not known, but perhaps its family: it is in no network, so that nothing of any site
    /// is told there.
    pub fn nowhere(is_ipv6: bool) -> Self {
        let ip = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { ip, zone: None }
    }
}
