//! The composition root: builds the parts, binds the sockets, runs and drains.

mod reload;
mod share;

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use certificate::TlsServer;
use daemon::{Reload, Signals};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use crate::access::Access;
use crate::clock::{self, Lookout};
use crate::config::{AccessRules, Config, Forward, Tls, TorrentsOptions};
use crate::forward::{ForwardEngine, ForwardOptions, Forwarders};
use crate::frontend::client_address::ClientAddress;
use crate::frontend::connections::Connections;
use crate::frontend::context::Context;
use crate::frontend::descriptors;
use crate::frontend::history::History;
use crate::frontend::hosts::Hosts;
use crate::frontend::listen::{self, Audience, Listen, ListenAddr, Listening, UdpListenAddr};
use crate::frontend::serve;
use crate::frontend::torrents::{Gate, TorrentsPart};
use crate::frontend::udp::connection_id::{MAX_CLOCK_SKEW, SharedKey};
use crate::frontend::udp::connection_ids::ConnectionIds;
use crate::metrics::{AccessMetrics, LogSample, Metrics, ShareMetrics, StoreSample, TorrentsMetrics, ZoneSample};
use crate::share_link::ShareLink;
use crate::store::Store;
use crate::torrents::{SharedBlobs, TorrentsLimits};
use crate::tracker::Tracker;

use self::share::SharedParts;

/// How often expired peers and swarms are dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// The shortest time between two log lines that say that the store is full.
const EVICTION_REPORT: Duration = Duration::from_hours(1);

/// The most long polls: requests that wait until the lease of a shared blob changes.
const MAX_POLLS: usize = 4096;

/// How long the final `stopped` announces may take after all requests are finished.
const FLUSH: Duration = Duration::from_secs(1);

/// A tracker whose sockets are bound, but which does not serve yet.
#[derive(Debug)]
pub struct App {
    context: Arc<Context>,
    store: Arc<Store>,
    forward: Option<ForwardEngine>,
    share: Option<ShareLink>,
    reloads: Vec<Reload>,
    listening: Vec<Listening>,
    workers: usize,
}

/// Why a tracker with a valid configuration does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The process cannot listen on an address.
    #[error("cannot listen on {address}: {error}{}", hint(address, error))]
    Listen {
        /// The address as configured.
        address: Listen,
        /// Why listening failed.
        error: io::Error,
    },
    /// The process cannot listen on an address for UDP.
    #[error("cannot listen on {address}: {error}{}", hint_udp(error))]
    ListenUdp {
        /// The address as configured.
        address: UdpListenAddr,
        /// Why listening failed.
        error: io::Error,
    },
    /// A forwarder cannot be set up.
    #[error("{0}")]
    Forwarder(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system cannot start threads or an event loop.
    #[error("cannot start threads or an event loop: {0}")]
    System(#[from] io::Error),
}

fn hint(listen: &Listen, error: &io::Error) -> &'static str {
    match (&listen.address, error.kind()) {
        (_, io::ErrorKind::AddrInUse) if listen.purpose.audience == Audience::Torrents => {
            "; another process, such as etcd, uses this port: choose another with --torrents-listen"
        }
        (ListenAddr::Unix(_), io::ErrorKind::AddrInUse) => "; another process listens there, or the file is no socket",
        (ListenAddr::Unix(_), _) => "",
        (_, io::ErrorKind::AddrInUse) => "; another process, or another -l of this one, uses this port: choose another",
        (_, io::ErrorKind::PermissionDenied) => "; ports below 1024 need a privilege, choose another with -l",
        _ => "",
    }
}

fn hint_udp(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process, or another -u of this one, uses this port: choose another",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege, choose another with -u",
        _ => "",
    }
}

impl App {
    /// Builds the parts and binds the sockets. If this fails, no socket stays bound.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let descriptors = descriptors::raise_limit();
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let listen = |(address, error)| StartError::Listen { address, error };
        let mut listening = listen::bind(&config.listen, workers).map_err(listen)?;
        let listen = |(address, error)| StartError::ListenUdp { address, error };
        listening.extend(listen::bind_datagrams(&config.udp_listen, workers).map_err(listen)?);

        let store = Store::new(config.store);
        let store = Arc::new(if config.share.is_some() { store.shared() } else { store });
        let mut registry = config.prometheus.then(Registry::default);
        let mut metrics = registry.as_mut().map_or_else(Metrics::unexposed, Metrics::register);
        if let Some(registry) = &mut registry {
            let sampled = Arc::clone(&store);
            Metrics::register_store(registry, move || sample(&sampled));
            let zones: Vec<_> = config.topology.zones().map(|(zone, name)| (zone, name.to_owned())).collect();
            if !zones.is_empty() {
                let sampled = Arc::clone(&store);
                Metrics::register_zones(registry, move || ZoneSample {
                    zones: zones.iter().map(|(zone, name)| (name.clone(), sampled.peers_in(*zone))).collect(),
                });
            }
            if config.chihaya.is_some() {
                let sampled = Arc::clone(&store);
                metrics.register_chihaya(registry, move || sample(&sampled));
            }
            Metrics::register_log(registry, log_sample);
        }
        let (forwarders, forward) = match &config.forward {
            None => (None, None),
            Some(Forward { file, options }) => {
                let max_exchanges = options.max_exchanges.or(Some(descriptors::for_exchanges(descriptors)));
                let options = ForwardOptions { max_exchanges, ..options.clone() };
                let (forwarders, engine) = Forwarders::new(&options, &metrics).map_err(StartError::Forwarder)?;
                forwarders.listens_at(listening.iter().filter_map(Listening::socket_address).collect());
                if let Some(registry) = &mut registry {
                    Metrics::register_forwarders(registry, forwarders.sampler());
                }
                (Some(forwarders), Some((engine, file.clone())))
            }
        };
        let (access, access_file) = match config.access {
            None => (None, None),
            Some(AccessRules { file, options, proxies }) => {
                let access = Access::new(options, proxies, AccessMetrics::register(registry.as_mut()));
                (Some(Arc::new(access)), Some(file))
            }
        };
        let connections = Connections::new(config.connections.within(descriptors), metrics.connections.clone());
        let has_admin_listener = config.listen.iter().any(|listen| listen.purpose.audience == Audience::Operators);
        let (tls, tls_files) = match &config.tls {
            None => (None, None),
            Some(Tls { files, certificate }) => (Some(TlsServer::new(certificate.clone())?), Some(files.clone())),
        };
        let torrents = match &config.torrents {
            None => None,
            Some(options) => Some(shared_blobs(options, connections.limits.total, registry.as_mut())?),
        };
        let topology = config.topology.clone();
        let tracker = Tracker::new(config.policy, config.topology, Arc::clone(&store), forwarders, &metrics);
        let addresses: Vec<_> =
            listening.iter().map(|listening| (listening.address(), listening.purpose.audience)).collect();
        let (tracker, share_state, share) = match config.share {
            None => (tracker, None, None),
            Some(options) => {
                let parts = SharedParts::new(&config.store, &options, ShareMetrics::register(registry.as_mut()));
                parts.build(options, tracker, Arc::clone(&store), topology, &addresses)
            }
        };
        let context = Context {
            tracker,
            share: share_state,
            access,
            metrics,
            registry,
            routes: config.routes,
            listening: addresses,
            settings: config.settings,
            history: History::default(),
            log: log_sample,
            start: clock::now(),
            chihaya: config.chihaya,
            client_address: ClientAddress::new(config.client_address),
            hosts: Hosts::new(config.allowed_hosts),
            draining: AtomicBool::new(false),
            drain: config.drain,
            connection_ids: connection_ids(config.udp_key.as_ref())?,
            connections,
            // Operators' connections have counters of their own. `/metrics` does not expose these counters, because
            // `retracker_connections` is about clients.
            operator_connections: has_admin_listener
                .then(|| Connections::new(config.operator_connections, Metrics::unexposed().connections)),
            tls,
            torrents,
        };
        let context = Arc::new(context);
        let (forward, file) = forward.unzip();
        let forwarders = file.map(|file| reload::forwarders(Arc::clone(&context), file));
        let access = access_file.map(|file| reload::access(Arc::clone(&context), file));
        let certificate = tls_files.map(|files| reload::certificate(Arc::clone(&context), files));
        let reloads = forwarders.into_iter().chain(access).chain(certificate).collect();
        Ok(Self { context, store, forward, share, reloads, listening, workers })
    }

    /// The bound sockets.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Serves until a stop signal, then lets the requests under way finish.
    pub fn run(self, runtime: &Runtime, signals: Signals) -> Result<(), StartError> {
        let Self { context, store, forward, share, reloads, listening, workers } = self;
        let (stopping, stopped) = watch::channel(false);
        let start = |engine: ForwardEngine| LocalThread::start("upstream", |stopped| engine.run(stopped));
        let upstream = forward.map(start).transpose()?;
        let start = |link: ShareLink| LocalThread::start("share", |stopped| link.run(stopped));
        let share = share.map(start).transpose()?;
        // The end of the process does not wait for this thread, because the thread only fetches keys.
        let _keys = context.access.clone().map(keep_keys).transpose()?;
        let threads = serve::start(listening, workers, &context, &stopped)?;
        let Signals { mut stop, reload } = signals;
        runtime.block_on(async {
            tokio::select! {
                _ = stop.recv() => {}
                () = housekeep(&context, &store) => {}
                () = daemon::reload_on(reload, &reloads, reload::NOTHING) => {}
            }
        });
        log::info!("stopping: requests under way may take {} more seconds", context.drain.as_secs());
        context.draining.store(true, Relaxed);
        stopping.send_replace(true);
        context.torrents.iter().for_each(|part| part.blobs.close());
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a worker thread panicked");
            }
        }
        // The workers have ended, so no further announce arrives that the other instances must learn of.
        share.into_iter().for_each(LocalThread::stop);
        if let Some((upstream, forwarders)) = upstream.zip(context.tracker.forwarders()) {
            runtime.block_on(flush_stopped(forwarders));
            upstream.stop();
        }
        log::info!("stopped");
        Ok(())
    }
}

/// A thread with an event loop of its own: for awc, whose connections cannot leave their thread, and for work that must
/// not wait for clients.
struct LocalThread {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl LocalThread {
    /// Starts the thread, which runs the future that `work` returns. The argument of `work` is a receiver that
    /// completes when the thread must stop.
    fn start<F: Future<Output = ()>>(
        name: &'static str,
        work: impl FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, work(stopped));
            // A name look-up may hang, so the thread does not wait for it.
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, stop })
    }

    fn stop(self) {
        drop(self.stop);
        let name = self.thread.thread().name().unwrap_or_default().to_owned();
        if self.thread.join().is_err() {
            log::error!("the thread {name} panicked");
        }
    }
}

/// Keeps the keys of the access rules up to date, on a thread of its own.
fn keep_keys(access: Arc<Access>) -> io::Result<LocalThread> {
    LocalThread::start("keys", move |stopped| async move {
        tokio::select! {
            () = access.keep_keys() => {}
            _ = stopped => {}
        }
    })
}

/// Sends the last `stopped` announces upstream before the process exits. The clients have their replies already, so the
/// tracker alone can still send these announces. Takes at most [`FLUSH`].
async fn flush_stopped(forwarders: &Forwarders) {
    if tokio::time::timeout(FLUSH, forwarders.flush()).await.is_err() {
        log::warn!("some `stopped` announces did not reach upstream trackers within {FLUSH:?}");
    }
}

async fn housekeep(context: &Context, store: &Store) {
    let Context { tracker, metrics, torrents, .. } = context;
    let mut pause = tokio::time::interval(HOUSEKEEPING);
    let mut reported: Option<(Instant, i64)> = None;
    let mut lookout = Lookout::start();
    loop {
        pause.tick().await;
        let slept = lookout.look();
        let start = Instant::now();
        tracker.housekeep();
        torrents.iter().for_each(|part| part.blobs.housekeep(|info_hash| tracker.has_peers(info_hash)));
        metrics.housekept(start.elapsed());
        context.record_history();
        adopt_udp_key(context);
        // This line comes after `housekeep`: once it is logged, the peers that expired during the sleep are gone.
        if let Some(slept) = slept {
            log::info!("the host has slept for {} s: this time counts towards the age of peers", slept.as_secs());
        }
        let evicted = store.totals().evicted;
        let is_due = reported.map_or(evicted > 0, |(when, known)| evicted > known && when.elapsed() > EVICTION_REPORT);
        if is_due {
            log::warn!(
                "the store is full: {evicted} whole torrents have been dropped since the start; MAX_PEERS sets the limit"
            );
            reported = Some((Instant::now(), evicted));
        }
    }
}

fn connection_ids(key: Option<&SharedKey>) -> io::Result<ConnectionIds> {
    key.map_or_else(ConnectionIds::own, |key| Ok(ConnectionIds::shared(key)))
}

/// Lets all instances accept the connection ids of each other, as soon as the key that they share is known. A key that
/// the operator has set stays.
fn adopt_udp_key(Context { share, connection_ids, .. }: &Context) {
    if let Some(key) = share.as_ref().and_then(|share| share.udp_key()) {
        connection_ids.adopt(&SharedKey::of_bytes(key, MAX_CLOCK_SKEW));
    }
}

/// Sets up the part for shared blobs. Long polls may take a quarter of the connections, so that three quarters remain
/// for announces.
fn shared_blobs(
    options: &TorrentsOptions,
    connections: usize,
    mut registry: Option<&mut Registry>,
) -> io::Result<TorrentsPart> {
    let limits = TorrentsLimits { memory: options.memory, max_polls: (connections / 4).clamp(1, MAX_POLLS) };
    let metrics = TorrentsMetrics::register(registry.as_deref_mut());
    let blobs = Arc::new(SharedBlobs::new(limits, clock::unix_time(), metrics)?);
    if let Some(registry) = registry {
        let sampled = Arc::clone(&blobs);
        TorrentsMetrics::register_state(registry, move || sampled.sample());
    }
    Ok(TorrentsPart { blobs, gate: Gate::new(options.gate.clone()) })
}

fn sample(store: &Store) -> StoreSample {
    let totals = store.totals();
    StoreSample {
        swarms: totals.swarms,
        peers: totals.peers,
        evicted: u64::try_from(totals.evicted).unwrap_or_default(),
        evicted_peers: u64::try_from(totals.evicted_peers).unwrap_or_default(),
    }
}

fn log_sample() -> LogSample {
    LogSample { dropped: daemon::dropped(), capacity: daemon::MAX_QUEUED as u64 }
}
