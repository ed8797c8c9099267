//! Zones: parts of the network whose members reach each other, and where other clients reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

use ipnet::IpNet;

/// The addresses of a NAT toward the outside; at most one of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExternalAddress {
    /// For peers on IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For peers on IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl ExternalAddress {
    /// Returns the external address in place of `ip`, of the same family: a NAT forwards only within a family.
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
    /// The zone's name in the operator's file.
    pub name: String,
    /// The networks of the zone's members.
    pub networks: Vec<IpNet>,
    /// Where other zones and the rest of the world reach the zone's members. If it is private, only other zones get it.
    pub external: ExternalAddress,
}

/// Identifies a configured zone, in one byte, because every peer is stored with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZoneId(NonZeroU8);

impl ZoneId {
    /// The largest possible number of zones.
    pub const MOST: usize = 255;

    /// Returns the id of the nth zone, counted from 0; `None` from [`Self::MOST`] on.
    pub fn nth(n: usize) -> Option<Self> {
        u8::try_from(n + 1).ok().and_then(NonZeroU8::new).map(Self)
    }

    /// Returns the zone's place in the order of configuration, counted from 0.
    pub fn number(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

/// An address of a peer or a client, and the zone that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZonedIp {
    /// The address, canonical.
    pub ip: IpAddr,
    /// The zone of the address; `None` if no zone contains the address.
    pub zone: Option<ZoneId>,
}

impl ZonedIp {
    /// Stands for an unknown client address. `is_ipv6` is the family of its connection. No network contains the result,
    /// so the client gets no peers of any site.
    pub fn nowhere(is_ipv6: bool) -> Self {
        let ip = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Self { ip, zone: None }
    }
}
