//! Where a client's address is found.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;

use crate::metrics::Metrics;

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

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

    /// The canonical address of who sent this request. Without a usable header, the socket's.
    pub fn of(&self, request: &HttpRequest, metrics: &Metrics) -> IpAddr {
        // Who comes through a Unix socket is on this host.
        let socket =
            request.peer_addr().as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), SocketAddr::ip).to_canonical();
        let Self::XRealIp { told } = self else { return socket };
        let header = request.headers().get(X_REAL_IP);
        let address = header.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse::<IpAddr>().ok());
        address.map_or_else(|| {
            metrics.real_ip_missing.inc();
            told.call_once(|| {
                let found = header.map_or("no X-Real-IP header".into(), |value| {
                    format!("the X-Real-IP header \"{}\"", value.as_bytes().escape_ascii())
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
