//! The command line.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use url::Url;

use super::crowd::Crowd;
use super::load::{Load, Outcome};
use super::machine::{Clock, Cores, Place};
use super::reply::Expect;
use super::requests::{EachOnce, Prepared, Style};
use super::soak::SoakArguments;
use super::udp::{self, Announces, LONGEST, UdpLoad};

/// What announces cost, beside other trackers.
#[derive(Parser)]
#[command(name = "cargo bench --bench speed --", args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    /// What is to be measured; everything if nothing is named.
    pub(super) parts: Vec<String>,
    /// How often a round is carried out at most if other programs disturb it every time.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) tries: u8,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// The load generator alone, for any tracker.
    Load(LoadArguments),
    Soak(SoakArguments),
}

impl Arguments {
    pub(super) fn read() -> Self {
        Self::parse_from(std::env::args().filter(|arg| arg != "--bench"))
    }
}

/// Every peer announces once; then comes the load.
#[derive(clap::Args)]
pub(super) struct LoadArguments {
    /// The tracker's announce URL, which has to begin with http:// unless it is asked over UDP.
    #[arg(long)]
    url: Url,
    /// The tracker's process, whose CPU time is then measured.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Over UDP (BEP 15). The connections are sockets then, and for one minute at most: so long a connection id is good.
    #[arg(long, conflicts_with_all = ["close", "rate", "scrape"])]
    udp: bool,
    /// Announces under way per socket, over UDP.
    #[arg(long, default_value_t = 8)]
    window: usize,
    /// 64, or 16 over UDP.
    #[arg(long)]
    connections: Option<usize>,
    /// A connection for each request.
    #[arg(long)]
    close: bool,
    /// Requests a second, whose latencies are then measured; as fast as the tracker can without it.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 10_000)]
    swarms: u64,
    /// In each swarm.
    #[arg(long, default_value_t = 5)]
    peers: u64,
    #[arg(long, default_value_t = 30)]
    numwant: u32,
    /// Scrapes of so many swarms each in place of announces.
    #[arg(long)]
    scrape: Option<u64>,
}

impl LoadArguments {
    pub(super) fn run(&self) -> ExitCode {
        Cores::of_this_process().stay(Place::Load);
        let Some(target) = self.target() else {
            eprintln!("there is no address behind {}", self.url);
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

    fn load_http(&self, target: SocketAddr) -> Result<(), String> {
        let crowd = Crowd::new(self.swarms, self.peers);
        let style = Style::new(target).path(self.url.path());
        Load::filling(target).run_all(&mut EachOnce::new(crowd, style.clone()))?;
        let style = style.close(self.close).numwant(self.numwant);
        let (mut requests, expect) = match self.scrape {
            Some(at_once) => (Prepared::scrapes(crowd, at_once, &style), Expect::Counts(at_once as usize)),
            None if self.numwant == 0 => (Prepared::announces(crowd, &style), Expect::Anything),
            None => (Prepared::announces(crowd, &style), Expect::Peers),
        };
        let connections = self.connections.unwrap_or(64);
        let Self { close, rate, .. } = *self;
        let load = Load { connections, close, rate, expect, ..Load::new(target, self.length()) };
        self.measure(|| load.run(&mut requests))
    }

    fn load_udp(&self, target: SocketAddr) -> Result<(), String> {
        let crowd = Crowd::new(self.swarms, self.peers);
        udp::fill(target, crowd)?;
        let (sockets, window, alone) = (self.connections.unwrap_or(16), self.window, self.numwant == 0);
        let load = UdpLoad { sockets, window, alone, ..UdpLoad::new(target, self.length().min(LONGEST)) };
        let mut announces = Announces::new(crowd, self.numwant);
        self.measure(|| announces.run(&load))
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn target(&self) -> Option<SocketAddr> {
        (self.url.host_str()?, self.url.port_or_known_default()?).to_socket_addrs().ok()?.next()
    }

    fn measure(&self, run: impl FnOnce() -> Outcome) -> Result<(), String> {
        let clock = self.pid.map(|pid| Clock::start(&[pid]));
        let outcome = run();
        let spent = clock.map(|clock| clock.stop());
        println!("{} right replies, {:.0} /s; errors: {:?}", outcome.replies, outcome.per_second(), outcome.errors);
        if self.udp {
            println!("{} lost", outcome.lost);
        }
        if self.rate.is_some() {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|fraction| outcome.quantile(fraction));
            println!("p50 {p50:.3} ms, p99 {p99:.3} ms, at most {max:.3} ms since each was due");
        }
        if let Some(spent) = spent {
            let cost = spent.tracker.as_secs_f64() / outcome.replies as f64 * 1e6;
            println!("{cost:.2} CPU s per million; others used {:.0} % of a core", spent.others * 100.0);
        }
        outcome.verdict()
    }
}
