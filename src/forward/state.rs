//! The state that the workers and the engine share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::context::ExchangeContext;
use super::elsewhere::PeersElsewhere;
use super::forwarder::{Exchange, Forwarder};
use super::options::{DEFAULT_TIMEOUT, ForwardOptions};
use super::own_peers::OwnPeers;
use super::session::ExchangeOutcome;
use super::set::ForwarderSet;
use super::torrent::{Torrent, UNIT};
use crate::cache::TorrentCache;
use crate::clock;
use crate::metrics::Metrics;
use tracker_protocol::upstream::UpstreamReply;

/// The most bytes for all torrents and lists. Beyond this, torrents are evicted: first from the source that added the
/// most.
const MAX_MEMORY: u32 = 256 * 1024 * 1024;

/// What the workers and the engine share.
#[derive(Debug)]
pub(super) struct ForwardState {
    pub(super) set: RwLock<ForwarderSet>,
    pub(super) torrents: TorrentCache<Torrent>,
    /// Sends new forwarders to the engine.
    new_forwarders: mpsc::UnboundedSender<Arc<Forwarder>>,
    /// The longest time that an announce waits for lists.
    pub(super) deadline: Duration,
    pub(super) peer_age: Duration,
    /// The timeout of an exchange if the forwarder's entry names no timeout.
    pub(super) timeout: Duration,
    pub(super) context: Arc<ExchangeContext>,
    /// Notified when a forwarder is no longer configured.
    pub(super) retired: Notify,
    pub(super) metrics: Metrics,
    /// The names of the other instances in `Via`.
    pub(super) names_elsewhere: RwLock<Vec<String>>,
    /// The peers of all instances, if several instances share their swarms.
    pub(super) elsewhere: OnceLock<PeersElsewhere>,
}

impl ForwardState {
    /// Returns a state without forwarders, and a receiver from which the engine gets each new forwarder.
    pub(super) fn new(
        options: &ForwardOptions,
        metrics: &Metrics,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Arc<Forwarder>>) {
        let (new_forwarders, received) = mpsc::unbounded_channel();
        let delayed = metrics.forward_delayed.clone();
        let shared = Self {
            set: RwLock::default(),
            torrents: TorrentCache::new(
                MAX_MEMORY / UNIT,
                // How long a torrent without announces is kept. In this time, its silent clients expire and get their
                // `stopped`.
                options.peer_age * 2 + Duration::from_mins(1),
            ),
            new_forwarders,
            deadline: options.deadline,
            peer_age: options.peer_age,
            timeout: DEFAULT_TIMEOUT.max(options.deadline),
            context: Arc::new(ExchangeContext::new(options.max_exchanges, options.proxies.clone(), delayed)),
            retired: Notify::new(),
            metrics: metrics.clone(),
            names_elsewhere: RwLock::default(),
            elsewhere: OnceLock::new(),
        };
        (Arc::new(shared), received)
    }

    /// Makes the engine carry out this forwarder's exchanges.
    pub(super) fn start(&self, forwarder: Forwarder) -> Arc<Forwarder> {
        let forwarder = Arc::new(forwarder);
        // Fails only when the engine has stopped, which begins no exchange.
        let _ = self.new_forwarders.send(Arc::clone(&forwarder));
        forwarder
    }

    /// Queues an exchange at its forwarder.
    pub(super) fn send(&self, exchange: Exchange) {
        let forwarder = Arc::clone(&exchange.forwarder);
        if let Some(dropped) = forwarder.enqueue(exchange) {
            self.end(&dropped, ExchangeOutcome::Lost, None, clock::now());
        }
    }

    /// Records that an exchange has ended, or was dropped before it began. Queues the exchanges that are due next.
    /// `answer` is the upstream's reply, with those of our own clients that the reply may list.
    pub(super) fn end(
        &self,
        exchange: &Exchange,
        outcome: ExchangeOutcome,
        answer: Option<(UpstreamReply, OwnPeers)>,
        now: Instant,
    ) {
        let ended = |torrent: &mut Torrent| torrent.exchange_ended(exchange, outcome, answer, now);
        // If the torrent has been evicted, no exchange is due next.
        let next = self.torrents.with_known(exchange.request.info_hash, None, ended);
        next.into_iter().flatten().for_each(|exchange| self.send(exchange));
    }
}
