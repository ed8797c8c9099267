//! What belongs to this host: its addresses and where it listens. No upstream tracker may send us or our clients there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use parking_lot::RwLock;

use crate::bittorrent::address::{Reach, is_outside};
use crate::bittorrent::{Ip, Peer, PeerLists};

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
mod tests {
    use super::*;

    const INTERNET: Teller = Teller::UNKNOWN;
    const NETWORK: Teller = Teller { is_public: false, ip: Some(IpAddr::V4(Ipv4Addr::new(10, 20, 30, 41))) };
    const HERE: Teller = Teller { is_public: false, ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) };

    fn listeners(addresses: &[&str]) -> Listeners {
        let listeners = Listeners::default();
        listeners.set(addresses.iter().map(|address| address.parse().unwrap()).collect());
        listeners
    }

    #[test]
    fn redirects_lead_neither_to_this_host_nor_to_a_link() {
        let listeners = listeners(&["127.0.0.1:8080"]);
        let may = |teller, address: &str| listeners.may_be_sent_to(teller, address.parse().unwrap());
        for never in [
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::1]:80",
            "[fd00:ec2::254]:80",
            "100.100.100.200:80",
            "127.0.0.1:8080",
            "[::ffff:127.0.0.1]:8080",
        ] {
            assert_eq!([INTERNET, NETWORK, HERE].map(|teller| may(teller, never)), [false; 3], "{never}");
        }
        for here in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!([INTERNET, NETWORK, HERE].map(|teller| may(teller, here)), [false, false, true], "{here}");
        }
        for nowhere in ["0.0.0.0:80", "[::]:80", "[64:ff9b::7f00:1]:80", "[64:ff9b:1::7f00:1]:80", "[2002:7f00:1::]:80"]
        {
            assert_eq!([INTERNET, NETWORK, HERE].map(|teller| may(teller, nowhere)), [false; 3], "{nowhere}");
        }
        assert_eq!([INTERNET, NETWORK, HERE].map(|teller| may(teller, "10.20.30.40:80")), [false, true, true]);
        assert_eq!([INTERNET, NETWORK, HERE].map(|teller| may(teller, "1.1.1.1:80")), [true; 3]);
        // Another address of this host, if it has one, unless it is the upstream's own.
        if let Some(own) = address_towards("192.88.99.1:9".parse().unwrap()).filter(|ip| !ip.is_loopback()) {
            let address = SocketAddr::new(own, 80).to_string();
            let itself = Teller { is_public: false, ip: Some(own) };
            assert_eq!([NETWORK, itself, HERE].map(|teller| may(teller, &address)), [false, true, true], "{own}");
            assert!(!may(itself, "127.0.0.1:80"));
        }
    }

    #[test]
    fn an_upstream_tells_only_of_what_it_can_know() {
        let listeners = listeners(&["0.0.0.0:8080"]);
        let told = |teller, addresses: &[&str]| {
            let mut peers = PeerLists::default();
            for address in addresses {
                let address: SocketAddr = address.parse().unwrap();
                peers.push(address.ip(), NonZeroU16::new(address.port()).unwrap(), None);
            }
            listeners.strike(&mut peers, teller);
            let v4 = peers.v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
            v4.chain(peers.v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect::<Vec<_>>()
        };
        let never = [
            "127.0.0.1:6379",
            "127.9.9.9:1",
            "0.0.0.0:1",
            "169.254.1.1:1",
            "127.0.0.1:8080",
            "[::1]:1",
            "[fe80::1]:1",
            "[64:ff9b::7f00:1]:1",
        ];
        assert_eq!(told(HERE, &never), [""; 0]);
        let private = ["192.168.1.1:80", "10.1.1.1:1", "100.64.1.1:1", "[fd00::1]:1"];
        assert_eq!(told(NETWORK, &private), private);
        assert_eq!(told(INTERNET, &private), [""; 0]);
        assert_eq!(told(INTERNET, &["64.0.0.1:8080", "[2a00::1]:1"]), ["64.0.0.1:8080", "[2a00::1]:1"]);
        let many: Vec<_> = (0..100).map(|n| format!("64.0.0.{n}:8080")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(told(INTERNET, &many), many[..MOST_LOOKS]);
    }

    #[test]
    fn redirects_lead_from_outside_to_outside_only() {
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::192.168.0.1",
            "2002:a00:1::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "ff02::1",
        ];
        let public = [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "::ffff:1.1.1.1",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
        ];
        let may = |ip: &&str| Listeners::default().may_be_sent_to(INTERNET, (ip.parse::<IpAddr>().unwrap(), 80).into());
        assert_eq!(private.iter().filter(|ip| may(ip)).count(), 0);
        assert!(public.iter().all(may));
    }
}
