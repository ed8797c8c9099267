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
mod list;
mod own;
mod probe;
mod proxy;
mod queue;
mod reply;
mod resolve;
mod session;
#[cfg(test)]
pub(crate) mod simulation;
mod torrent;
mod trust;
mod turns;
mod udp;
mod upstream;
mod uri;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use url::Url;

pub use engine::Engine;
pub use error::ForwardError;
pub use list::UpstreamPeers;
pub use probe::{Probed, probe};
pub use proxy::Proxies;
pub use trust::Authorities;
pub use turns::Turns;
pub use uri::host_and_port;

use self::context::ExchangeContext;
use self::forwarder::{Exchange, Forwarder};
use self::http::Along;
use self::session::Heard;
use self::torrent::{Begun, Torrent, UNIT};
use self::upstream::{Answer, Upstream};
use crate::bittorrent::{AnnounceRequest, InfoHash};
use crate::cache::TorrentCache;
use crate::clock;
use crate::metrics::{ForwardSample, Metrics, WaitMetrics};
use crate::wire::via::Via;

/// What we call ourselves before upstream trackers and proxies.
const USER_AGENT: &str = concat!("retracker/", env!("CARGO_PKG_VERSION"));

/// An exchange goes on for so long in the background unless an entry says otherwise, or the deadline is longer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of upstream trackers takes no more than this, in bytes. Past it, torrents that are rarely announced give
/// way to those that are announced often.
const MAX_MEMORY: usize = 256 * 1024 * 1024;

/// An announce that has been passed on by so many is not passed on further.
const MAX_HOPS: usize = 4;

/// What the forwarders are told once.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// The upstream trackers. `-f`, `FORWARDS_FILE`.
    pub forwarders: Vec<ForwarderOptions>,
    /// How long a client's announce may wait for them. `-t`, `FORWARD_TIMEOUT`; 2 seconds.
    pub deadline: Duration,
    /// How long a peer that does not announce counts as here. `-a`, `PEER_AGE`; 180 minutes.
    pub peer_age: Duration,
    /// How many exchanges may be under way with all of them together. `--max-exchanges`, `MAX_EXCHANGES`; what the limit of
    /// open files allows.
    pub max_exchanges: Option<usize>,
    /// The proxies through which they are asked: `http_proxy` and so on.
    pub proxies: Proxies,
}

/// One entry of `forwarders.yml`.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwarderOptions {
    /// By what name it goes in logs and metrics; no secret.
    pub name: String,
    /// Its announce URL, `http`, `https` or `udp`. It may hold a passkey and is never logged.
    pub uri: Url,
    /// The address that the upstream is told to record, in place of the one that it sees.
    pub ip: AnnouncedIp,
    /// What the `Host` header says, in place of the URL's own host.
    pub host: Option<String>,
    /// How long an exchange may take; 10 seconds, or the deadline if that is longer.
    pub timeout: Option<Duration>,
    /// How many peers it is asked for; 200.
    pub numwant: Option<u32>,
    /// How many exchanges with it may begin in a second; 200. More wait for their turn.
    pub rate: Option<NonZeroU32>,
    /// Whose certificates are trusted, in place of the usual authorities.
    pub ca: Option<Authorities>,
    /// Which torrents it is told of.
    pub torrents: Torrents,
}

/// Under which address an upstream is told to record our clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnouncedIp {
    /// The one that it sees.
    #[default]
    AsSeen,
    /// This one.
    Fixed(IpAddr),
    /// The client's own, unless that is one of a private network.
    Client,
}

/// Which torrents a forwarder is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Torrents {
    /// All.
    #[default]
    All,
    /// These.
    Only(BTreeSet<InfoHash>),
    /// All but these.
    Except(BTreeSet<InfoHash>),
}

impl fmt::Debug for ForwarderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether an entry can be used at all. The error is a sentence for the operator, without what may be a secret.
pub fn check(options: &ForwarderOptions) -> Result<(), String> {
    Upstream::new(options, &Arc::default()).map(drop)
}

/// The configured upstream trackers.
#[derive(Debug)]
pub struct Forwarders {
    shared: Arc<Shared>,
    /// Our name in `Via`. Random, so that it is nobody else's, and new with every start.
    name: String,
    deadline: Duration,
    waits: WaitMetrics,
    /// Farewells that are still to be told.
    telling: TaskTracker,
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
pub struct Outbound<'a> {
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

/// Lists, one of each forwarder that has given one.
pub type Known = SmallVec<[Arc<UpstreamPeers>; 4]>;

/// What the forwarders gave for an announce.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Their lists, in the order of configuration as far as they were there already.
    pub lists: Known,
    /// Whether a forwarder is being asked that has not answered yet: it may be worth to come back soon.
    pub pending: bool,
}

/// What the forwarders have for an announce.
#[derive(Debug)]
pub enum Asked {
    /// What they have given before: there is nothing to wait for.
    Known(Gathered),
    /// Some of them are being asked that have given nothing yet.
    Waiting(Waiting),
}

/// An announce that may wait for lists.
#[derive(Debug)]
pub struct Waiting {
    gathered: Gathered,
    waits: Vec<Wait>,
    deadline: Instant,
    metrics: WaitMetrics,
}

/// What an announce waits for: a list of one forwarder.
#[derive(Debug)]
struct Wait {
    list: oneshot::Receiver<Arc<UpstreamPeers>>,
    forwarder: Arc<Forwarder>,
}

impl Wait {
    /// The list; none if the exchange brings none, or the forwarder turns out to be too late to be waited for.
    async fn list(&mut self) -> Option<Arc<UpstreamPeers>> {
        tokio::select! {
            list = &mut self.list => list.ok(),
            () = self.forwarder.becomes_late() => None,
        }
    }
}

impl Waiting {
    /// Waits until there is a list of each forwarder that was asked or it has failed, the lists are `enough`, or the
    /// deadline has passed.
    pub async fn gather(self, enough: impl Fn(&[Arc<UpstreamPeers>]) -> bool) -> Gathered {
        let Self { gathered: Gathered { mut lists, pending }, waits, deadline, metrics } = self;
        let forwarders: Vec<_> = waits.iter().map(|wait| Arc::clone(&wait.forwarder)).collect();
        let each = waits.into_iter().zip(&forwarders).map(|(mut wait, forwarder)| async move {
            let list = wait.list().await;
            // Late is not done: its list is still to come.
            (list, forwarder)
        });
        let mut waits: FuturesUnordered<_> = each.collect();
        let mut open: Vec<_> = forwarders.iter().collect();
        let mut missed = false;
        let ended = loop {
            if enough(&lists) {
                break &metrics.enough;
            }
            match timeout_at(deadline, waits.next()).await {
                Ok(Some((list, forwarder))) => {
                    open.retain(|other| !Arc::ptr_eq(other, forwarder));
                    missed |= list.is_none() && !forwarder.is_prompt();
                    lists.extend(list);
                }
                Ok(None) => break &metrics.done,
                Err(_) => {
                    open.iter().for_each(|forwarder| forwarder.is_late());
                    break &metrics.deadline;
                }
            }
        };
        ended.inc();
        Gathered { lists, pending: pending || missed || !waits.is_empty() }
    }
}

/// How one forwarder does.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// Its name.
    pub name: String,
    /// `http`, `https` or `udp`.
    pub protocol: String,
    /// `closed` when it is asked as ever; `open`, `probing` or `paused`.
    pub state: &'static str,
    /// How long it has been so.
    pub state_for: Duration,
    /// When it is asked again, if it is not at present.
    pub next_probe_in: Option<Duration>,
    /// Exchanges under way.
    pub in_flight: usize,
    /// Exchanges that wait for their turn.
    pub waiting: usize,
    /// Peers that it knows, or is to know, through us.
    pub sessions: i64,
    /// Lists of its peers that are kept.
    pub lists: i64,
    /// Exchanges by outcome, as in the metrics.
    pub exchanges: BTreeMap<&'static str, u64>,
    /// How long it takes to answer.
    pub mean_latency: Option<Duration>,
    /// The latest error.
    pub last_error: Option<LastError>,
}

/// An error that is past.
#[derive(Clone, Debug)]
pub struct LastError {
    /// It in words.
    pub text: String,
    /// How long ago it was.
    pub ago: Duration,
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
                (MAX_MEMORY / UNIT) as u64,
                // Who has gone silent is signed off before its torrent goes.
                options.peer_age * 2 + Duration::from_mins(1),
                |torrent: &mut Torrent| *torrent = Torrent::default(),
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
            telling: TaskTracker::new(),
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
    pub fn announce(&self, outbound: &Outbound<'_>) -> Asked {
        let Begun { known: lists, exchanges, waits, pending } = self.begin(outbound);
        exchanges.into_iter().for_each(|exchange| self.shared.send(exchange));
        let gathered = Gathered { lists, pending };
        if waits.is_empty() {
            self.waits.saved.inc();
            return Asked::Known(gathered);
        }
        let deadline = Instant::now() + self.deadline;
        Asked::Waiting(Waiting { gathered, waits, deadline, metrics: self.waits.clone() })
    }

    fn begin(&self, outbound: &Outbound<'_>) -> Begun {
        let now = clock::now();
        let set = self.shared.set.read();
        let Set { generation, forwarders } = &*set;
        let request = outbound.request;
        if !forwarders.iter().any(|forwarder| forwarder.serves(request.info_hash)) {
            return Begun::default();
        }
        let along = || Along::new(outbound.user_agent, &outbound.via.and(&self.name));
        let torrents = &self.shared.torrents;
        if outbound.via.hops() < MAX_HOPS {
            torrents.with(request.info_hash, now, |torrent| {
                torrent.announced(*generation, forwarders, outbound, along, now)
            })
        } else {
            let downloads = request.role().downloads();
            let known = |torrent: &mut Torrent| torrent.known(*generation, forwarders, downloads, now);
            let known = torrents.with_known(request.info_hash, now, known).flatten();
            Begun { known: known.into_iter().collect(), ..Begun::default() }
        }
    }

    /// Tells the forwarders that a peer has left, without anybody waiting for that.
    pub fn leave(&self, outbound: &Outbound<'_>) {
        let now = clock::now();
        let left = |torrent: &mut Torrent| torrent.left(outbound, &self.telling, now);
        let exchanges = self.shared.torrents.with_known(outbound.request.info_hash, now, left);
        exchanges.into_iter().flatten().for_each(|exchange| self.shared.send(exchange));
    }

    /// Whether an announce is one that we have passed on, come back to us.
    pub fn have_passed_on(&self, via: &Via) -> bool {
        via.names(&self.name)
    }

    /// Done when what clients have said last has been told. What they say later is not waited for.
    pub async fn all_told(&self) {
        self.telling.close();
        self.telling.wait().await;
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
            self.end(&dropped, Heard::Lost, None, clock::now());
        }
    }

    /// An exchange has ended, or is not begun. What has to follow it waits for its turn.
    fn end(&self, exchange: &Exchange, heard: Heard, answer: Option<(&Answer, &[IpAddr])>, now: Instant) {
        let ended = |torrent: &mut Torrent| torrent.ended(exchange, heard, answer, now);
        // In a torrent that has been forgotten there is nothing to follow.
        let next = self.torrents.with_known(exchange.request.info_hash, now, ended);
        next.into_iter().flatten().for_each(|exchange| self.send(exchange));
    }
}
