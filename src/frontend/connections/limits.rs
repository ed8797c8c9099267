//! The limits of connections, and the client that each connection counts for.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::frontend::descriptors;

/// The limits as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The most connections of all clients together (`--max-connections`). `None` for as many as the descriptors allow.
    pub total: Option<usize>,
    /// The most connections of one address (`--max-connections-per-address`). `None` for three quarters of `total`.
    pub per_address: Option<usize>,
    /// How long clients may take.
    pub timeouts: ConnectionTimeouts,
    /// Whether a connection may carry several requests.
    pub keep_alive: bool,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self { total: None, per_address: None, timeouts: ConnectionTimeouts::USUAL, keep_alive: true }
    }
}

impl ConnectionOptions {
    /// The limits of a process that may have this many descriptors.
    pub fn within(self, descriptors: u64) -> ConnectionLimits {
        let most = descriptors::for_connections(descriptors);
        let total = self.total.unwrap_or(most);
        if total > most {
            log::warn!(
                "--max-connections is {total}, but the {descriptors} descriptors of this process leave only {most} for \
                 connections"
            );
        }
        let total = total.min(most);
        let Self { timeouts, keep_alive, .. } = self;
        let per_address = self.per_address.unwrap_or(total.div_ceil(4) * 3);
        let limits = ConnectionLimits { total, per_address, timeouts, keep_alive };
        log::debug!(
            "descriptors: {descriptors}; connections: at most {total}, and {} from one address",
            limits.per_address
        );
        limits
    }
}

/// How long a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionTimeouts {
    /// How long a client may take to send the first byte of its first request.
    pub first_byte: Duration,
    /// How long a client may take to send the rest of a head, or to complete a TLS handshake.
    pub rest: Duration,
    /// How long a client may take to read a chunk of replies.
    pub send: Duration,
    /// The shortest time that an idle connection is kept. The longest is twice this time.
    pub idle: Duration,
}

impl ConnectionTimeouts {
    /// The timeouts unless a Chihaya file sets others. Clients announce every few minutes; proxies reuse connections
    /// within seconds.
    pub const USUAL: Self = Self {
        first_byte: Duration::from_secs(5),
        rest: Duration::from_secs(10),
        send: Duration::from_secs(10),
        idle: Duration::from_secs(15),
    };
}

/// How many connections may be open at once, and what each may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The most connections of all clients together.
    pub total: usize,
    /// The most connections of one IPv4 address or one /64 of IPv6. Trusted proxies have no limit of their own.
    pub per_address: usize,
    /// How long clients may take.
    pub timeouts: ConnectionTimeouts,
    /// Whether a connection may carry several requests.
    pub keep_alive: bool,
}

impl ConnectionLimits {
    /// The limits at listeners for operators: a few browsers, scrapers and health checks. The descriptors are reserved,
    /// so clients cannot use them up.
    pub const OPERATORS: Self = Self::up_to(32);

    /// Limits that allow this many connections, with the usual timeouts.
    pub const fn up_to(total: usize) -> Self {
        Self { total, per_address: total, timeouts: ConnectionTimeouts::USUAL, keep_alive: true }
    }
}

/// The client that a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A client at this address, or in this /64.
    Client(IpAddr),
    /// A trusted proxy. Its connections belong to many clients.
    Proxy,
}

impl Holder {
    /// The client at this address.
    pub fn client(ip: IpAddr) -> Self {
        Self::Client(match ip.to_canonical() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}
