//! Reads the configuration: flags, environment variables and the files that they name become one checked, immutable
//! [`Config`]. A flag overrides its variable. An empty variable is unset.

mod access;
mod addresses;
pub mod chihaya;
mod command;
mod dns;
mod error;
mod explain;
mod file;
mod forwarders;
mod networks;
mod sections;
pub mod settings;
mod share;
mod tls;
mod torrents;
mod values;
mod yaml;
mod zones;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::settings::{Document, Origin, Sources, one_line};

use crate::access::AccessOptions;
use crate::forward::{ForwardOptions, ForwarderOptions, UpstreamProxies};
use crate::frontend::chihaya_pages::ChihayaPages;
use crate::frontend::client_address::ClientAddressOptions;
use crate::frontend::connections::{ConnectionLimits, ConnectionOptions};
use crate::frontend::hosts::HostName;
use crate::frontend::listen::{Listen, UdpListenAddr};
use crate::frontend::routes::TrackerPaths;
use crate::frontend::settings_in_force::SettingInForce;
use crate::frontend::shutdown::DRAIN;
use crate::frontend::udp::connection_id::SharedKey;
use crate::share_link::ShareOptions;
use crate::store::StoreOptions;
use crate::topology::Topology;
use crate::tracker::{Policy, RequestLimits};

pub use self::access::AccessFile;
pub use self::command::command;
pub use self::dns::{DnsName, DnsOptions, ReverseZone};
pub use self::error::ConfigError;
pub use self::explain::{ExplainOptions, JwtText};
pub use self::tls::{Tls, TlsFiles};
pub use self::torrents::TorrentsOptions;

use self::chihaya::{ChihayaFile, ChihayaRules};
use self::command::Chosen;
use self::settings::{
    ADMIN_LISTEN, ALLOWED_HOSTS, ANNOUNCE_INTERVAL, CHIHAYA, DEBUG, FORWARD_TIMEOUT, FORWARDS, IP_PARAM, LISTEN,
    LOCAL_ONLY_AFTER, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MAX_EXCHANGES, MAX_PEERS, PEER_AGE, PROMETHEUS,
    RUST_LOG, UDP_LISTEN, UDP_SECRET,
};

/// The settings with which the process serves.
#[derive(Debug)]
pub struct Config {
    /// Where to listen, for clients and for operators.
    pub listen: Vec<Listen>,
    /// The certificate; `None` if no listener is for TLS.
    pub tls: Option<Tls>,
    /// Where to listen for UDP; may be empty.
    pub udp_listen: Vec<UdpListenAddr>,
    /// The key of UDP's connection ids; `None` if each process makes its own key.
    pub udp_key: Option<SharedKey>,
    /// How many connections there may be, and how long clients may take.
    pub connections: ConnectionOptions,
    /// The limits of connections at listeners for operators.
    pub operator_connections: ConnectionLimits,
    /// How long requests under way may take to finish after a stop signal.
    pub drain: Duration,
    /// How long local peers are kept, and how many.
    pub store: StoreOptions,
    /// How announces are answered: the interval, `ip=`, few upstream peers for some clients, and limits.
    pub policy: Policy,
    /// Upstream trackers; `None` if no forwarders file is given.
    pub forward: Option<Forward>,
    /// Who may announce; `None` if everybody may.
    pub access: Option<AccessRules>,
    /// The zones and external addresses. They decide under which address a client gets a peer.
    pub topology: Topology,
    /// The paths of announces and scrapes; `None` if they are the usual ones.
    pub routes: Option<TrackerPaths>,
    /// Which proxies are trusted to name the client.
    pub client_address: ClientAddressOptions,
    /// Names under which the operator's pages are served, beside local names.
    pub allowed_hosts: Vec<HostName>,
    /// Torrent files and leases of shared blobs; `None` without `--torrents`.
    pub torrents: Option<TorrentsOptions>,
    /// How the instances share their swarms; `None` if this instance does not.
    pub share: Option<ShareOptions>,
    /// The pages of Chihaya; `None` if no Chihaya file is in use.
    pub chihaya: Option<ChihayaPages>,
    /// Whether `/metrics` is served.
    pub prometheus: bool,
    /// Every setting, with its value and where the value comes from.
    pub settings: Vec<SettingInForce>,
    /// Warnings about the configuration, for the log.
    pub warnings: Vec<String>,
}

/// The access rules, and where they are configured.
#[derive(Debug)]
pub struct AccessRules {
    /// The file, to be read again when it has changed.
    pub file: AccessSource,
    /// The rules at the start.
    pub options: AccessOptions,
    /// The proxies through which keys are fetched.
    pub proxies: UpstreamProxies,
}

/// A file with access rules.
#[derive(Clone, Debug)]
pub enum AccessSource {
    /// `access.yml`.
    Own(AccessFile),
    /// A Chihaya file.
    Chihaya(ChihayaRules),
}

impl AccessSource {
    /// Reads and checks the rules in the file.
    pub fn read(&self) -> Result<AccessOptions, ConfigError> {
        match self {
            Self::Own(file) => file.read(),
            Self::Chihaya(rules) => rules.read(),
        }
    }
}

impl fmt::Display for AccessSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(file) => file.fmt(f),
            Self::Chihaya(rules) => rules.fmt(f),
        }
    }
}

/// The upstream trackers, and where they are configured.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The file, to be read again when it has changed.
    pub file: ForwardsFile,
    /// The upstream trackers in the file, and the settings for all of them.
    pub options: ForwardOptions,
}

/// The path of `forwarders.yml`.
#[derive(Clone, Debug)]
pub struct ForwardsFile {
    /// The flag or variable that named the file.
    origin: Origin,
    path: PathBuf,
}

impl ForwardsFile {
    fn given(sources: &Sources<'_>) -> Result<Option<Self>, ConfigError> {
        Ok(FORWARDS.given(sources)?.map(|file| Self { origin: file.origin, path: file.value }))
    }

    /// Reads and checks the file.
    pub fn read(&self) -> Result<Vec<ForwarderOptions>, ConfigError> {
        forwarders::read(self.origin, &self.path)
    }
}

impl fmt::Display for ForwardsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// What the process is to do.
#[derive(Debug)]
pub enum Task {
    /// Serve.
    Serve {
        /// The settings.
        config: Box<Config>,
        /// What to log.
        log: LogOptions,
    },
    /// Run a command and end.
    Run(Subcommand),
    /// Print a text, the help or the version, and end.
    Print(String),
}

/// What to do instead of serving.
#[derive(Debug)]
pub enum Subcommand {
    /// Ask a running instance whether it is healthy.
    Healthcheck {
        /// Where to ask: operators' addresses if there are any, else clients'. A wrong value counts as no answer:
        /// Docker knows only the exit codes 0 and 1.
        listen: Result<Vec<Listen>, ConfigError>,
    },
    /// Print what became of each key of Chihaya's file, and ask each upstream tracker once. Fetch the keys for tokens,
    /// and try the shared server.
    Check {
        /// Chihaya's file, if one was given.
        chihaya: Option<Box<ChihayaFile>>,
        /// The upstream trackers; `None` if no forwarders file is given.
        forwarders: Option<Vec<ForwarderOptions>>,
        /// The access rules; `None` if no file of access rules is given.
        access: Option<Box<AccessOptions>>,
        /// How the instances share their swarms; `None` if this instance does not.
        share: Option<Box<ShareOptions>>,
        /// The proxies through which upstream trackers are asked and keys are fetched.
        proxies: UpstreamProxies,
        /// How long an announce may wait for upstream trackers.
        deadline: Duration,
        /// Whether only the files are to be checked.
        offline: bool,
    },
    /// Print DNS records with which clients find the tracker.
    Dns(DnsOptions),
    /// Ask a running instance which peers of a torrent a client gets, and why.
    Explain(ExplainOptions),
    /// Print the manual page or the completions of a shell.
    Print(Document),
}

/// What to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Whether to log what happens to each request.
    pub debug: bool,
    /// A filter in the notation of `env_logger`, which overrides `debug`.
    pub filter: Option<String>,
}

/// Reads the command line, the environment, and the files that they name.
pub fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Task, ConfigError> {
    let args = args.into_iter().filter(|argument| !chihaya::is_verbosity(argument));
    let flags = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Task::Print(error.render().to_string())),
        Err(error) => return Err(ConfigError::Usage(one_line("retracker", &error))),
    };
    let sources = Sources { flags: &flags, env: &env };
    match command::chosen(&flags) {
        None => serve(&sources),
        Some(chosen) => subcommand(chosen, &sources).map(Task::Run),
    }
}

fn subcommand(chosen: Chosen<'_>, sources: &Sources<'_>) -> Result<Subcommand, ConfigError> {
    match chosen {
        Chosen::Healthcheck => Ok(Subcommand::Healthcheck { listen: health(sources) }),
        Chosen::Check { offline } => check(sources, offline),
        Chosen::Dns(arguments) => dns::options(arguments, sources).map(Subcommand::Dns),
        Chosen::Explain(arguments) => explain::options(arguments, sources, health(sources)?).map(Subcommand::Explain),
        Chosen::Print(document) => Ok(Subcommand::Print(document)),
    }
}

fn health(sources: &Sources<'_>) -> Result<Vec<Listen>, ConfigError> {
    if let Some(file) = chihaya(sources)? {
        return file.checked().map(chihaya::serving::health);
    }
    let operators = ADMIN_LISTEN.read(sources)?;
    Ok(operators.map_or_else(|| LISTEN.read(sources), Ok)?)
}

fn serve(sources: &Sources<'_>) -> Result<Task, ConfigError> {
    let (listen, admin) = (LISTEN.read(sources)?, ADMIN_LISTEN.read(sources)?);
    let prometheus = PROMETHEUS.read(sources)? || admin.is_some();
    let admin = admin.unwrap_or_default();
    let (torrents, torrents_listen) = torrents::given(sources)?;
    let interval = ANNOUNCE_INTERVAL.read(sources)?;
    let requests = RequestLimits { ip_param: IP_PARAM.read(sources)?, ..RequestLimits::default() };
    let mut config = Config {
        udp_listen: UDP_LISTEN.read(sources)?.unwrap_or_default(),
        connections: ConnectionOptions {
            total: MAX_CONNECTIONS.read(sources)?,
            per_address: MAX_CONNECTIONS_PER_ADDRESS.read(sources)?,
            ..ConnectionOptions::default()
        },
        operator_connections: ConnectionLimits::OPERATORS,
        drain: DRAIN,
        udp_key: UDP_SECRET.read(sources)?,
        store: StoreOptions {
            peer_age: PEER_AGE.read(sources)?,
            announce_interval: Duration::from_secs(interval.into()),
            max_peers: MAX_PEERS.read(sources)?,
        },
        policy: Policy {
            http: requests,
            udp: requests,
            local_only_after: LOCAL_ONLY_AFTER.read(sources)?,
            ..Policy::every(interval)
        },
        access: access(sources)?,
        forward: forward(sources)?,
        topology: addresses::topology(sources)?,
        client_address: addresses::client_address(sources, &listen)?,
        allowed_hosts: ALLOWED_HOSTS.read(sources)?.unwrap_or_default(),
        routes: None,
        chihaya: None,
        prometheus,
        settings: settings::in_force(sources),
        warnings: Vec::new(),
        tls: tls::given(sources, listen.iter().chain(&admin).chain(&torrents_listen))?,
        torrents,
        share: share::given(sources, None)?,
        listen: listen.into_iter().chain(admin.into_iter().map(Listen::for_operators)).collect(),
    };
    if let Some(file) = chihaya(sources)? {
        chihaya::serving::refuse_covered(sources)?;
        chihaya::serving::apply(&mut config, &file, sources)?;
    }
    config.listen.extend(torrents_listen);
    let log = LogOptions { debug: DEBUG.read(sources)?, filter: RUST_LOG.read(sources)? };
    Ok(Task::Serve { config: Box::new(config), log })
}

fn access(sources: &Sources<'_>) -> Result<Option<AccessRules>, ConfigError> {
    let Some(file) = AccessFile::given(sources)? else { return Ok(None) };
    let options = file.read()?;
    Ok(Some(AccessRules { file: AccessSource::Own(file), options, proxies: UpstreamProxies::from_env(&sources.env) }))
}

fn forward(sources: &Sources<'_>) -> Result<Option<Forward>, ConfigError> {
    // These settings are read even if nothing is forwarded, because a wrong value must keep the tracker from starting.
    let (deadline, max_exchanges) = (FORWARD_TIMEOUT.read(sources)?, MAX_EXCHANGES.read(sources)?);
    let Some(file) = ForwardsFile::given(sources)? else { return Ok(None) };
    let options = ForwardOptions {
        forwarders: file.read()?,
        deadline,
        peer_age: PEER_AGE.read(sources)?,
        max_exchanges,
        proxies: UpstreamProxies::from_env(&sources.env),
    };
    Ok(Some(Forward { file, options }))
}

fn check(sources: &Sources<'_>, offline: bool) -> Result<Subcommand, ConfigError> {
    let (forwards, access) = (ForwardsFile::given(sources)?, AccessFile::given(sources)?);
    let chihaya = chihaya(sources)?;
    let named = chihaya.as_ref().and_then(|file| file.checked().ok()?.share.clone());
    let share = share::given(sources, named)?;
    if forwards.is_none() && access.is_none() && chihaya.is_none() && share.is_none() {
        return Err(ConfigError::Usage(NOTHING_TO_CHECK.to_owned()));
    }
    let deadline = FORWARD_TIMEOUT.read(sources)?;
    Ok(Subcommand::Check {
        chihaya: chihaya.map(Box::new),
        forwarders: forwards.map(|file| file.read()).transpose()?,
        access: access.map(|file| file.read().map(Box::new)).transpose()?,
        share: share.map(Box::new),
        proxies: UpstreamProxies::from_env(&sources.env),
        deadline,
        offline,
    })
}

fn chihaya(sources: &Sources<'_>) -> Result<Option<ChihayaFile>, ConfigError> {
    let Some(file) = CHIHAYA.given(sources)? else { return Ok(None) };
    ChihayaFile::read(file.origin, &file.value, CHIHAYA.expected, sources.env).map(Some)
}

const NOTHING_TO_CHECK: &str = "there is nothing to check, expected a forwarders file with -f or FORWARDS_FILE, access rules \
                                with --access or ACCESS_FILE, a server with --share or SHARE_URL, or Chihaya's file with \
                                --chihaya or CHIHAYA_CONFIG";
