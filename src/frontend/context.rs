//! What all request handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tracker_protocol::route::{Route, names_torrent, route};

use super::chihaya_pages::ChihayaPages;
use super::client_address::ClientAddress;
use super::connections::Connections;
use super::hosts::Hosts;
use super::listen::Audience;
use super::routes::TrackerPaths;
use super::tls::TlsServer;
use super::udp::connection_id::ConnectionIds;
use crate::access::Access;
use crate::metrics::Metrics;
use crate::tracker::Tracker;

/// What all request handlers share. There is one per process.
#[derive(Debug)]
pub struct Context {
    /// The tracker.
    pub tracker: Tracker,
    /// Who may announce; `None` if everybody may.
    pub access: Option<Arc<Access>>,
    /// The handles of all metrics.
    pub metrics: Metrics,
    /// The metrics that `/metrics` exposes; `None` if that is switched off.
    pub registry: Option<Registry>,
    /// The paths of announces and scrapes; `None` if they are the usual ones.
    pub routes: Option<TrackerPaths>,
    /// Finds the addresses of clients.
    pub client_address: ClientAddress,
    /// The pages of Chihaya; `None` if the tracker is not configured by a Chihaya file.
    pub chihaya: Option<ChihayaPages>,
    /// The host names under which the operator's pages are served.
    pub hosts: Hosts,
    /// Whether a stop signal has arrived.
    pub draining: AtomicBool,
    /// How long requests under way may take to finish after a stop signal.
    pub drain: Duration,
    /// Makes and verifies the connection ids of UDP.
    pub connection_ids: ConnectionIds,
    /// The open connections of all workers.
    pub connections: Connections,
    /// The open connections of operators, if operators have listeners of their own. These connections have a separate
    /// limit, which clients cannot use up.
    pub operator_connections: Option<Connections>,
    /// TLS; `None` if no listener uses it.
    pub tls: Option<TlsServer>,
}

impl Context {
    /// Current faults and their remedies, for the operator, as sentences in plain text.
    pub fn notices(&self) -> Vec<String> {
        let access = self.access.as_ref().and_then(|access| access.notice());
        self.tracker.notices().into_iter().chain(access).collect()
    }

    /// The resource that a path names.
    pub fn route(&self, path: &[u8]) -> Route {
        self.routes.as_ref().map_or_else(|| route(path), |paths| paths.route(path))
    }

    /// Whether a request with this query, at an unknown path, is an announce that was sent to a wrong path. Always
    /// false if the operator has configured the paths, because the reply must not disclose them.
    pub fn is_stray(&self, query: &[u8]) -> bool {
        self.routes.is_none() && names_torrent(query)
    }

    /// Whether operators have listeners of their own.
    pub fn has_admin_listener(&self) -> bool {
        self.operator_connections.is_some()
    }

    /// Where the connections of a listener for this audience are counted.
    pub fn connections_of(&self, audience: Audience) -> &Connections {
        match (audience, &self.operator_connections) {
            (Audience::Operators, Some(own)) => own,
            _ => &self.connections,
        }
    }

    /// Whether a stop signal has arrived.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}
