//! What was typed, and what it means: flags, environment variables and `forwarders.yml` become one checked, immutable
//! [`Config`]. A flag beats its variable, a variable beats the default; a variable that is set but empty is unset.

mod addresses;
mod args;
mod forwarders;
mod setting;
mod yaml;
mod zones;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use thiserror::Error;

use crate::forward::{ForwardOptions, ForwarderOptions, Proxies};
use crate::frontend::client_address::ClientAddressOptions;
use crate::frontend::connections::ConnectionOptions;
use crate::frontend::hosts::HostName;
use crate::frontend::listen::{Listen, ListenAddr, UdpListenAddr};
use crate::store::StoreOptions;
use crate::topology::Topology;
use crate::tracker::Policy;

use self::args::{Args, Command};
use self::setting::Setting;

/// Everything that the process is told.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; at least one.
    pub listen: Vec<Listen>,
    /// Where to listen for UDP; nowhere unless told. `-u`, `UDP_LISTEN_ADDR`.
    pub udp_listen: Vec<UdpListenAddr>,
    /// How many connections there may be.
    pub connections: ConnectionOptions,
    /// The local peers.
    pub store: StoreOptions,
    /// What clients are granted.
    pub policy: Policy,
    /// Upstream trackers; none without `-f`.
    pub forward: Option<Forward>,
    /// Who is told of whom, and under which address. `--zones`, `ZONES_FILE`; `--external-address`, `EXTERNAL_ADDRESS`;
    /// no zones and no address.
    pub topology: Topology,
    /// Whose word is taken for a client's address.
    pub client_address: ClientAddressOptions,
    /// Names under which the operator's pages are served. `--allowed-hosts`, `ALLOWED_HOSTS`; none beside those that are
    /// always known.
    pub allowed_hosts: Vec<HostName>,
    /// Whether `/metrics` is there. `-p`, `ENABLE_PROMETHEUS`; no.
    pub prometheus: bool,
}

/// The upstream trackers, and where they are configured.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The file, to be read again when it has changed.
    pub file: ForwardsFile,
    /// What it said, and the settings beside it.
    pub options: ForwardOptions,
}

/// `forwarders.yml`, wherever it is. `-f`, `FORWARDS_FILE`.
#[derive(Clone, Debug)]
pub struct ForwardsFile {
    /// The flag or the variable that names it.
    setting: &'static str,
    path: PathBuf,
}

impl ForwardsFile {
    /// Reads and checks it.
    pub fn read(&self) -> Result<Vec<ForwarderOptions>, ConfigError> {
        forwarders::read(self.setting, &self.path)
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
        /// Whether to log what happens to each request. `-d`, `DEBUG_MODE`; no.
        debug: bool,
    },
    /// Ask a running instance whether it is well.
    Healthcheck {
        /// Where it listens. A bad value is not this command's to judge, so that it ends as an instance that does not
        /// answer: Docker knows the exit codes 0 and 1 only.
        listen: Result<Vec<Listen>, ConfigError>,
    },
    /// Ask each upstream tracker once, and tell how it went.
    Check {
        /// The upstream trackers.
        forwarders: Vec<ForwarderOptions>,
        /// The proxies through which they are asked.
        proxies: Proxies,
        /// How long an announce may wait for them.
        deadline: Duration,
        /// Whether the file alone is to be checked.
        offline: bool,
    },
    /// Print a text, the help or the version, and be done.
    Print(String),
}

/// Why the process cannot start. One sentence that names the flag, the variable or the line, what was found
/// there and what is expected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The command line is not one of ours.
    #[error("{0}")]
    Usage(String),
    /// A setting has a value that it cannot have.
    #[error("{setting} is \"{}\", expected {expected}", found.escape_default())]
    Invalid {
        /// The flag or the variable that the value came from.
        setting: &'static str,
        /// The value.
        found: String,
        /// What it can be.
        expected: &'static str,
    },
    /// A file cannot be read.
    #[error("{setting}: {} cannot be read ({error}), expected {expected}", path.display())]
    Unreadable {
        /// The flag or the variable that named the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: String,
        /// What should be in it.
        expected: &'static str,
    },
    /// What is in a file is wrong.
    #[error("{}{}: {problem}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// The line of the value, or that on which its entry begins, where it is known.
        line: Option<usize>,
        /// What was found and what is expected.
        problem: String,
    },
}

/// Reads the command line and the environment, and the file that they name.
pub fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Task, ConfigError> {
    let matches = match Args::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Task::Print(error.render().to_string())),
        Err(error) => return Err(ConfigError::Usage(setting::one_line(&error))),
    };
    let args = Args::from_arg_matches(&matches).map_err(|error| ConfigError::Usage(setting::one_line(&error)))?;

    let listen = listen(&args, &env);
    match args.command {
        Some(Command::Healthcheck) => return Ok(Task::Healthcheck { listen }),
        Some(Command::Check { offline }) => {
            let file = forwards_file(&args, &env).ok_or_else(|| ConfigError::Usage(NOTHING_TO_CHECK.to_owned()))?;
            let (proxies, deadline) = (Proxies::from_env(&env), forward_timeout(&args, &env)?);
            return Ok(Task::Check { forwarders: file.read()?, proxies, deadline, offline });
        }
        None => {}
    }
    let listen = listen?;
    let udp_listen = udp_listen(&args, &env)?;
    let minutes = Setting { flag: "-a/--peer-age", variable: "PEER_AGE" }
        .value(args.peer_age.as_deref(), &env)
        .parse("minutes above 0 and up to 525600, such as 180 or 0.5", |text| in_range(text, 525_600.0))?;
    let interval = Setting { flag: "-i/--announce-interval", variable: "ANNOUNCE_INTERVAL" }
        .value(args.announce_interval.as_deref(), &env)
        .parse("whole seconds from 1 to 86400, such as 30", |text| {
            text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds))
        })?;
    let max_peers = Setting { flag: "--max-peers", variable: "MAX_PEERS" }
        .value(args.max_peers.as_deref(), &env)
        .parse("a whole number from 1 to 1000000000, such as 2000000", |text| {
            text.parse().ok().filter(|peers| (1..=1_000_000_000).contains(peers))
        })?;
    let deadline = forward_timeout(&args, &env)?;
    let max_exchanges = Setting { flag: "--max-exchanges", variable: "MAX_EXCHANGES" }
        .value(args.max_exchanges.as_deref(), &env)
        .parse("a whole number from 1 to 1000000, such as 1024", |text| {
            text.parse().ok().filter(|exchanges| (1..=1_000_000).contains(exchanges))
        })?;
    let local_only_after = Setting { flag: "--local-only-after", variable: "LOCAL_ONLY_AFTER" }
        .value(args.local_only_after.as_deref(), &env)
        .parse("a whole number from 1 to 4294967295, such as 3", |text| text.parse().ok())?;
    let connections = |setting: Setting, given: Option<&str>| {
        setting.value(given, &env).parse("a whole number from 1 to 1000000000, such as 10000", |text| {
            text.parse().ok().filter(|connections| (1..=1_000_000_000).contains(connections))
        })
    };
    let switch = |flag, variable, given: Option<&str>| {
        let value = Setting { flag, variable }.value(given, &env);
        value.parse("true or false (also 1/0, yes/no, on/off)", boolean).map(Option::unwrap_or_default)
    };
    let x_real_ip = switch("-x/--x-real-ip", "X_REAL_IP", args.x_real_ip.as_deref())?;
    let prometheus = switch("-p/--prometheus", "ENABLE_PROMETHEUS", args.prometheus.as_deref())?;
    let debug = switch("-d/--debug", "DEBUG_MODE", args.debug.as_deref())?;
    let peer_age = Duration::from_secs_f64(minutes.unwrap_or(180.0) * 60.0);
    let forward = match forwards_file(&args, &env) {
        None => None,
        Some(file) => {
            let proxies = Proxies::from_env(&env);
            let options = ForwardOptions { forwarders: file.read()?, deadline, peer_age, max_exchanges, proxies };
            Some(Forward { file, options })
        }
    };

    let client_address = addresses::client_address(&args, &env, x_real_ip, &listen)?;
    let allowed_hosts = Setting { flag: "--allowed-hosts", variable: "ALLOWED_HOSTS" }
        .value(args.allowed_hosts.as_deref(), &env)
        .parse("host names such as retracker.example.com,*.example.net, without ports", list)?;

    let config = Config {
        listen,
        udp_listen,
        connections: ConnectionOptions {
            total: connections(TOTAL, args.max_connections.as_deref())?,
            per_address: connections(PER_ADDRESS, args.max_connections_per_address.as_deref())?,
        },
        store: StoreOptions {
            peer_age,
            announce_interval: Duration::from_secs(interval.unwrap_or(30).into()),
            max_peers: max_peers.unwrap_or(2_000_000),
        },
        policy: Policy {
            interval: interval.unwrap_or(30),
            ip_param: addresses::ip_param(&args, &env)?,
            local_only_after,
        },
        forward,
        topology: addresses::topology(&args, &env)?,
        client_address,
        allowed_hosts: allowed_hosts.unwrap_or_default(),
        prometheus,
    };
    Ok(Task::Serve { config: Box::new(config), debug })
}

const TOTAL: Setting = Setting { flag: "--max-connections", variable: "MAX_CONNECTIONS" };
const PER_ADDRESS: Setting = Setting { flag: "--max-connections-per-address", variable: "MAX_CONNECTIONS_PER_ADDRESS" };

const NOTHING_TO_CHECK: &str = "there is nothing to check, expected a file of forwarders with -f or FORWARDS_FILE";

fn forward_timeout(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Result<Duration, ConfigError> {
    let seconds = Setting { flag: "-t/--forward-timeout", variable: "FORWARD_TIMEOUT" }
        .value(args.forward_timeout.as_deref(), env)
        .parse("seconds above 0 and up to 60, such as 2 or 0.5", |text| in_range(text, 60.0))?;
    Ok(Duration::from_secs_f64(seconds.unwrap_or(2.0)))
}

fn forwards_file(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Option<ForwardsFile> {
    let value = Setting { flag: "-f/--forwards", variable: "FORWARDS_FILE" }.value(args.forwards.as_deref(), env);
    value.text.map(|path| ForwardsFile { setting: value.setting, path: path.into() })
}

fn listen(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Result<Vec<Listen>, ConfigError> {
    let value = Setting { flag: "-l/--listen", variable: "LISTEN_ADDR" }.value(joined(&args.listen).as_deref(), env);
    let expected = "addresses such as :8080, 127.0.0.1:8080, [::1]:8080, unix:/run/retracker.sock or proxy+tcp://:8081";
    Ok(value.parse(expected, list)?.unwrap_or_else(|| vec![Listen { address: ListenAddr::AnyTcp(80), proxied: false }]))
}

fn udp_listen(args: &Args, env: &impl Fn(&str) -> Option<OsString>) -> Result<Vec<UdpListenAddr>, ConfigError> {
    let setting = Setting { flag: "-u/--udp-listen", variable: "UDP_LISTEN_ADDR" };
    let value = setting.value(joined(&args.udp_listen).as_deref(), env);
    Ok(value
        .parse("addresses such as :6969, 127.0.0.1:6969, [::1]:6969 or proxy+udp://:6969", list)?
        .unwrap_or_default())
}

/// A flag that may be repeated, as its variable would have it; none when it was not given.
fn joined(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(","))
}

fn list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    setting::items(text)?.map(|item| item.parse().ok()).collect()
}

fn in_range(text: &str, most: f64) -> Option<f64> {
    // A ten-thousandth of a second or a minute: less is a slip.
    text.parse().ok().filter(|number| (0.000_1..=most).contains(number))
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
