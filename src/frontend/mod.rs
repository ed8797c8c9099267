//! Sockets in, vocabulary through, bytes out. A frontend knows sockets and [`Tracker`]; what an announce means is decided
//! there.

pub mod admin;
mod announce;
pub mod client_address;
pub mod connections;
pub mod descriptors;
pub mod headers;
pub mod hosts;
pub mod http;
pub mod listen;
pub mod proxied;
pub mod serve;
pub mod shutdown;
pub mod udp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use actix_web::{Route, guard, web};
use prometheus_client::registry::Registry;

use crate::metrics::Metrics;
use crate::tracker::Tracker;

use self::client_address::ClientAddress;
use self::connections::Connections;
use self::hosts::Hosts;

/// What every request handler may use. One per process.
#[derive(Debug)]
pub struct Context {
    /// The tracker.
    pub tracker: Tracker,
    /// What is counted.
    pub metrics: Metrics,
    /// What `/metrics` exposes; none when it is switched off.
    pub registry: Option<Registry>,
    /// Where a client's address is found.
    pub client_address: ClientAddress,
    /// Under which names the operator's pages are served.
    pub hosts: Hosts,
    /// Set when the process has been told to stop.
    pub draining: AtomicBool,
    /// Connections that are open, of all workers together.
    pub connections: Connections,
}

impl Context {
    /// Whether the process has been told to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

/// A route for GET, and for HEAD, which is answered like GET without the body.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// All routes but those of announces and scrapes, as every worker serves them.
pub fn routes(context: &Arc<Context>, config: &mut web::ServiceConfig) {
    config.app_data(web::Data::from(Arc::clone(context)));
    admin::routes(context, config);
}
