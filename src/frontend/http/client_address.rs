//! Where a client's address is found.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Once;

use super::headers::Headers;
use crate::metrics::Metrics;

/// The rule for the address of a client.
#[derive(Debug)]
pub enum ClientAddress {
    /// The other end of the socket.
    Socket,
    /// The `X-Real-IP` header that a proxy sets, as with the Go retracker: it is believed whoever sends it, so that clients
    /// must not reach the tracker but through the proxy. `-x`, `X_REAL_IP`.
    XRealIp {
        /// That a request came without the header is logged once.
        told: Once,
    },
}

impl ClientAddress {
    /// `-x` or not.
    pub fn new(x_real_ip: bool) -> Self {
        if x_real_ip { Self::XRealIp { told: Once::new() } } else { Self::Socket }
    }

    /// The canonical address of who sent a request with these headers over a socket with that other end; a Unix socket has
    /// none. Without a usable header, the socket's.
    pub fn of(&self, socket: Option<IpAddr>, headers: &impl Headers, metrics: &Metrics) -> IpAddr {
        // Who comes through a Unix socket is on this host.
        let socket = socket.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ip| ip.to_canonical());
        let Self::XRealIp { told } = self else { return socket };
        let header = headers.first("x-real-ip");
        let text = header.and_then(|value| std::str::from_utf8(value).ok());
        let address = text.and_then(|text| text.trim().parse::<IpAddr>().ok());
        address.map_or_else(|| {
            metrics.real_ip_missing.inc();
            told.call_once(|| {
                let found = header.map_or("no X-Real-IP header".into(), |value| {
                    format!("the X-Real-IP header \"{}\"", value.escape_ascii())
                });
                log::warn!(
                    "-x is set, but a request from {socket} came with {found}, so that its socket's address was \
                     taken; have the proxy set the header (nginx: proxy_set_header X-Real-IP $remote_addr). This is said once"
                );
            });
            socket
        }, |ip| ip.to_canonical())
    }
}
