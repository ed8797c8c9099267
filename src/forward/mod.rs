//! Upstream trackers: each is told of our peers what it should know and no more, and the peers that it gives are kept for
//! all clients of the torrent.
//!
//! # How an announce goes upstream
//! A *session* (`session`) is what one forwarder knows of one peer; it says what is due. What is due becomes an *exchange*,
//! if the forwarder's *circuit* (`circuit`) is for it, and goes to the [`Engine`], which carries out all exchanges on a
//! thread of its own. What comes back is kept in lists (`list`) by torrent (`torrent`), from which every client is
//! served at once. A client waits only when a forwarder is being asked of which there is no list yet, and no longer
//! than the deadline.
//!
//! One forwarder's failure is its own: it is counted, logged, and changes nothing of what the others give.

mod body;
mod circuit;
mod client;
mod connect;
mod context;
mod engine;
mod error;
mod forwarder;
mod health;
mod http;
mod interleave;
mod list;
mod options;
mod own;
mod pending;
mod probe;
mod proxy;
mod queue;
mod reply;
mod resolve;
mod session;
#[cfg(test)]
pub(crate) mod simulation;
mod status;
mod torrent;
mod trust;
mod udp;
mod upstream;
mod uri;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use engine::Engine;
pub use error::ForwardError;
pub use interleave::Interleaved;
pub use list::UpstreamPeers;
pub use options::{AnnouncedIp, ForwardOptions, ForwarderOptions, Torrents, check};
pub use pending::{PendingLists, UpstreamPeerSet};
pub use probe::{Probed, probe};
pub use proxy::Proxies;
pub use status::{ForwarderStatus, LastError};
pub use trust::Authorities;
pub use uri::host_and_port;

use self::context::ExchangeContext;
use self::forwarder::{Exchange, Forwarder};
use self::http::PassedHeaders;
use self::session::ExchangeOutcome;
use self::torrent::{StartedExchanges, Torrent, UNIT};
use self::upstream::{Upstream, UpstreamAnswer};
use crate::answer::Answer;
use crate::cache::TorrentCache;
use crate::clock;
use crate::metrics::{ForwardSample, Metrics, WaitMetrics};
use tracker_protocol::AnnounceRequest;
use tracker_protocol::via::Via;

/// What we call ourselves before upstream trackers and proxies.
const USER_AGENT: &str = concat!("retracker/", env!("CARGO_PKG_VERSION"));

/// An exchange goes on for so long in the background unless an entry says otherwise, or the deadline is longer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of upstream trackers takes no more than this, in bytes. Past it, torrents give way, those of
/// the source that has brought most of them first.
const MAX_MEMORY: u32 = 256 * 1024 * 1024;

/// An announce that has been passed on by so many is not passed on further.
const MAX_HOPS: usize = 4;

/// The configured upstream trackers.
#[derive(Debug)]
pub struct Forwarders {
    shared: Arc<Shared>,
    /// Our name in `Via`. Random, so that it is nobody else's, and new with every start.
    name: String,
    deadline: Duration,
    waits: WaitMetrics,
    /// `stopped` announces that upstream trackers are still to get.
    open_stops: TaskTracker,
}

/// What workers and engine have in common.
#[derive(Debug)]
struct Shared {
    set: RwLock<Set>,
    torrents: TorrentCache<Torrent>,
    /// To the engine: forwarders that are new.
    new: mpsc::UnboundedSender<Arc<Forwarder>>,
    deadline: Duration,
    peer_age: Duration,
    /// How long an exchange may take whose entry does not say.
    timeout: Duration,
    context: Arc<ExchangeContext>,
    /// Told when a forwarder is no longer configured.
    retired: Notify,
    metrics: Metrics,
}

/// The forwarders that are configured.
#[derive(Debug, Default)]
struct Set {
    generation: Generation,
    forwarders: Vec<Arc<Forwarder>>,
}

/// Changes with every change of the configuration, so that nobody takes what was said of other forwarders for true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Generation(u64);

/// One announce, as far as upstream trackers are concerned.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamAnnounce<'a> {
    /// The client's announce.
    pub request: &'a AnnounceRequest,
    /// The address that the client is recorded under here.
    pub ip: IpAddr,
    /// The address under which clients outside are told of it: what an upstream is told that is told addresses.
    pub outside: IpAddr,
    /// Whether `ip` is only claimed, with `ip=`, and not the one that the announce came from.
    pub is_claim: bool,
    /// The address that the announce came from.
    pub source: IpAddr,
    /// The client's `User-Agent`, which goes along.
    pub user_agent: Option<&'a [u8]>,
    /// By whom the announce has been passed on to us.
    pub via: &'a Via,
}

impl Forwarders {
    /// Prepares the forwarders, and the engine that must run for them. The error is a sentence that names the entry.
    pub fn new(options: &ForwardOptions, metrics: &Metrics) -> Result<(Self, Engine), String> {
        let (forwarders, engine) = Self::none(options, metrics);
        forwarders.replace(&options.forwarders)?;
        Ok((forwarders, engine))
    }

    fn none(options: &ForwardOptions, metrics: &Metrics) -> (Self, Engine) {
        let (new, received) = mpsc::unbounded_channel();
        let shared = Shared {
            set: RwLock::default(),
            torrents: TorrentCache::new(
                MAX_MEMORY / UNIT,
                // Who has gone silent is signed off before its torrent goes.
                options.peer_age * 2 + Duration::from_mins(1),
            ),
            new,
            deadline: options.deadline,
            peer_age: options.peer_age,
            timeout: DEFAULT_TIMEOUT.max(options.deadline),
            context: Arc::new(ExchangeContext::new(
                options.max_exchanges,
                options.proxies.clone(),
                metrics.forward_delayed.clone(),
            )),
            retired: Notify::new(),
            metrics: metrics.clone(),
        };
        let shared = Arc::new(shared);
        let forwarders = Self {
            shared: Arc::clone(&shared),
            name: format!("retracker-{:016x}", fastrand::u64(..)),
            deadline: options.deadline,
            waits: metrics.waits.clone(),
            open_stops: TaskTracker::new(),
        };
        (forwarders, Engine { shared, forwarders: received })
    }

    /// Puts these in the place of those that there were. An entry in which nothing has changed that its upstream sees keeps
    /// its sessions, its lists and its circuit; those that are gone are told that our peers are. On an error nothing
    /// changes.
    pub fn replace(&self, entries: &[ForwarderOptions]) -> Result<(), String> {
        let Shared { timeout, metrics, .. } = &*self.shared;
        // Everything that can go wrong before anything changes.
        let upstreams = entries.iter().map(|entry| {
            let upstream = Upstream::new(entry, &self.shared.context);
            upstream.map_err(|error| format!("forwarder {}: {error}", entry.name))
        });
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        for (entry, upstream) in entries.iter().zip(&upstreams) {
            if let Some(way) = upstream.way() {
                log::info!("forwarder {}: {way}", entry.name);
            }
        }
        let mut old = self.shared.set.read().forwarders.clone();
        let mut names = BTreeSet::new();
        let mut new = Vec::with_capacity(entries.len());
        for (entry, upstream) in entries.iter().zip(upstreams) {
            if !names.insert(&entry.name) {
                log::warn!("two forwarders are called {}: give them a name each to tell them apart", entry.name);
            }
            let known = old.iter().position(|forwarder| forwarder.takes_over(entry, *timeout, metrics));
            let forwarder = known.map(|at| old.swap_remove(at));
            let made = || self.shared.start(Forwarder::new(entry, *timeout, upstream, metrics));
            new.push(forwarder.unwrap_or_else(made));
        }
        self.shared.set.write().put(new);
        old.iter().for_each(|forwarder| forwarder.retire());
        self.shared.retired.notify_one();
        Ok(())
    }

    /// Takes note of where this process listens: upstream trackers can tell of that, but it is no peer.
    pub fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.shared.context.listens_at(addresses);
    }

    /// Tells the forwarders what they are to know of a peer that is here, and gives the peers that they have given. Only if
    /// one that is asked now has given none yet is there something to wait for.
    pub fn announce(&self, announce: &UpstreamAnnounce<'_>) -> Answer<UpstreamPeerSet, PendingLists> {
        let StartedExchanges { known: lists, exchanges, waits, pending } = self.begin(announce);
        exchanges.into_iter().for_each(|exchange| self.shared.send(exchange));
        let gathered = UpstreamPeerSet { lists, pending };
        if waits.is_empty() {
            self.waits.saved.inc();
            return Answer::Ready(gathered);
        }
        let deadline = Instant::now() + self.deadline;
        Answer::Pending(PendingLists { gathered, waits, deadline, metrics: self.waits.clone() })
    }

    fn begin(&self, announce: &UpstreamAnnounce<'_>) -> StartedExchanges {
        let now = clock::now();
        let set = self.shared.set.read();
        let Set { generation, forwarders } = &*set;
        let request = announce.request;
        if !forwarders.iter().any(|forwarder| forwarder.serves(request.info_hash)) {
            return StartedExchanges::default();
        }
        let along = || PassedHeaders::new(announce.user_agent, &announce.via.and(&self.name));
        let torrents = &self.shared.torrents;
        if announce.via.hops() < MAX_HOPS {
            torrents.with(request.info_hash, announce.source, now, |torrent| {
                torrent.announced(*generation, forwarders, announce, along, now)
            })
        } else {
            let downloads = request.role().downloads();
            let known = |torrent: &mut Torrent| torrent.known(*generation, forwarders, downloads, now);
            let known = torrents.with_known(request.info_hash, Some(now), known).flatten();
            StartedExchanges { known: known.into_iter().collect(), ..StartedExchanges::default() }
        }
    }

    /// Tells the forwarders that a peer has left, without anybody waiting for that.
    pub fn leave(&self, announce: &UpstreamAnnounce<'_>) {
        let now = clock::now();
        let left = |torrent: &mut Torrent| torrent.left(announce, &self.open_stops, now);
        let exchanges = self.shared.torrents.with_known(announce.request.info_hash, Some(now), left);
        exchanges.into_iter().flatten().for_each(|exchange| self.shared.send(exchange));
    }

    /// Whether an announce is one that we have passed on, come back to us.
    pub fn is_loop(&self, via: &Via) -> bool {
        via.names(&self.name)
    }

    /// Done when what clients have said last has been told. What they say later is not waited for.
    pub async fn flush(&self) {
        self.open_stops.close();
        self.open_stops.wait().await;
    }

    /// How the forwarders do, in the order of configuration.
    pub fn status(&self) -> Vec<ForwarderStatus> {
        let now = clock::now();
        self.shared.set.read().forwarders.iter().map(|forwarder| forwarder.status(now)).collect()
    }

    /// Reads what the metrics tell at the moment of a scrape.
    pub fn sampler(&self) -> impl Fn() -> ForwardSample + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || ForwardSample {
            forwarders: shared.set.read().forwarders.iter().map(|forwarder| forwarder.sample()).collect(),
            torrents: shared.torrents.len(),
            evicted: shared.torrents.evicted().unsigned_abs(),
        }
    }
}

impl Set {
    fn put(&mut self, forwarders: Vec<Arc<Forwarder>>) {
        *self = Self { generation: Generation(self.generation.0 + 1), forwarders };
    }
}

impl Shared {
    /// Has the engine carry out what this forwarder is asked.
    fn start(&self, forwarder: Forwarder) -> Arc<Forwarder> {
        let forwarder = Arc::new(forwarder);
        // Fails only when the engine has stopped; then nothing is told any more.
        let _ = self.new.send(Arc::clone(&forwarder));
        forwarder
    }

    /// Has an exchange wait for its turn.
    fn send(&self, exchange: Exchange) {
        let forwarder = Arc::clone(&exchange.forwarder);
        if let Some(dropped) = forwarder.wait_for_turn(exchange) {
            self.end(&dropped, ExchangeOutcome::Lost, None, clock::now());
        }
    }

    /// An exchange has ended, or is not begun. What has to follow it waits for its turn.
    fn end(
        &self,
        exchange: &Exchange,
        heard: ExchangeOutcome,
        answer: Option<(&UpstreamAnswer, &[IpAddr])>,
        now: Instant,
    ) {
        let ended = |torrent: &mut Torrent| torrent.ended(exchange, heard, answer, now);
        // In a torrent that has been forgotten there is nothing to follow.
        let next = self.torrents.with_known(exchange.request.info_hash, None, ended);
        next.into_iter().flatten().for_each(|exchange| self.send(exchange));
    }
}
