//! The peers of a swarm, and where they listen.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use super::PeerId;

/// A peer's role in its swarm, as far as a tracker can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer has the whole torrent.
    Seed,
    /// The peer still downloads.
    Leecher,
    /// The peer has all that it wants, but not the whole torrent (BEP 21).
    PartialSeed,
}

impl Role {
    /// Returns whether a peer with this role downloads. Two peers that do not download have no use for each other.
    pub fn downloads(self) -> bool {
        self == Self::Leecher
    }
}

/// One of the two address families. Each family is a type, so that a list of one family cannot hold a peer of the other
/// family.
pub trait Ip: Copy + Eq + Hash + fmt::Debug + Into<IpAddr> {
    /// `4` or `6`.
    const VERSION: u8;
    /// Converts an address; `None` if the address is of the other family.
    fn of(ip: IpAddr) -> Option<Self>;
    /// Returns whether only the same host can reach the address.
    fn is_loopback(self) -> bool;
    /// Returns the prefix that the address shares with its neighbours: 24 bits of IPv4, 64 of IPv6.
    fn subnet(self) -> u64;
}

impl Ip for Ipv4Addr {
    const VERSION: u8 = 4;
    fn of(ip: IpAddr) -> Option<Self> {
        if let IpAddr::V4(ip) = ip { Some(ip) } else { None }
    }
    fn subnet(self) -> u64 {
        u64::from(self.to_bits() >> 8)
    }
    fn is_loopback(self) -> bool {
        Self::is_loopback(&self)
    }
}

impl Ip for Ipv6Addr {
    const VERSION: u8 = 6;
    fn of(ip: IpAddr) -> Option<Self> {
        if let IpAddr::V6(ip) = ip { Some(ip) } else { None }
    }
    fn subnet(self) -> u64 {
        (self.to_bits() >> 64) as u64
    }
    fn is_loopback(self) -> bool {
        Self::is_loopback(&self)
    }
}

/// Where a peer listens. The port cannot be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint<A> {
    /// The address. An IPv4-mapped IPv6 address has become IPv4 before it gets here.
    pub ip: A,
    /// The TCP (and µTP) port.
    pub port: NonZeroU16,
}

impl<A: Ip> From<Endpoint<A>> for SocketAddr {
    fn from(endpoint: Endpoint<A>) -> Self {
        Self::new(endpoint.ip.into(), endpoint.port.get())
    }
}

/// A peer as it appears in replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<A> {
    /// Where the peer listens.
    pub endpoint: Endpoint<A>,
    /// The peer's id; `None` if the peer came from an upstream tracker's compact list, which has no ids.
    pub id: Option<PeerId>,
}

/// Peers of both families, each in the order in which replies have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLists {
    /// IPv4 peers.
    pub v4: Vec<Peer<Ipv4Addr>>,
    /// IPv6 peers.
    pub v6: Vec<Peer<Ipv6Addr>>,
}

impl PeerLists {
    /// Returns the number of peers of both families together.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Returns whether there is no peer at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Appends a peer to the list of its family. An IPv4-mapped address counts as IPv4.
    pub fn push(&mut self, ip: IpAddr, port: NonZeroU16, id: Option<PeerId>) {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.push(Peer { endpoint: Endpoint { ip, port }, id }),
            IpAddr::V6(ip) => self.v6.push(Peer { endpoint: Endpoint { ip, port }, id }),
        }
    }
}
