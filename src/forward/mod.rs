//! Upstream trackers. Each client is announced to every upstream once, then at the upstream's interval. All clients of
//! a torrent share the returned peers.
//!
//! # How an announce goes upstream
//! A *session* (`session`) records what one forwarder knows of one client, and decides which announce is due. A due
//! announce becomes an *exchange*, if the forwarder's *circuit* (`circuit`) admits it. The [`ForwardEngine`] carries
//! out all exchanges on its own thread. The returned peers are kept as lists (`list`) by torrent (`torrent`), from
//! which every announce is answered. An announce waits, until its deadline, only for forwarders without a list for
//! clients of its role: clients that download, or clients that do not.
//!
//! Forwarders fail independently: a failure leaves the lists of the other forwarders alone.

mod announce;
mod body;
mod circuit;
mod client;
mod context;
mod elsewhere;
mod engine;
mod error;
mod exchange;
mod fetch;
mod forwarder;
mod headers;
mod health;
mod http;
mod interleave;
mod list;
mod options;
mod other_instances;
mod own;
mod own_peers;
mod pending;
mod probe;
mod proxy;
mod queue;
mod resolve;
mod session;
mod set;
#[cfg(test)]
pub(crate) mod simulation;
mod state;
mod status;
#[cfg(test)]
mod test_tls;
mod tls;
mod torrent;
mod udp;
mod upstream;
mod uri;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use announce::UpstreamAnnounce;
pub use elsewhere::{ClientElsewhere, ClientNews, VisitPeers};
pub use engine::ForwardEngine;
pub use error::ForwardError;
pub use fetch::fetch;
pub use interleave::Interleaved;
pub use list::UpstreamPeers;
pub use options::{AnnouncedIp, ForwardOptions, ForwarderOptions, Torrents};
pub use other_instances::OtherInstances;
pub use pending::{PendingLists, UpstreamPeerSet};
pub use probe::{Probed, probe};
pub use proxy::UpstreamProxies;
pub use status::{ForwardLimits, ForwarderStatus, LastError, LimitUse, TorrentAtForwarder, UpstreamTorrent};
pub use upstream::check;
pub use uri::host_and_port;

use self::forwarder::Forwarder;
use self::headers::PassedHeaders;
use self::queue::MAX_WAITING;
use self::state::ForwardState;
use self::torrent::{StartedExchanges, Torrent, UNIT};
use self::upstream::UpstreamClient;
use crate::answer::Answer;
use crate::clock;
use crate::metrics::{ForwardSample, Metrics, WaitMetrics};
use tracker_protocol::InfoHash;
use tracker_protocol::via::Via;

/// The most retrackers that may pass an announce on, one after the other.
const MAX_HOPS: usize = 4;

/// The configured upstream trackers.
#[derive(Debug)]
pub struct Forwarders {
    shared: Arc<ForwardState>,
    /// Our name in `Via`, random at each start, so that no other retracker has it.
    name: String,
    deadline: Duration,
    waits: WaitMetrics,
    /// Counts the `stopped` announces that have still to be sent.
    open_stops: TaskTracker,
}

impl Forwarders {
    /// Creates the forwarders, and the engine, which must run. The error is a sentence that names the entry.
    pub fn new(options: &ForwardOptions, metrics: &Metrics) -> Result<(Self, ForwardEngine), String> {
        let (forwarders, engine) = Self::none(options, metrics);
        forwarders.replace(&options.forwarders)?;
        Ok((forwarders, engine))
    }

    fn none(options: &ForwardOptions, metrics: &Metrics) -> (Self, ForwardEngine) {
        let (shared, received) = ForwardState::new(options, metrics);
        let forwarders = Self {
            shared: Arc::clone(&shared),
            name: format!("retracker-{:016x}", fastrand::u64(..)),
            deadline: options.deadline,
            waits: metrics.waits.clone(),
            open_stops: TaskTracker::new(),
        };
        (forwarders, ForwardEngine { shared, forwarders: received })
    }

    /// Creates forwarders for these upstream trackers, each with its name. The engine must run.
    #[cfg(test)]
    pub(crate) fn simulated(
        upstreams: &[(&str, &simulation::SimulatedUpstream)],
        options: &ForwardOptions,
        metrics: &Metrics,
    ) -> (Self, ForwardEngine) {
        let (forwarders, engine) = Self::none(options, metrics);
        let ForwardState { timeout, .. } = *forwarders.shared;
        let forwarder = |(name, upstream): &(&str, &simulation::SimulatedUpstream)| {
            let entry = ForwarderOptions {
                name: (*name).to_owned(),
                uri: "http://192.0.2.1/announce".parse().unwrap(),
                ip: AnnouncedIp::AsSeen,
                host: None,
                timeout: None,
                numwant: None,
                rate: None,
                ca: None,
                torrents: Torrents::All,
            };
            let upstream = UpstreamClient::simulated((*upstream).clone());
            forwarders.shared.start(Forwarder::new(&entry, timeout, upstream, metrics))
        };
        forwarders.shared.set.write().replace(upstreams.iter().map(forwarder).collect());
        (forwarders, engine)
    }

    /// Replaces the forwarders. An entry keeps its sessions, lists and circuit unless its upstream would see a
    /// difference. Removed forwarders get a `stopped` for each of our clients. On an error, the old forwarders stay.
    pub fn replace(&self, entries: &[ForwarderOptions]) -> Result<(), String> {
        let ForwardState { timeout, metrics, .. } = &*self.shared;
        // Before the first change, so that an error changes no forwarder.
        let upstreams = entries.iter().map(|entry| {
            let upstream = UpstreamClient::new(entry, &self.shared.context);
            upstream.map_err(|error| format!("forwarder {}: {error}", entry.name))
        });
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        for (entry, upstream) in entries.iter().zip(&upstreams) {
            if let Some(note) = upstream.proxy_note() {
                log::info!("forwarder {}: {note}", entry.name);
            }
        }
        let mut old = self.shared.set.read().forwarders.clone();
        let mut names = BTreeSet::new();
        let mut new = Vec::with_capacity(entries.len());
        for (entry, upstream) in entries.iter().zip(upstreams) {
            if !names.insert(&entry.name) {
                log::warn!("two forwarders are called {}: give each a name of its own to tell them apart", entry.name);
            }
            let known = old.iter().position(|forwarder| forwarder.adopts(entry, *timeout, metrics));
            let forwarder = known.map(|at| old.swap_remove(at));
            let made = || self.shared.start(Forwarder::new(entry, *timeout, upstream, metrics));
            new.push(forwarder.unwrap_or_else(made));
        }
        self.shared.set.write().replace(new);
        old.iter().for_each(|forwarder| forwarder.retire());
        self.shared.retired.notify_one();
        Ok(())
    }

    /// Returns what each forwarder knows of a torrent, for the operator. `downloads` chooses the lists for clients that
    /// download. Changes nothing and asks no upstream.
    pub fn explain(&self, info_hash: InfoHash, downloads: bool) -> Vec<TorrentAtForwarder> {
        let now = clock::now();
        let explain = |forwarder: &Arc<Forwarder>| TorrentAtForwarder {
            forwarder: forwarder.status(now),
            is_hidden: forwarder.hidden_since(info_hash).is_some(),
            torrent: self
                .shared
                .torrents
                .with_known(info_hash, None, |torrent| torrent.explain(forwarder, downloads, now)),
        };
        self.shared.set.read().forwarders.iter().map(explain).collect()
    }

    /// Sets the addresses this process listens on. Upstream trackers may list them, but this process is no peer.
    pub fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.shared.context.listens_at(addresses);
    }

    /// Announces a client to each forwarder where that is due, and returns the forwarders' lists. The answer is pending
    /// only if a forwarder has no good list for the client's role, and an exchange that begins now should bring one.
    pub fn announce(&self, announce: &UpstreamAnnounce<'_>) -> Answer<UpstreamPeerSet, PendingLists> {
        let StartedExchanges { lists, exchanges, waits, pending } = self.begin(announce);
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
        let request = announce.request;
        if !set.forwarders.iter().any(|forwarder| forwarder.is_told(announce)) {
            return StartedExchanges::default();
        }
        let headers = || PassedHeaders::new(announce.user_agent, &announce.via.and(&self.name));
        let torrents = &self.shared.torrents;
        if announce.via.hops() < MAX_HOPS {
            torrents
                .with(request.info_hash, announce.source, now, |torrent| torrent.announce(&set, announce, headers, now))
        } else {
            let downloads = request.role().downloads();
            let combined = |torrent: &mut Torrent| torrent.combined_list(&set, downloads, now);
            let list = torrents.with_known(request.info_hash, Some(now), combined).flatten();
            StartedExchanges { lists: list.into_iter().collect(), ..StartedExchanges::default() }
        }
    }

    /// Returns the handle through which other instances report the clients that they hear, if swarms are shared.
    /// `visit` lists the peers of all instances. Forwarding removes these peers from the replies of upstream trackers.
    pub fn other_instances(&self, visit: VisitPeers) -> OtherInstances {
        OtherInstances::new(&self.shared, &self.name, &self.open_stops, visit)
    }

    /// Sends `stopped` in the background for a client that has left.
    pub fn leave(&self, announce: &UpstreamAnnounce<'_>) {
        let now = clock::now();
        let left = |torrent: &mut Torrent| torrent.client_left(announce, &self.open_stops, now);
        let exchanges = self.shared.torrents.with_known(announce.request.info_hash, Some(now), left);
        exchanges.into_iter().flatten().for_each(|exchange| self.shared.send(exchange));
    }

    /// Returns whether this announce has come back to us after this instance or another one passed it on.
    pub fn is_loop(&self, via: &Via) -> bool {
        let is_elsewhere = || self.shared.names_elsewhere.read().iter().any(|name| via.names(name));
        via.names(&self.name) || (via.hops() > 0 && is_elsewhere())
    }

    /// Waits until one attempt has been made to send each `stopped` that is due.
    pub async fn flush(&self) {
        self.open_stops.close();
        self.open_stops.wait().await;
    }

    /// Returns the state of each forwarder, in the order of configuration.
    pub fn status(&self) -> Vec<ForwarderStatus> {
        let now = clock::now();
        self.shared.set.read().forwarders.iter().map(|forwarder| forwarder.status(now)).collect()
    }

    /// Returns the limits of forwarding, and how much of each limit is in use.
    pub fn limits(&self) -> ForwardLimits {
        let ForwardState { torrents, context, set, .. } = &*self.shared;
        let (waiting, dropped): (Vec<_>, Vec<_>) =
            set.read().forwarders.iter().map(|forwarder| forwarder.queue()).unzip();
        let (weight, capacity) = torrents.load();
        ForwardLimits {
            exchanges: context.limit(),
            queue: LimitUse {
                most: MAX_WAITING as u64,
                in_use: waiting.into_iter().max().unwrap_or_default() as u64,
                bites: dropped.into_iter().sum(),
            },
            memory: LimitUse {
                most: capacity * u64::from(UNIT),
                in_use: weight * u64::from(UNIT),
                bites: torrents.evicted().unsigned_abs(),
            },
        }
    }

    /// Returns a function that reads the gauges. It is called when the metrics are scraped.
    pub fn sampler(&self) -> impl Fn() -> ForwardSample + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || ForwardSample {
            forwarders: shared.set.read().forwarders.iter().map(|forwarder| forwarder.sample()).collect(),
            torrents: shared.torrents.len(),
            evicted: shared.torrents.evicted().unsigned_abs(),
        }
    }
}
