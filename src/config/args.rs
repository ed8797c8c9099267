//! The command line as it was typed. What the values mean is decided in [`super::read`], where the variables are
//! known too: so every value is text here.

#![allow(clippy::doc_markdown, reason = "the comments are the text of the help, which is no Markdown")]

use clap::{ArgAction, Parser, Subcommand};

/// A BitTorrent tracker for local networks, which also asks your upstream trackers.
///
/// Every setting has a flag and an environment variable; the flag wins. A variable that is set but empty is unset.
#[derive(Debug, Parser)]
#[command(name = "retracker", version, disable_version_flag = true, disable_help_flag = true, max_term_width = 110)]
#[command(disable_help_subcommand = true)]
pub(super) struct Args {
    /// Where to listen: `:8080` (all addresses, IPv4 and IPv6), `127.0.0.1:8080`, `[::1]:8080` or
    /// `unix:/run/retracker.sock`; for proxies that speak the PROXY protocol `proxy+tcp://127.0.0.1:8081` or
    /// `proxy+unix:/run/retracker.sock`. May be repeated; the variable takes a comma-separated list.
    /// [env: LISTEN_ADDR] [default: :80]
    #[arg(short, long, value_name = "ADDRESS", global = true, verbatim_doc_comment)]
    pub(super) listen: Vec<String>,

    /// Where to listen for UDP: `:6969`, `127.0.0.1:6969` or `[::1]:6969`; for proxies that speak the PROXY protocol,
    /// version 2, `proxy+udp://127.0.0.1:6969`. May be repeated; the variable takes a comma-separated list.
    /// [env: UDP_LISTEN_ADDR] [default: none]
    #[arg(short, long, value_name = "ADDRESS", verbatim_doc_comment)]
    pub(super) udp_listen: Vec<String>,

    /// Minutes for which a peer is kept after its latest announce. [env: PEER_AGE] [default: 180]
    #[arg(short = 'a', long, value_name = "MINUTES", allow_hyphen_values = true)]
    pub(super) peer_age: Option<String>,

    /// Seconds after which clients are asked to announce again. [env: ANNOUNCE_INTERVAL] [default: 30]
    #[arg(short = 'i', long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(super) announce_interval: Option<String>,

    /// Take the client's address from the X-Real-IP header, whoever sends it; --trusted-proxies is safer.
    /// [env: X_REAL_IP] [default: false]
    #[arg(short = 'x', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) x_real_ip: Option<String>,

    /// Reverse proxies that are believed whose a request is: addresses and networks, comma-separated.
    /// [env: TRUSTED_PROXIES] [default: none]
    #[arg(long, value_name = "NETWORKS")]
    pub(super) trusted_proxies: Option<String>,

    /// The header in which they say it, such as X-Forwarded-For. [env: REAL_IP_HEADER]
    /// [default: X-Real-IP, X-Forwarded-For and Forwarded, which must agree]
    #[arg(long, value_name = "NAME")]
    pub(super) real_ip_header: Option<String>,

    /// Whose ip= counts: never, private (clients from private networks and this host) or always.
    /// [env: IP_PARAM] [default: private]
    #[arg(long, value_name = "WHOSE")]
    pub(super) ip_param: Option<String>,

    /// Under which public address peers on private networks are told to the rest of the world: one of IPv4, one of
    /// IPv6 or both, comma-separated. [env: EXTERNAL_ADDRESS] [default: none, they are not]
    #[arg(long, value_name = "ADDRESSES")]
    pub(super) external_address: Option<String>,

    /// Seeds of a torrent here from which on clients are told of a few upstream peers only. [env: LOCAL_ONLY_AFTER]
    /// [default: none, they are told of all]
    #[arg(long, value_name = "SEEDS", allow_hyphen_values = true)]
    pub(super) local_only_after: Option<String>,

    /// YAML file with the sites of the network and their addresses outside. [env: ZONES_FILE] [default: none]
    #[arg(long, value_name = "FILE")]
    pub(super) zones: Option<String>,

    /// YAML file with the upstream trackers to ask; read again at SIGHUP. [env: FORWARDS_FILE] [default: none]
    #[arg(short = 'f', long, value_name = "FILE", global = true)]
    pub(super) forwards: Option<String>,

    /// Seconds that an announce may wait for upstream trackers. [env: FORWARD_TIMEOUT] [default: 2]
    #[arg(short = 't', long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(super) forward_timeout: Option<String>,

    /// Exchanges with upstream trackers that may be under way at once; others wait. [env: MAX_EXCHANGES]
    /// [default: what the limit of open files allows]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(super) max_exchanges: Option<String>,

    /// Peers to keep at most; past it, swarms that are rarely asked for are dropped. [env: MAX_PEERS]
    /// [default: 2000000]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(super) max_peers: Option<String>,

    /// Connections that may be open at once; past it, the oldest idle ones give way. [env: MAX_CONNECTIONS]
    /// [default: what the limit of open files allows]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(super) max_connections: Option<String>,

    /// Connections that one address, or one /64 of IPv6, may have open at once; trusted proxies may have any number.
    /// [env: MAX_CONNECTIONS_PER_ADDRESS] [default: three quarters of --max-connections]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(super) max_connections_per_address: Option<String>,

    /// Host names under which /metrics, /forwarders and notices are served, beside addresses and local names:
    /// comma-separated, `*.example.com` for all below, `*` for any. [env: ALLOWED_HOSTS] [default: none]
    #[arg(long, value_name = "NAMES")]
    pub(super) allowed_hosts: Option<String>,

    /// Serve Prometheus metrics at /metrics. [env: ENABLE_PROMETHEUS] [default: false]
    #[arg(short = 'p', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) prometheus: Option<String>,

    /// Log every request and every exchange with an upstream tracker; RUST_LOG overrides it. [env: DEBUG_MODE]
    /// [default: false]
    #[arg(short = 'd', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) debug: Option<String>,

    /// Print the version.
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    /// Print this help.
    #[arg(short = 'h', long, action = ArgAction::HelpShort, global = true)]
    help: Option<bool>,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Command {
    /// Ask the instance that listens at -l / LISTEN_ADDR whether it is well: exit code 0 if so, else 1.
    Healthcheck,
    /// Check the file of forwarders, and ask each of them once: exit code 0 if all answer, else 1.
    Check {
        /// Check the file alone.
        #[arg(long)]
        offline: bool,
    },
}
