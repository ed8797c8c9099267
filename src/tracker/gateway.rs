//! Notices when many clients appear under one private address: a Docker bridge, a proxy or a NAT stands between them
//! and the tracker, and the addresses that it hands out are useless. It is the most reported fault of all trackers.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::bittorrent::address::is_local;

/// So many others of one swarm at one address are not one person's clients any more: a host rarely has the same
/// torrent in two of them. Peer ids of different swarms say nothing, because clients use a new one for each torrent.
const OTHERS: usize = 4;

/// Addresses that are remembered. There is one as a rule, and a few at most.
const MAX_GATEWAYS: usize = 64;

/// The addresses that seem to hide many clients.
#[derive(Debug)]
pub(super) struct GatewayWatch {
    addresses: Mutex<Vec<IpAddr>>,
    /// The length of `addresses`, so that a tracker that sees no gateway takes no lock.
    count: AtomicUsize,
    gauge: Gauge,
}

impl GatewayWatch {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self { addresses: Mutex::default(), count: AtomicUsize::new(0), gauge }
    }

    /// Learns that a client has joined a swarm in which `others` were at the same address.
    pub(super) fn joined(&self, ip: IpAddr, others: usize) {
        if others < OTHERS || !is_local(ip) {
            return;
        }
        let mut addresses = self.addresses.lock();
        if addresses.contains(&ip) || addresses.len() == MAX_GATEWAYS {
            return;
        }
        addresses.push(ip);
        self.count.store(addresses.len(), Relaxed);
        self.gauge.inc();
        drop(addresses);
        log::warn!(
            "{} clients of one torrent have the address {ip}: a proxy, a NAT or a Docker bridge hides theirs, and they \
             cannot reach each other; see \"Troubleshooting\" in the README",
            others + 1
        );
    }

    /// What a client at this address is to be told.
    pub(super) fn warning(&self, ip: IpAddr) -> Option<Cow<'static, str>> {
        if self.count.load(Relaxed) == 0 || !self.addresses.lock().contains(&ip) {
            return None;
        }
        Some(format!("many clients reach this tracker as {ip}: it cannot tell them apart, ask its operator").into())
    }
}
