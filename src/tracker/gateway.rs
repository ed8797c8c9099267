//! Notices when many clients appear under one private address: a Docker bridge, a proxy or a NAT stands between them
//! and the tracker, and the addresses that it hands out are useless. It is the most reported fault of all trackers.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::bittorrent::address::is_local;
use crate::store::{Age, Moment};

/// So many others of one swarm at one address are not one person's clients any more: a host rarely has the same
/// torrent in two of them. Peer ids of different swarms say nothing, because clients use a new one for each torrent.
const OTHERS: usize = 4;

/// Addresses that are remembered. There is one as a rule, and a few at most.
const MAX_GATEWAYS: usize = 64;

/// An address from which nobody has announced for so long is none any more: somebody has mended it. The slowest clients
/// come back after half an hour.
const GONE_AFTER: Duration = Duration::from_hours(1);

/// The addresses that seem to hide many clients.
#[derive(Debug)]
pub(super) struct GatewayWatch {
    gateways: Mutex<Vec<Gateway>>,
    /// The length of `gateways`, so that a tracker that sees no gateway takes no lock.
    count: AtomicUsize,
    gauge: Gauge,
}

/// An address that seems to hide many clients. Its `Display` says what it is, as far as an address can tell, and what the
/// operator can do.
#[derive(Clone, Copy, Debug)]
struct Gateway {
    ip: IpAddr,
    /// When it is gone, unless somebody announces from there.
    until: Moment,
}

impl GatewayWatch {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { gateways: Mutex::default(), count: AtomicUsize::new(0), gauge }
    }

    /// Learns that a client has joined a swarm in which `others` were at the same address.
    pub(super) fn joined(&self, now: Moment, ip: IpAddr, others: usize) {
        if others < OTHERS || !is_local(ip) {
            return;
        }
        let gateway = Gateway { ip, until: now.plus(Age::new(GONE_AFTER)) };
        let is_news = self.present(now, |gateways| {
            let is_news = gateways.len() < MAX_GATEWAYS && !gateways.iter().any(|known| known.ip == ip);
            if is_news {
                gateways.push(gateway);
            }
            is_news
        });
        if is_news {
            log::warn!(
                "{} clients of one torrent have the address {ip}, and none of them can reach another: {gateway}; see \
                 \"Troubleshooting\" in the README",
                others + 1
            );
        }
    }

    /// What a client that announces from this address is to be told.
    pub(super) fn warning(&self, now: Moment, ip: IpAddr) -> Option<Cow<'static, str>> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let is_known = self.present(now, |gateways| {
            let gateway = gateways.iter_mut().find(|gateway| gateway.ip == ip);
            gateway.map(|gateway| gateway.until = now.plus(Age::new(GONE_AFTER))).is_some()
        });
        is_known.then(|| {
            let page = "its front page tells the operator how to mend that";
            format!("many clients reach this tracker as {ip}, so that it cannot tell them apart: {page}").into()
        })
    }

    /// What the operator is to be told at present, a sentence for each address.
    pub(super) fn notices(&self, now: Moment) -> Vec<String> {
        let notice = |gateway: &Gateway| {
            format!("Many clients reach this tracker as {}, and none of them can reach another: {gateway}.", gateway.ip)
        };
        self.present(now, |gateways| gateways.iter().map(notice).collect())
    }

    /// Looks at those that are not gone.
    fn present<T>(&self, now: Moment, look: impl FnOnce(&mut Vec<Gateway>) -> T) -> T {
        let mut gateways = self.gateways.lock();
        gateways.retain(|gateway| now < gateway.until);
        let seen = look(&mut gateways);
        self.count.store(gateways.len(), Relaxed);
        self.gauge.set(i64::try_from(gateways.len()).unwrap_or(i64::MAX));
        seen
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip;
        match ip {
            // The first address of a bridge network, of which Docker makes 172.17.0.0/16 to 172.31.0.0/16.
            IpAddr::V4(v4) if matches!(v4.octets(), [172, 17..=31, _, 1]) => f.write_str(
                "it is the address of Docker's bridge; give the container the host's network (network_mode: host in \
                 docker-compose.yml), and let clients on the Docker host announce to its address on the LAN, not to \
                 localhost",
            ),
            IpAddr::V4(v4) if matches!(v4.octets(), [192, 168, 65, _]) => f.write_str(
                "it is an address of Docker Desktop, which hides those of all clients; run the program itself, without \
                 Docker",
            ),
            _ if ip.is_loopback() => write!(
                f,
                "a reverse proxy on this host, or another program, stands before them; have it set X-Real-IP, and start \
                 retracker with TRUSTED_PROXIES={ip}"
            ),
            _ => write!(
                f,
                "a reverse proxy or a router with NAT stands before them; have a proxy set X-Real-IP, and start retracker \
                 with TRUSTED_PROXIES={ip}; with NAT, run one tracker on each side"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn after(duration: Duration) -> Moment {
        Moment::after(duration)
    }

    #[test]
    fn a_gateway_is_one_for_as_long_as_somebody_announces_from_there() {
        let gauge = Gauge::default();
        let watch = GatewayWatch::new(gauge.clone());
        let bridge = ip("172.17.0.1");
        let start = Moment::after(Duration::ZERO);
        watch.joined(start, bridge, OTHERS - 1);
        watch.joined(start, ip("203.0.113.5"), 100);
        assert_eq!((watch.notices(start), gauge.get()), (vec![], 0));

        watch.joined(start, bridge, OTHERS);
        watch.joined(start, bridge, OTHERS + 1);
        assert_eq!((watch.notices(start).len(), gauge.get()), (1, 1));
        let later = after(Duration::from_mins(59));
        assert!(watch.warning(later, bridge).is_some_and(|warning| warning.contains("172.17.0.1")));
        assert!(watch.warning(later, ip("172.17.0.2")).is_none());

        // An hour after it was found, but not after the last announce.
        assert_eq!(watch.notices(after(Duration::from_mins(61))).len(), 1);
        let mended = after(Duration::from_hours(2));
        assert_eq!((watch.notices(mended), gauge.get()), (vec![], 0));
        assert!(watch.warning(mended, bridge).is_none());
    }

    #[test]
    fn what_is_wrong_is_said_in_the_operator_s_words() {
        let said = |address| Gateway { ip: ip(address), until: Moment::after(Duration::ZERO) }.to_string();
        for bridge in ["172.17.0.1", "172.18.0.1", "172.31.16.1"] {
            assert!(said(bridge).contains("network_mode: host"), "{bridge}");
        }
        assert!(said("192.168.65.1").contains("Docker Desktop"));
        for address in ["127.0.0.1", "::1", "172.17.0.2", "172.16.0.1", "192.168.1.1", "fd00::1"] {
            let said = said(address);
            assert!(said.contains(&format!("TRUSTED_PROXIES={address}")) && !said.contains("Docker"), "{said}");
        }
    }

    #[test]
    fn no_more_is_remembered_than_there_can_be() {
        let watch = GatewayWatch::new(Gauge::default());
        let now = Moment::after(Duration::ZERO);
        (0..=255).for_each(|n| watch.joined(now, [10, 0, 0, n].into(), OTHERS));
        assert_eq!(watch.notices(now).len(), MAX_GATEWAYS);
    }
}
