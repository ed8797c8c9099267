//! The command line of the benchmark.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use load::crowd::{Crowd, CrowdNetwork};
use load::http::HttpLoad;
use load::http::reply::Expect;
use load::http::requests::{EachOnce, PreparedRequests, RequestStyle};
use load::machine::{Cores, CpuClock, Placement};
use load::outcome::LoadOutcome;
use load::udp::{self, MAX_LENGTH, PreparedAnnounces, UdpLoad};
use url::Url;

use super::soak::SoakArguments;

/// Measures the cost of announces, compared with other trackers.
#[derive(Parser)]
#[command(name = "cargo bench --bench speed --", args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// The parts to measure [default: all].
    pub(super) parts: Vec<String>,
    /// Run a round at most this many times if other programs disturb it.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) tries: u8,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Run the load generator alone, against any tracker.
    Load(LoadArguments),
    Soak(SoakArguments),
}

impl Arguments {
    pub(super) fn read() -> Self {
        Self::parse_from(std::env::args().filter(|arg| arg != "--bench"))
    }
}

/// Announce every peer once, and then run the load.
#[derive(clap::Args)]
pub(super) struct LoadArguments {
    /// The tracker's announce URL; it begins with http:// unless --udp is given.
    #[arg(long)]
    url: Url,
    /// Measure the CPU time of the process with this id, which must be the tracker's.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Use UDP (BEP 15), with one socket for each connection. The load lasts one minute at most, because a connection
    /// id is valid for one minute.
    #[arg(long, conflicts_with_all = ["close", "rate", "scrape"])]
    udp: bool,
    /// Announces under way per socket, with --udp.
    #[arg(long, default_value_t = 8)]
    window: usize,
    /// Connections [default: 64, or 16 with --udp].
    #[arg(long)]
    connections: Option<usize>,
    /// Open a connection for each request.
    #[arg(long)]
    close: bool,
    /// Send this many requests a second and measure latencies [default: as fast as the tracker answers].
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 10_000)]
    swarms: u64,
    /// Peers in each swarm.
    #[arg(long, default_value_t = 5)]
    peers: u64,
    #[arg(long, default_value_t = 30)]
    numwant: u32,
    /// Where the peers are: each at an address of its own, or all in one /24 or one /64.
    #[arg(long, default_value = "many", value_parser = network())]
    network: CrowdNetwork,
    /// Make peer ids random from the first byte on.
    #[arg(long)]
    random_ids: bool,
    /// Send scrapes instead of announces; each scrape is for this many swarms.
    #[arg(long)]
    scrape: Option<u64>,
}

fn network() -> impl TypedValueParser<Value = CrowdNetwork> {
    PossibleValuesParser::new(["many", "one-v4", "one-v6"]).map(|name| match name.as_str() {
        "one-v4" => CrowdNetwork::OneV4,
        "one-v6" => CrowdNetwork::OneV6,
        _ => CrowdNetwork::Many,
    })
}

impl LoadArguments {
    pub(super) fn run(&self) -> ExitCode {
        Cores::of_this_process().pin(Placement::Load);
        let Some(target) = self.target() else {
            eprintln!("found no address for {}", self.url);
            return ExitCode::FAILURE;
        };
        let result = if self.udp { self.load_udp(target) } else { self.load_http(target) };
        result.map_or_else(
            |why| {
                eprintln!("{why}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        )
    }

    fn crowd(&self) -> Crowd {
        let Self { network, random_ids, .. } = *self;
        Crowd { network, random_ids, ..Crowd::new(self.swarms, self.peers) }
    }

    fn load_http(&self, target: SocketAddr) -> Result<(), String> {
        let crowd = self.crowd();
        let style = RequestStyle::new(target).path(self.url.path());
        HttpLoad::filling(target).run_all(&mut EachOnce::new(crowd, style.clone()))?;
        let style = style.close(self.close).numwant(self.numwant);
        let (mut requests, expect) = match self.scrape {
            Some(at_once) => (PreparedRequests::scrapes(crowd, at_once, &style), Expect::Counts(at_once as usize)),
            None if self.numwant == 0 => (PreparedRequests::announces(crowd, &style), Expect::Anything),
            None => (PreparedRequests::announces(crowd, &style), Expect::Peers),
        };
        let connections = self.connections.unwrap_or(64);
        let Self { close, rate, .. } = *self;
        let load = HttpLoad { connections, close, rate, expect, ..HttpLoad::new(target, self.length()) };
        self.measure(|| load.run(&mut requests))
    }

    fn load_udp(&self, target: SocketAddr) -> Result<(), String> {
        let crowd = self.crowd();
        udp::fill(target, crowd)?;
        let (sockets, window, may_be_empty) = (self.connections.unwrap_or(16), self.window, self.numwant == 0);
        let load = UdpLoad { sockets, window, may_be_empty, ..UdpLoad::new(target, self.length().min(MAX_LENGTH)) };
        let mut announces = PreparedAnnounces::new(crowd, self.numwant);
        self.measure(|| load.run(&mut announces))
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn target(&self) -> Option<SocketAddr> {
        (self.url.host_str()?, self.url.port_or_known_default()?).to_socket_addrs().ok()?.next()
    }

    fn measure(&self, run: impl FnOnce() -> LoadOutcome) -> Result<(), String> {
        let clock = self.pid.map(|pid| CpuClock::start(&[pid]));
        let outcome = run();
        let spent = clock.map(|clock| clock.stop());
        println!("{} correct replies, {:.0} /s; errors: {:?}", outcome.replies, outcome.per_second(), outcome.errors);
        if self.udp {
            println!("{} announces without a reply", outcome.lost);
        }
        if self.rate.is_some() {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|fraction| outcome.quantile(fraction));
            println!("p50 {p50:.3} ms, p99 {p99:.3} ms, slowest {max:.3} ms, counted from when each request was due");
        }
        if let Some(spent) = spent {
            let cost = spent.tracker.as_secs_f64() / outcome.replies as f64 * 1e6;
            println!(
                "{cost:.2} CPU s per million replies; other programs used {:.0} % of a core",
                spent.others * 100.0
            );
        }
        outcome.verdict()
    }
}
