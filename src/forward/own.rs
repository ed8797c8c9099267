//! What belongs to this host: its addresses and where it listens. No upstream tracker may send us or our clients there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use parking_lot::RwLock;

use crate::topology::reach::{Reach, is_outside};
use tracker_protocol::{Ip, Peer, PeerLists};

/// Peers of one reply that listen on a port of ours and are looked at closely, as each look is a system call. Those beyond are
/// dropped: no swarm is full of one port.
const MOST_LOOKS: usize = 16;

/// Where cloud hosts are told their secrets, beside 169.254.169.254: AWS over IPv6, Alibaba, Oracle.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Who gave an address, as far as it matters for whether that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Teller {
    /// It is on the internet: what it says of private networks it cannot know.
    pub(super) is_public: bool,
    /// Its address, as far as it is known.
    pub(super) ip: Option<IpAddr>,
}

impl Teller {
    /// One at this address.
    pub(super) fn at(ip: IpAddr) -> Self {
        Self { is_public: is_outside(ip), ip: Some(ip.to_canonical()) }
    }

    /// One whose address is not known. It is believed less.
    pub(super) const UNKNOWN: Self = Self { is_public: true, ip: None };

    /// Whether it was configured as one that only this host reaches, and may send us to others of the kind.
    fn is_here(self) -> bool {
        self.ip.is_some_and(|ip| ip.is_loopback())
    }
}

/// The addresses that the process listens on.
#[derive(Debug, Default)]
pub(super) struct Listeners(RwLock<Vec<SocketAddr>>);

impl Listeners {
    pub(super) fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.write() = addresses;
    }

    /// Whether we ourselves are there.
    fn has(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.0.read().iter().any(|listener| {
            let at = listener.ip().to_canonical();
            listener.port() == port && (at == ip || at.is_unspecified() && is_this_host(ip))
        })
    }

    fn has_port(&self, port: u16) -> bool {
        self.0.read().iter().any(|listener| listener.port() == port)
    }

    /// Whether a redirect may lead there: never to what this host keeps for itself, to us, or to a link; from the internet
    /// to public addresses only.
    pub(super) fn may_be_sent_to(&self, teller: Teller, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let reaches = match Reach::of(ip) {
            Reach::Nowhere | Reach::Link => false,
            Reach::Host => teller.is_here(),
            Reach::Site => !teller.is_public,
            Reach::Example | Reach::Everywhere => true,
        };
        reaches
            && !METADATA.contains(&ip)
            && !self.has(ip, address.port())
            && (teller.is_here() || teller.ip == Some(ip) || !is_this_host(ip))
    }

    /// Drops the peers that an upstream cannot know, or that are no peers: those on loopback or on a link, and ourselves; of
    /// one on the internet all in private networks.
    pub(super) fn strike(&self, peers: &mut PeerLists, teller: Teller) {
        let mut looks = MOST_LOOKS;
        self.strike_family(&mut peers.v4, teller, &mut looks);
        self.strike_family(&mut peers.v6, teller, &mut looks);
    }

    fn strike_family<A: Ip>(&self, peers: &mut Vec<Peer<A>>, teller: Teller, looks: &mut usize) {
        peers.retain(|peer| {
            let ip: IpAddr = peer.endpoint.ip.into();
            self.may_be_told(teller, ip.to_canonical(), peer.endpoint.port, looks)
        });
    }

    fn may_be_told(&self, teller: Teller, ip: IpAddr, port: NonZeroU16, looks: &mut usize) -> bool {
        let reaches = match Reach::of(ip) {
            Reach::Nowhere | Reach::Host | Reach::Link => false,
            Reach::Site => !teller.is_public,
            Reach::Example | Reach::Everywhere => true,
        };
        if !reaches {
            return false;
        }
        if !self.has_port(port.get()) {
            return true;
        }
        let looked = looks.checked_sub(1);
        *looks = looked.unwrap_or(0);
        looked.is_some() && !self.has(ip, port.get())
    }
}

/// Whether packets to an address do not leave this host.
pub(super) fn is_this_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified() || address_towards((ip, 9).into()) == Some(ip)
}

/// The address of this host from which that one is reached: no packet is sent to find out.
pub(super) fn address_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

#[cfg(test)]
mod tests;
