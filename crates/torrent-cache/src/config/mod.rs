//! Reads the configuration: flags, environment variables and the files that they name become one checked, immutable
//! [`CacheConfig`].

mod auth_file;
mod command;
mod sections;
pub mod settings;
mod tls;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::settings::{InvalidValue, Origin, Sources, one_line};
use ipnet::IpNet;
use thiserror::Error;
use trust::Authorities;
use url::{Host, Url};

use crate::authorization::AuthorizationOptions;
use crate::store::StoreLimits;
use crate::swarm_tracker::{ClusterSecret, TrackerToken};
use crate::upstream::{FetchOptions, UpstreamOrigin, Upstreams};

pub use self::auth_file::AuthFile;
pub use self::command::command;
pub use self::tls::{PemFiles, PortCertificate};

use self::command::ChosenCommand;
use self::settings::{
    AUTH_STALE, CA_FILE, CLIENT_NETWORKS, CLIENT_TIMEOUT, CLUSTER_SECRET, CONNECT_TIMEOUT, DEBUG, ETCD_HOST, ETCD_PORT,
    INTERFACE, MAX_CONNECTIONS, PEER_NETWORKS, PORT, REGISTRY_LOCATION, REGISTRY_NO_SSL, RUST_LOG, STORAGE,
    STORAGE_MIN_FREE, STORAGE_QUOTA, TAG_STALE, TORRENT_FIRST_PORT, TORRENT_LAST_PORT, TORRENTS_TOKEN, TRACKER,
    UPSTREAM_TIMEOUT, UPSTREAMS,
};

/// The settings with which the process serves.
pub struct CacheConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The certificate of our own port; `None` if the port speaks http only.
    pub tls: Option<PortCertificate>,
    /// The servers that the cache fetches from.
    pub upstreams: Arc<Upstreams>,
    /// How the cache fetches from upstreams.
    pub fetch: FetchOptions,
    /// How clients are authorised.
    pub authorization: AuthorizationOptions,
    /// The file with our own logins, which SIGHUP reads again.
    pub auth_file: Option<AuthFile>,
    /// The folder for blobs and manifests.
    pub storage: PathBuf,
    /// How much of the folder's disk the cache may use.
    pub limits: StoreLimits,
    /// How long a tag keeps its last digest while its upstream fails.
    pub tag_stale: Duration,
    /// The most connections that are served at once.
    pub max_connections: usize,
    /// How long a client may send no request, or read nothing of its reply.
    pub client_timeout: Duration,
    /// The tracker and the ports for other hosts.
    pub swarm: SwarmOptions,
}

impl fmt::Debug for CacheConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheConfig").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// The tracker, the server with the torrent files, and what this host needs to share with others.
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// The announce URL of the tracker.
    pub tracker: Url,
    /// The host and the port of the server with the torrent files.
    pub etcd: (Host, u16),
    /// Whether the operator named the tracker or the server. The default addresses are only an example.
    pub is_given: bool,
    /// The token for torrents.
    pub token: Option<TrackerToken>,
    /// The secret that is part of each info-hash.
    pub secret: Option<ClusterSecret>,
    /// The networks of the hosts that this host shares blobs with.
    pub peer_networks: Vec<IpNet>,
    /// The ports on which other hosts reach this host; the first free one is used.
    pub ports: RangeInclusive<u16>,
}

/// What the process is to do.
#[derive(Debug)]
pub enum CacheTask {
    /// Serve.
    Serve {
        /// The settings.
        config: Box<CacheConfig>,
        /// What the log contains.
        log: LogFilter,
    },
    /// Check what the settings name, print the results and end.
    Check(Box<CacheConfig>),
    /// Ask the cache at this address whether it is healthy, and end. A wrong value also ends with exit code 1, because
    /// Docker knows only 0 and 1.
    Healthcheck(Result<SocketAddr, CacheConfigError>),
    /// Print a text, such as the help, the version or the manual page, and end.
    Print(String),
}

/// What the log contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// Whether to log every request.
    pub debug: bool,
    /// A filter in the notation of `env_logger`, which overrides `debug`.
    pub filter: Option<String>,
}

/// Why the process cannot start, as one sentence: the flag or the variable, what was found there, and what is expected.
#[derive(Debug, Error)]
pub enum CacheConfigError {
    /// The command line has an unknown flag or command, or two settings contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The value of a setting is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A file is missing or wrong.
    #[error("{origin}: {}: {problem}, expected {expected}", path.display())]
    File {
        /// The flag or variable that names the file.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What the file should contain.
        expected: &'static str,
    },
}

/// Reads the command line, the environment, and the files that they name.
pub fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<CacheTask, CacheConfigError> {
    let flags = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(CacheTask::Print(error.render().to_string())),
        Err(error) => return Err(CacheConfigError::Usage(one_line("torrent-cache", &error))),
    };
    let sources = Sources { flags: &flags, env: &env };
    match command::chosen(&flags) {
        Some(ChosenCommand::Healthcheck) => Ok(CacheTask::Healthcheck(listen(&sources))),
        Some(ChosenCommand::Print(document)) => {
            let text = document.text(command(), settings::all(), &[]);
            text.map(CacheTask::Print).map_err(|error| CacheConfigError::Usage(error.to_string()))
        }
        Some(ChosenCommand::Check) => Ok(CacheTask::Check(Box::new(config(&sources)?))),
        None => {
            let log = LogFilter { debug: DEBUG.read(&sources)?, filter: RUST_LOG.read(&sources)? };
            Ok(CacheTask::Serve { config: Box::new(config(&sources)?), log })
        }
    }
}

fn listen(sources: &Sources<'_>) -> Result<SocketAddr, CacheConfigError> {
    Ok(SocketAddr::new(INTERFACE.read(sources)?, PORT.read(sources)?))
}

fn config(sources: &Sources<'_>) -> Result<CacheConfig, CacheConfigError> {
    let listen = listen(sources)?;
    let auth_file = auth_file::given(sources)?;
    Ok(CacheConfig {
        listen,
        tls: tls::given(sources)?,
        upstreams: Arc::new(upstreams(sources)?),
        fetch: fetch(sources)?,
        authorization: authorization(sources, listen.ip(), auth_file.as_ref())?,
        auth_file,
        storage: STORAGE.read(sources)?,
        limits: StoreLimits { quota: STORAGE_QUOTA.read(sources)?, min_free: STORAGE_MIN_FREE.read(sources)? },
        tag_stale: TAG_STALE.read(sources)?,
        max_connections: MAX_CONNECTIONS.read(sources)?,
        client_timeout: CLIENT_TIMEOUT.read(sources)?,
        swarm: swarm(sources)?,
    })
}

fn upstreams(sources: &Sources<'_>) -> Result<Upstreams, CacheConfigError> {
    let location = REGISTRY_LOCATION.read(sources)?;
    let is_plain = REGISTRY_NO_SSL.read(sources)?.unwrap_or(false);
    let host = location.split_once("://").map_or(location.as_str(), |(_, host)| host);
    let location = if is_plain { format!("http://{host}") } else { location.clone() };
    // The setting has already been parsed as an origin, so this does not fail.
    let default: UpstreamOrigin =
        location.parse().map_err(|error| CacheConfigError::Usage(format!("REGISTRY_LOCATION {error}")))?;
    Ok(Upstreams::new(default, UPSTREAMS.read(sources)?.unwrap_or_default()))
}

fn fetch(sources: &Sources<'_>) -> Result<FetchOptions, CacheConfigError> {
    let file = CA_FILE.given(sources)?;
    let authorities = file.map(|file| {
        Authorities::read(&file.value).map_err(|error| CacheConfigError::Usage(format!("{}: {error}", file.origin)))
    });
    let options = FetchOptions::new(authorities.transpose()?.as_ref()).map_err(CacheConfigError::Usage)?;
    let timeout = UPSTREAM_TIMEOUT.read(sources)?;
    let connect_timeout = CONNECT_TIMEOUT.read(sources)?;
    Ok(FetchOptions { connect_timeout, head_timeout: timeout, progress_timeout: timeout, ..options })
}

fn authorization(
    sources: &Sources<'_>,
    listen: IpAddr,
    auth_file: Option<&AuthFile>,
) -> Result<AuthorizationOptions, CacheConfigError> {
    let defaults = AuthorizationOptions::default();
    let networks = CLIENT_NETWORKS.read(sources)?;
    if let Some(file) = auth_file
        && networks.is_none()
        && !listen.is_loopback()
    {
        return Err(CacheConfigError::Usage(format!(
            "{} is set and {listen} is open to other hosts, expected CLIENT_NETWORKS (--client-networks), the networks whose \
             clients may use these logins, or INTERFACE=127.0.0.1",
            file.origin
        )));
    }
    Ok(AuthorizationOptions {
        stale: AUTH_STALE.read(sources)?,
        client_networks: networks.unwrap_or(defaults.client_networks),
        auth_file: auth_file.map(|file| file.path.clone()),
        ..AuthorizationOptions::default()
    })
}

fn swarm(sources: &Sources<'_>) -> Result<SwarmOptions, CacheConfigError> {
    let (first, last) = (TORRENT_FIRST_PORT.read(sources)?, TORRENT_LAST_PORT.read(sources)?);
    if last < first {
        return Err(CacheConfigError::Usage(format!(
            "TORRENT_LAST_PORT is {last} and TORRENT_FIRST_PORT is {first}, expected the last port not to be below the first"
        )));
    }
    let is_given = TRACKER.given(sources)?.is_some() || ETCD_HOST.given(sources)?.is_some();
    let etcd = (ETCD_HOST.read(sources)?, ETCD_PORT.read(sources)?);
    Ok(SwarmOptions {
        tracker: TRACKER.read(sources)?,
        etcd,
        is_given,
        token: TORRENTS_TOKEN.read(sources)?,
        secret: CLUSTER_SECRET.read(sources)?,
        peer_networks: PEER_NETWORKS.read(sources)?,
        ports: first..=last,
    })
}

#[cfg(test)]
mod tests;
