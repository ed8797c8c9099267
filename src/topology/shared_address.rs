//! Detects that many clients announce from one private address: a Docker bridge, a proxy or a NAT stands before the
//! tracker. Then the recorded addresses are useless. No other problem with trackers is reported as often.
//!
//! A crashed client comes back with another id and port, and its old entry stays until it expires. So only clients that
//! overlap in time count: each announces again after the others have arrived.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::reach::is_local;
use crate::clock::{Timestamp, Ttl};
use tracker_protocol::{InfoHash, PeerId};

/// This many clients of one swarm at one address are on several hosts: one host rarely has a torrent in two clients.
/// Peer ids of different swarms cannot be compared, as clients use a new one for each torrent.
const MANY: usize = 5;

/// The most clients of one address that are remembered until [`MANY`] overlap in time.
pub(crate) const MOST_SHARING: usize = 16;

/// The most addresses in each of the two lists: the shared addresses, and the addresses that may be shared. Usually
/// there are few. When a list is full, the address that would be forgotten first makes room for a new one.
const MOST: usize = 64;

/// After this long without announces, an address is no longer shared. The slowest clients announce every half hour.
const GONE_AFTER: Duration = Duration::from_hours(1);

/// The addresses that many clients seem to share.
#[derive(Debug)]
pub struct SharedAddressDetector {
    watched: Mutex<Watched>,
    /// The bits of the watched addresses. Several addresses may have the same bit. An announce takes the lock only if
    /// the bit of its address is set, or if its swarm has other clients at the address.
    marks: AtomicU64,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Watched {
    suspects: Vec<Suspect>,
    gateways: Vec<Gateway>,
}

/// An announce that a client sent for itself.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// The address that the announce came from.
    pub source: IpAddr,
    /// The torrent.
    pub swarm: InfoHash,
    /// The client.
    pub client: PeerId,
    /// How many other peers of the swarm have this address, some perhaps gone. The store counts these peers only if the
    /// client is new at this address, or announces at a slower pace than before. Otherwise this is 0.
    pub others: usize,
}

/// An address that may be shared: more than one client of a swarm has it.
#[derive(Debug)]
struct Suspect {
    ip: IpAddr,
    swarm: InfoHash,
    /// How many announces were seen.
    seen: u32,
    stays: Vec<Stay>,
    /// When the address is forgotten, unless another client arrives there before then.
    until: Timestamp,
}

/// The time that a client was certainly at an address: from its first to its last announce. Both are numbers in the
/// sequence of all announces from the address.
#[derive(Clone, Copy, Debug)]
struct Stay {
    client: PeerId,
    first: u32,
    last: u32,
}

/// An address that many clients seem to share. `Display` says which device or program probably has the address, and
/// what the operator can do.
#[derive(Clone, Copy, Debug)]
struct Gateway {
    ip: IpAddr,
    /// When the address stops counting as shared, unless a client announces from there before then.
    until: Timestamp,
}

impl SharedAddressDetector {
    /// Makes a detector that has seen no announces. `gauge` shows the number of shared addresses.
    pub fn new(gauge: Gauge) -> Self {
        Self { watched: Mutex::default(), marks: AtomicU64::new(0), gauge }
    }

    /// Takes note of an announce. Returns the client's warning, if its address is shared.
    pub fn saw(&self, now: Timestamp, sighting: &Sighting) -> Option<Cow<'static, str>> {
        let ip = sighting.source;
        let is_watched = self.marks.load(Relaxed) & mark(ip) != 0;
        if !(is_watched || sighting.others > 0) || !is_local(ip) {
            return None;
        }
        let until = now.plus(Ttl::new(GONE_AFTER));
        let (is_gateway, is_news) = self.present(now, |watched| {
            if let Some(gateway) = watched.gateways.iter_mut().find(|gateway| gateway.ip == ip) {
                gateway.until = until;
                return (true, false);
            }
            let is_news = watched.suspect(sighting, until);
            if is_news {
                watched.suspects.retain(|suspect| suspect.ip != ip);
                push(&mut watched.gateways, Gateway { ip, until }, |gateway| gateway.until);
            }
            (is_news, is_news)
        });
        if is_news {
            log::warn!(
                "at least {MANY} clients of one torrent reach this tracker as {ip}, so it cannot tell them each other's \
                 addresses: {}; see docs/troubleshooting.md",
                Gateway { ip, until }
            );
        }
        is_gateway.then(|| warning(ip))
    }

    /// Returns the warning for a client with this address, if the address is shared.
    pub fn warning(&self, now: Timestamp, ip: IpAddr) -> Option<Cow<'static, str>> {
        if self.marks.load(Relaxed) & mark(ip) == 0 {
            return None;
        }
        let is_known = self.present(now, |watched| watched.gateways.iter().any(|gateway| gateway.ip == ip));
        is_known.then(|| warning(ip))
    }

    /// Returns notices for the operator, a sentence for each shared address.
    pub fn notices(&self, now: Timestamp) -> Vec<String> {
        let notice = |gateway: &Gateway| {
            let ip = gateway.ip;
            format!(
                "Many clients reach this tracker as {ip}, so it cannot tell them each other's addresses: {gateway}."
            )
        };
        self.present(now, |watched| watched.gateways.iter().map(notice).collect())
    }

    /// Drops the addresses that have expired, and calls `look` with the others.
    fn present<T>(&self, now: Timestamp, look: impl FnOnce(&mut Watched) -> T) -> T {
        let mut watched = self.watched.lock();
        watched.gateways.retain(|gateway| now < gateway.until);
        watched.suspects.retain(|suspect| now < suspect.until);
        let seen = look(&mut watched);
        let ips = watched.gateways.iter().map(|gateway| gateway.ip);
        let ips = ips.chain(watched.suspects.iter().map(|suspect| suspect.ip));
        self.marks.store(ips.fold(0, |marks, ip| marks | mark(ip)), Relaxed);
        self.gauge.set(i64::try_from(watched.gateways.len()).unwrap_or(i64::MAX));
        seen
    }
}

impl Watched {
    /// Takes note of an announce from an address that may be shared. Returns whether the address is shared.
    fn suspect(&mut self, sighting: &Sighting, until: Timestamp) -> bool {
        let &Sighting { source: ip, swarm, client, others } = sighting;
        match self.suspects.iter_mut().find(|suspect| suspect.ip == ip) {
            Some(suspect) if suspect.swarm == swarm => return suspect.saw(client, until),
            // A swarm with more clients at this address replaces the watched swarm.
            Some(suspect) if others <= suspect.stays.len() => return false,
            Some(suspect) => *suspect = Suspect::new(ip, swarm, until),
            None if others > 0 => push(&mut self.suspects, Suspect::new(ip, swarm, until), |suspect| suspect.until),
            None => return false,
        }
        self.suspect(&Sighting { others: 0, ..*sighting }, until)
    }
}

impl Suspect {
    fn new(ip: IpAddr, swarm: InfoHash, until: Timestamp) -> Self {
        Self { ip, swarm, seen: 0, stays: Vec::new(), until }
    }

    /// Takes note that a client is at the address. Returns whether [`MANY`] clients overlapped in time.
    fn saw(&mut self, client: PeerId, until: Timestamp) -> bool {
        self.seen = self.seen.saturating_add(1);
        if let Some(stay) = self.stays.iter_mut().find(|stay| stay.client == client) {
            stay.last = self.seen;
        } else {
            self.until = until;
            let stay = Stay { client, first: self.seen, last: self.seen };
            push_to(&mut self.stays, MOST_SHARING, stay, |stay| stay.last);
        }
        self.at_once() >= MANY
    }

    /// Returns the largest number of clients that were at the address at the same time.
    fn at_once(&self) -> usize {
        let when = |moment| self.stays.iter().filter(|stay| (stay.first..=stay.last).contains(&moment)).count();
        self.stays.iter().map(|stay| when(stay.first)).max().unwrap_or_default()
    }
}

/// Adds to a list of at most [`MOST`] items. If the list is full, the oldest item, with the lowest `age`, is removed.
fn push<T, K: Ord>(list: &mut Vec<T>, new: T, age: impl Fn(&T) -> K) {
    push_to(list, MOST, new, age);
}

fn push_to<T, K: Ord>(list: &mut Vec<T>, most: usize, new: T, age: impl Fn(&T) -> K) {
    if list.len() >= most {
        let oldest = list.iter().enumerate().min_by_key(|(_, item)| age(item)).map(|(at, _)| at);
        oldest.map(|at| list.swap_remove(at));
    }
    list.push(new);
}

/// Returns the bit that stands for an address.
fn mark(ip: IpAddr) -> u64 {
    let sum = |octets: &[u8]| octets.iter().fold(0_u8, |sum, octet| sum.wrapping_mul(31).wrapping_add(*octet));
    let sum = match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    1 << (sum % 64)
}

fn warning(ip: IpAddr) -> Cow<'static, str> {
    let page = "the tracker's front page tells the operator how to fix this";
    format!("many clients reach this tracker as {ip}, so it cannot tell them apart; {page}").into()
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.ip {
            // Docker takes 172.17.0.0/16 to 172.31.0.0/16 for bridge networks. A bridge has the first address of its
            // network.
            IpAddr::V4(v4) if matches!(v4.octets(), [172, 17..=31, _, 1]) => {
                "it is the address of Docker's bridge; give the container the host's network (network_mode: host in \
                 docker-compose.yml), and let clients on the Docker host announce to its address on the LAN, not to \
                 localhost"
            }
            IpAddr::V4(v4) if matches!(v4.octets(), [192, 168, 65, _]) => {
                "it is an address of Docker Desktop, which hides the addresses of all clients; run the program itself, without \
                 Docker"
            }
            ip if ip.is_loopback() => {
                "a reverse proxy on this host, or another program, is between them and the tracker; if it is a proxy \
                 of yours, have it name the client of each request, as docs/reverse-proxy.md shows"
            }
            _ => {
                "a reverse proxy or a router with NAT is between them and the tracker, or one host runs them all; if it is a \
                 proxy of yours, have it name the client of each request, as docs/reverse-proxy.md shows; with NAT, run one \
                 tracker on each side"
            }
        })
    }
}

#[cfg(test)]
mod tests;
