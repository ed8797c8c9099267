//! The whole server: binds the port, starts the workers, stops them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use certificate::TlsServer;
use daemon::Reload;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio_util::task::TaskTracker;
use tracker_protocol::PeerId;

use super::connections::{WorkerOptions, work};
use super::context::CacheContext;
use super::counted_connection::AddressShares;
use super::manifest_fetches::ManifestFetches;
use super::reload;
use super::superblocks::Superblocks;
use crate::authorization::Authorization;
use crate::config::CacheConfig;
use crate::flight::{Flights, LONGEST_SILENCE};
use crate::metrics::CacheMetrics;
use crate::sharing::{Sharing, SharingOptions};
use crate::store::{BlobStore, StoreFault};
use crate::swarm::PeeringOptions;
use crate::swarm_tracker::{SwarmTracker, TrackerOptions};
use crate::upstream::{FetchClient, FetchOptions};

/// How long transfers may go on after the stop signal. Docker kills a container after 10 s.
const DRAIN: Duration = Duration::from_secs(7);
/// How long the process waits at its end to tell the tracker that the leases have ended.
const TELL_TRACKER: Duration = Duration::from_secs(1);
/// The number of threads of each worker that may wait for the disk.
const DISK_THREADS: usize = 16;

/// Why the server cannot start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The port cannot be bound.
    #[error("cannot listen on {0}: {1}; give a free port with PORT, or an address of this host with INTERFACE")]
    Listen(SocketAddr, io::Error),
    /// The folder cannot be used.
    #[error("STORAGE: {0}")]
    Storage(#[from] StoreFault),
    /// The system refuses something that the server needs.
    #[error("{0}")]
    System(String),
}

/// A cache that has bound its port.
pub struct CacheServer {
    listener: TcpListener,
    address: SocketAddr,
    config: CacheConfig,
    context: Arc<CacheContext>,
    tls: Option<Arc<TlsServer>>,
    stop: watch::Sender<bool>,
}

impl CacheServer {
    /// Binds the port and opens the storage.
    pub fn bind(config: CacheConfig) -> Result<Self, ServeError> {
        raise_limit();
        let listen = |error| ServeError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let store = BlobStore::open(&config.storage, config.limits)?;
        let client = FetchClient::new(Arc::clone(&config.upstreams), config.fetch.clone());
        let authorization = Authorization::new(client, config.authorization.clone()).map_err(ServeError::System)?;
        let sharing = share(&config, &store);
        let tls = config.tls.as_ref().map(|port| TlsServer::new(port.certificate.clone()).map(Arc::new)).transpose();
        let tls = tls.map_err(|error| ServeError::System(format!("cannot set up TLS: {error}")))?;
        let (stop, stopped) = watch::channel(false);
        let context = Arc::new(CacheContext {
            upstreams: Arc::clone(&config.upstreams),
            authorization,
            flights: Flights::new(store.clone(), sharing.clone()),
            store,
            sharing,
            manifest_fetches: ManifestFetches::default(),
            superblocks: Superblocks::default(),
            metrics: CacheMetrics::default(),
            tag_stale: config.tag_stale,
            longest_silence: longest_silence(&config.fetch),
            stop: stopped,
        });
        Ok(Self { listener, address, config, context, tls, stop })
    }

    /// Returns the address at which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns whether the server also speaks https.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns what SIGHUP reads again: the certificate and the logins.
    pub fn reloads(&self) -> Vec<Reload> {
        let files = self.config.tls.as_ref().map(|port| port.files.clone());
        let certificate = self.tls.clone().zip(files).map(|(tls, files)| reload::certificate(tls, files));
        let logins = self.config.auth_file.clone().map(|file| reload::logins(Arc::clone(&self.context), file));
        certificate.into_iter().chain(logins).collect()
    }

    /// Describes the content of the storage, for the log.
    pub fn storage(&self) -> String {
        let folder = self.config.storage.display();
        match self.context.store.usage() {
            Ok(usage) => format!("{folder}: {} blobs, {} of {} bytes", usage.blobs, usage.bytes, usage.quota),
            Err(error) => format!("{folder}: {error}"),
        }
    }

    /// Serves until `wait_for_stop` returns. Then waits up to seven seconds for the last transfer.
    pub fn run(self, wait_for_stop: impl FnOnce()) -> Result<(), ServeError> {
        let permits = Arc::new(Semaphore::new(self.config.max_connections));
        let shares = AddressShares::of(self.config.max_connections);
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let system = |error: io::Error| ServeError::System(format!("cannot start a worker: {error}"));
        let tasks = TaskTracker::new();
        let mut threads = Vec::new();
        for number in 0..workers {
            let options = WorkerOptions {
                context: Arc::clone(&self.context),
                tls: self.tls.clone(),
                permits: Arc::clone(&permits),
                shares: Arc::clone(&shares),
                client_timeout: self.config.client_timeout,
                drain: DRAIN,
                tasks: tasks.clone(),
                stop: self.stop.subscribe(),
            };
            let listener = self.listener.try_clone().map_err(system)?;
            let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(DISK_THREADS).build();
            let runtime = runtime.map_err(system)?;
            let begun = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                LocalSet::new().block_on(&runtime, work(listener, options));
                // A disk that hangs must not keep the process from ending.
                runtime.shutdown_timeout(Duration::from_secs(1));
            });
            threads.push(begun.map_err(system)?);
        }
        // The workers have their own handles of the listener, and close them at the stop signal.
        drop(self.listener);
        wait_for_stop();
        self.stop.send_replace(true);
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a worker has panicked");
            }
        }
        // Each transfer and its lease have ended with their worker.
        if let Some(sharing) = &self.context.sharing {
            sharing.stop(TELL_TRACKER);
        }
        Ok(())
    }
}

/// Begins to share blobs with the other hosts. If no port is free, or the tracker cannot be used, the cache works
/// alone.
fn share(config: &CacheConfig, store: &BlobStore) -> Option<Arc<Sharing>> {
    let swarm = &config.swarm;
    let peer_id = new_peer_id();
    let options = SharingOptions {
        peering: PeeringOptions { ports: swarm.ports.clone(), networks: swarm.peer_networks.clone(), peer_id },
        secret: swarm.secret.clone(),
        is_expected: swarm.is_given,
    };
    let tracker = |port: u16| {
        SwarmTracker::new(TrackerOptions {
            announce: swarm.tracker.clone(),
            torrents: swarm.etcd.clone(),
            token: swarm.token.clone(),
            peer_id,
            port: NonZeroU16::new(port).ok_or(io::ErrorKind::AddrNotAvailable)?,
            tls: Arc::clone(&config.fetch.tls),
            lookup: Arc::clone(&config.fetch.lookup),
        })
        .map_err(io::Error::other)
    };
    match Sharing::start(options, store, tracker) {
        Ok(sharing) => {
            log::info!("this host shares blobs with other hosts on port {}", sharing.port());
            Some(sharing)
        }
        Err(error) => {
            let (first, last) = swarm.ports.clone().into_inner();
            log::warn!(
                "blobs are not shared with other hosts: {error}; TORRENT_FIRST_PORT and TORRENT_LAST_PORT name the ports \
                 {first} to {last}"
            );
            None
        }
    }
}

/// Returns a random peer id with the prefix of this program (BEP 20).
fn new_peer_id() -> PeerId {
    let mut id = *b"-TC0010-............";
    id.iter_mut().skip(8).for_each(|byte| *byte = fastrand::alphanumeric() as u8);
    PeerId(id)
}

/// Returns how long it can take to open a body. An upstream that wants a token or redirects needs several requests.
fn longest_silence(options: &FetchOptions) -> Duration {
    let request = options.connect_timeout.saturating_add(options.head_timeout.max(options.progress_timeout));
    request.saturating_mul(4).max(LONGEST_SILENCE)
}

/// Raises the limit of open files to what the system allows.
fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        log::warn!("the limit of open files could not be raised: {error}");
    }
}
