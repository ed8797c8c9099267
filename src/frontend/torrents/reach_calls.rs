//! The call by which a host learns whether other hosts can connect to it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::{bad_body, busy, with_json};
use crate::torrents::SharedBlobs;

/// How long it may take to connect. A host of the same network answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The port at which the host accepts BitTorrent connections.
#[derive(Debug, Deserialize)]
struct ReachBody {
    port: NonZeroU16,
}

/// Connects to the given port of the host that asks, and sends nothing. Only the request's source address is used, so
/// no host can make the tracker connect to another host.
pub(super) async fn check(blobs: &SharedBlobs, ip: IpAddr, body: &[u8]) -> HttpResponse {
    let port = match serde_json::from_slice(body) {
        Ok(ReachBody { port }) => port.get(),
        Err(error) => {
            return bad_body(
                blobs,
                format_args!("the body is wrong, expected JSON such as {{\"port\": 6881}}: {error}"),
            );
        }
    };
    let Ok(_dial) = blobs.dial(ip) else { return busy(blobs) };
    let address = SocketAddr::new(ip, port);
    let reached = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            log::debug!("cannot connect to {address}: {error}");
            false
        }
        Err(_) => {
            log::debug!("cannot connect to {address} within {CONNECT_TIMEOUT:?}");
            false
        }
    };
    if reached {
        blobs.metrics.reached.inc()
    } else {
        blobs.metrics.unreached.inc()
    };
    with_json(blobs, StatusCode::OK, &json!({ "address": address.to_string(), "reached": reached }))
}
