//! What all request handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use actix_web::http::header::HttpDate;
use certificate::TlsServer;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tracker_protocol::Protocol::{Http, Udp};
use tracker_protocol::route::{Route, names_torrent, route};

use super::chihaya_pages::ChihayaPages;
use super::client_address::ClientAddress;
use super::connections::Connections;
use super::history::{History, Snapshot};
use super::hosts::Hosts;
use super::listen::Audience;
use super::routes::TrackerPaths;
use super::settings_in_force::SettingInForce;
use super::torrents::TorrentsPart;
use super::udp::connection_ids::ConnectionIds;
use crate::access::Access;
use crate::clock;
use crate::metrics::{LogSample, Metrics};
use crate::share::{Alone, ShareState};
use crate::tracker::Tracker;

/// What all request handlers share. There is one per process.
#[derive(Debug)]
pub struct Context {
    /// The tracker.
    pub tracker: Tracker,
    /// Whether this instance hears the others; `None` if it keeps its swarms to itself.
    pub share: Option<Arc<ShareState>>,
    /// The access rules; `None` if every client may announce.
    pub access: Option<Arc<Access>>,
    /// The handles of all metrics.
    pub metrics: Metrics,
    /// The metrics that `/metrics` exposes; `None` if `/metrics` is switched off.
    pub registry: Option<Registry>,
    /// The paths of announces and scrapes; `None` if they are the usual ones.
    pub routes: Option<TrackerPaths>,
    /// Finds the addresses of clients.
    pub client_address: ClientAddress,
    /// The pages of Chihaya; `None` if the tracker is not configured by a Chihaya file.
    pub chihaya: Option<ChihayaPages>,
    /// The addresses that the process listens on, and whom they serve.
    pub listening: Vec<(String, Audience)>,
    /// The settings in force.
    pub settings: Vec<SettingInForce>,
    /// The main figures of the last day.
    pub history: History,
    /// Reads the state of the log.
    pub log: fn() -> LogSample,
    /// When the process began to serve.
    pub start: Instant,
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
    /// The open connections at operators' own listeners, if there are any. They have a limit of their own, which
    /// clients cannot use up.
    pub operator_connections: Option<Connections>,
    /// TLS; `None` if no listener uses it.
    pub tls: Option<TlsServer>,
    /// Torrent files and leases of shared blobs; `None` without `--torrents`.
    pub torrents: Option<TorrentsPart>,
}

impl Context {
    /// Current faults and their remedies, for the operator, as plain sentences.
    pub fn notices(&self) -> Vec<String> {
        let access = self.access.as_ref().and_then(|access| access.notice());
        self.tracker.notices().into_iter().chain(access).chain(self.alone_notice()).collect()
    }

    /// Says that the instance does not hear the others, if that is so.
    pub fn alone_notice(&self) -> Option<String> {
        let Alone { since, why } = self.share.as_ref()?.alone()?;
        Some(format!("alone since {}: {why}", HttpDate::from(since)))
    }

    /// Whether a balancer may send clients: the instance is not stopping, and knows what the other instances know.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.share.as_ref().is_none_or(|share| share.is_ready(self.uptime()))
    }

    /// How long the process has been serving.
    pub fn uptime(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }

    /// Records the main figures if there are pages that show them. Must be called once a second.
    pub fn record_history(&self) {
        if self.registry.is_none() {
            return;
        }
        self.history.record(self.uptime().as_secs(), || self.snapshot());
    }

    #[expect(clippy::cast_precision_loss, reason = "a chart shows three digits")]
    fn snapshot(&self) -> Snapshot {
        let Metrics { announces, scrapes, udp, connections, .. } = &self.metrics;
        let shed = [
            &connections.shed_full,
            &connections.shed_address,
            &connections.shed_descriptors,
            &connections.shed_memory,
        ];
        let totals = self.tracker.totals();
        let [v4, v6] = totals.peers.map(|[seeds, others]| (seeds + others) as f32);
        let seeds: i64 = totals.peers.iter().map(|[seeds, _]| seeds).sum();
        Snapshot {
            counters: [
                announces.answered(),
                announces.refused(),
                scrapes.answered(),
                scrapes.refused(),
                udp.connects.get(),
                shed.map(Counter::get).iter().sum(),
                announces.over(Http).answered.get(),
                announces.over(Http).refused.get(),
                scrapes.over(Http).answered.get(),
                scrapes.over(Http).refused.get(),
                announces.over(Udp).answered.get(),
                announces.over(Udp).refused.get(),
                scrapes.over(Udp).answered.get(),
                scrapes.over(Udp).refused.get(),
            ],
            gauges: [
                v4,
                v6,
                seeds as f32,
                totals.swarms as f32,
                connections.open.get() as f32,
                self.notices().len() as f32,
            ],
            durations: self.metrics.announce_durations(),
        }
    }

    /// The resource that a path names.
    pub fn route(&self, path: &[u8]) -> Route {
        self.routes.as_ref().map_or_else(|| route(path), |paths| paths.route(path))
    }

    /// Whether a request with this query, at an unknown path, is an announce to a wrong path. Always false if the
    /// operator has configured the paths: a reply would disclose them.
    pub fn is_stray(&self, query: &[u8]) -> bool {
        self.routes.is_none() && names_torrent(query)
    }

    /// Whether operators have listeners of their own.
    pub fn has_admin_listener(&self) -> bool {
        self.operator_connections.is_some()
    }

    /// Returns the [`Connections`] that count the connections of a listener for this audience.
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
