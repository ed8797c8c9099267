//! Which addresses an upstream may redirect us to, or list as peers. It may never name this process. An upstream on the
//! internet may not name addresses of private networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use parking_lot::RwLock;

use crate::topology::reach::{Reach, is_outside};
use tracker_protocol::{Ip, Peer, PeerLists};

/// The most peers of one reply that are compared with our addresses, because each comparison is a system call. Only
/// peers at a port that we listen on are compared. Beyond this number, peers at such a port are dropped uncompared: in
/// a real swarm, few peers use the same port.
const MAX_COMPARISONS: usize = 16;

/// Where clouds serve metadata and credentials: AWS over IPv6, Alibaba, Oracle. The usual 169.254.169.254 is link-local
/// and refused anyway.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Where an upstream is. This decides which addresses the upstream may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyOrigin {
    /// Whether the upstream is on the internet. Such an upstream cannot know private networks.
    pub(super) is_public: bool,
    /// The upstream's address, if it is known.
    pub(super) ip: Option<IpAddr>,
}

impl ReplyOrigin {
    pub(super) fn at(ip: IpAddr) -> Self {
        Self { is_public: is_outside(ip), ip: Some(ip.to_canonical()) }
    }

    /// An upstream with an unknown address is treated as public, the stricter case: private peers are dropped, and
    /// redirects to private addresses are not followed.
    pub(super) const UNKNOWN: Self = Self { is_public: true, ip: None };

    /// Returns whether the upstream is on loopback. Such an upstream is the operator's, and may redirect to loopback.
    fn is_loopback(self) -> bool {
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

    /// Returns whether this process listens at an endpoint.
    fn contains(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.0.read().iter().any(|listener| {
            let at = listener.ip().to_canonical();
            listener.port() == port && (at == ip || at.is_unspecified() && is_this_host(ip))
        })
    }

    fn has_port(&self, port: u16) -> bool {
        self.0.read().iter().any(|listener| listener.port() == port)
    }

    /// Returns whether an upstream may redirect to an address. No upstream may redirect to this process, a link-local
    /// address or [`METADATA`]. Only an upstream on this host may redirect to this host. An upstream on the internet
    /// may redirect only to public addresses.
    pub(super) fn allows_redirect(&self, origin: ReplyOrigin, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let reaches = match Reach::of(ip) {
            Reach::Nowhere | Reach::Link => false,
            Reach::Host => origin.is_loopback(),
            Reach::Site => !origin.is_public,
            Reach::Example | Reach::Everywhere => true,
        };
        reaches
            && !METADATA.contains(&ip)
            && !self.contains(ip, address.port())
            && (origin.is_loopback() || origin.ip == Some(ip) || !is_this_host(ip))
    }

    /// Drops entries that cannot be peers: loopback and link-local addresses, and this process. If the upstream is on
    /// the internet, private addresses are dropped, too. Returns how many entries were dropped.
    pub(super) fn drop_implausible(&self, peers: &mut PeerLists, origin: ReplyOrigin) -> usize {
        let before = peers.len();
        let mut comparisons = MAX_COMPARISONS;
        self.drop_implausible_of_family(&mut peers.v4, origin, &mut comparisons);
        self.drop_implausible_of_family(&mut peers.v6, origin, &mut comparisons);
        before - peers.len()
    }

    fn drop_implausible_of_family<A: Ip>(
        &self,
        peers: &mut Vec<Peer<A>>,
        origin: ReplyOrigin,
        comparisons: &mut usize,
    ) {
        peers.retain(|peer| {
            let ip: IpAddr = peer.endpoint.ip.into();
            self.is_plausible(origin, ip.to_canonical(), peer.endpoint.port, comparisons)
        });
    }

    fn is_plausible(&self, origin: ReplyOrigin, ip: IpAddr, port: NonZeroU16, comparisons: &mut usize) -> bool {
        let reaches = match Reach::of(ip) {
            Reach::Nowhere | Reach::Host | Reach::Link => false,
            Reach::Site => !origin.is_public,
            Reach::Example | Reach::Everywhere => true,
        };
        if !reaches {
            return false;
        }
        if !self.has_port(port.get()) {
            return true;
        }
        let left = comparisons.checked_sub(1);
        *comparisons = left.unwrap_or(0);
        left.is_some() && !self.contains(ip, port.get())
    }
}

/// Returns whether packets to an address stay on this host.
pub(super) fn is_this_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified() || address_towards((ip, 9).into()) == Some(ip)
}

/// Returns the address from which this host would send to `remote`. Sends nothing.
pub(super) fn address_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

#[cfg(test)]
mod tests;
