//! The soak test: a tracker under a changing load. It finds leaks, failures and slowdowns.

mod drift;
mod hostile;
mod upstreams;
mod vitals;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use load::http::HttpLoad;
use load::machine::{Cores, Placement};
use load::outcome::LoadOutcome;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::NamedTempFile;

use self::drift::DriftingSwarms;
use self::hostile::HostileClients;
use self::upstreams::UnreliableUpstreams;
use self::vitals::{Vitals, is_flat, mebibytes, swarms_and_peers};
use super::program::{Program, TrackerProcess};

const MINUTE: Duration = Duration::from_mins(1);

/// How often the test reads the tracker's memory and descriptors.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Growth of memory before this time does not count, because each kind of peer and torrent must first have come and gone
/// once.
const WARM: Duration = Duration::from_mins(2);

/// A run of fewer minutes does not fail if memory grows, because the tracker is still filling up.
const LONG: u64 = 20;

/// After the load, all connections must be closed within this time. The tracker keeps clients' connections for at most
/// 30 seconds. It sends `stopped` upstream a minute after the last announces, when their peers have expired.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(2);

/// How many more descriptors may be open after the load than before it.
const SPARE: usize = 3;

/// The load has this many connections, so that one is free for each announce although other announces wait for upstream
/// trackers.
const CONNECTIONS: usize = 256;

/// With hostile clients, each connection has its own source address. Kept connections use the addresses from `KEPT` on.
/// A connection that carries only one request has an address from the range that begins at `CLOSED`.
const KEPT: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const CLOSED: Ipv4Addr = Ipv4Addr::new(127, 1, 4, 1);

// One client in four is hostile.
const _: () = assert!((CONNECTIONS * 2).abs_diff(hostile::COUNT * 3) < 3);

/// How long a reply may take with hostile clients, in milliseconds.
const SLOWEST: f64 = 250.0;

/// Run retracker under a changing load: swarms come and go, and upstream trackers fail and recover.
#[derive(clap::Args)]
pub(super) struct SoakArguments {
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Send this many requests a second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Make one client in four hostile; the others must not notice.
    #[arg(long)]
    hostile: bool,
}

impl SoakArguments {
    pub(super) fn run(&self) -> ExitCode {
        match self.soak() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                println!("failed: {why}");
                ExitCode::FAILURE
            }
        }
    }

    fn soak(&self) -> Result<(), String> {
        let mut upstreams = UnreliableUpstreams::start();
        let file = upstreams.file();
        let path = file.path().to_str().ok_or("the path of the temporary file is not UTF-8")?;
        let log = NamedTempFile::new().map_err(|error| error.to_string())?;
        raise_limit();
        let (server, before) = start(path, &log, self.hostile)?;
        let mut record = Record::default();
        let watched = self.watch(&server, &mut upstreams, &mut record);
        upstreams.change(0);
        let mut failures = record.failures();
        failures.extend(self.hostile.then(|| record.is_prompt().err()).flatten());
        let settled = watched.and_then(|()| {
            failures.extend(self.is_flat(&record.vitals).err());
            settles(&server, before.descriptors)
        });
        failures.extend(settled.err());
        let log = fs::read_to_string(log.path()).map_err(|error| error.to_string())?;
        failures.extend(
            log.lines()
                .find(|line| line.contains("panic"))
                .map(|line| format!("the tracker's log has a panic: {line}")),
        );
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    fn is_flat(&self, vitals: &[Vitals]) -> Result<(), String> {
        let text = match is_flat(vitals, WARM.min(MINUTE * self.minutes as u32 / 4)) {
            Err(text) if self.minutes >= LONG => return Err(text),
            Err(text) => format!("{text}, but in a run of less than {LONG} minutes memory may grow"),
            Ok(text) => text,
        };
        println!("{text}");
        Ok(())
    }

    /// Keeps the load running, and prints one line per minute.
    fn watch(
        &self,
        server: &TrackerProcess,
        upstreams: &mut UnreliableUpstreams,
        record: &mut Record,
    ) -> Result<(), String> {
        println!(
            "minute | RSS MiB | descriptors | threads | swarms | peers | replies | errors | slowest ms | asked upstream"
        );
        let start = Instant::now();
        let over = AtomicBool::new(false);
        let target = server.address;
        let hostile = HostileClients::new(target, start);
        thread::scope(|scope| {
            if self.hostile {
                hostile.start(scope, &over);
            }
            let (kept, closed) = (mpsc::channel(), mpsc::channel());
            for (close, sender) in [(false, kept.0), (true, closed.0)] {
                let load = self.load(target, close);
                let over = &over;
                scope
                    .spawn(move || send(&load, self.minutes, DriftingSwarms::new(start, target, close), over, &sender));
            }
            let result: Result<(), String> = (0..self.minutes).try_for_each(|minute| {
                upstreams.change(minute);
                record.watch(server, start, start + MINUTE * (minute as u32 + 1))?;
                let (swarms, peers) = swarms_and_peers(server)?;
                let slowest = record.add([&kept.1, &closed.1])?;
                record.print(minute, swarms, peers, slowest, upstreams.request_counts());
                Ok(())
            });
            over.store(true, Relaxed);
            result
        })?;
        hostile.failure().map_or(Ok(()), Err)
    }

    fn load(&self, target: SocketAddr, close: bool) -> HttpLoad {
        let rate = Some(self.rate / 2.0);
        let first_source = self.hostile.then_some(if close { CLOSED } else { KEPT });
        HttpLoad { connections: CONNECTIONS, close, rate, first_source, relaxed: true, ..HttpLoad::new(target, MINUTE) }
    }
}

/// Starts retracker on both cores with metrics, forwarders and a short peer age. With hostile clients, announces wait a
/// shorter time for upstream trackers, because this wait counts towards the limit on latencies.
fn start(forwards: &str, log: &NamedTempFile, hostile: bool) -> Result<(TrackerProcess, Vitals), String> {
    let args = ["-a", "1", "-t", if hostile { "0.1" } else { "0.3" }, "-p", "-f", forwards];
    let log = log.reopen().map_err(|error| error.to_string())?;
    let cores = Cores::of_this_process();
    let server = Program::retracker().start_logging(&cores, Placement::Both, &args, Stdio::from(log));
    // The tracker closes the descriptors that only the start needs during this pause.
    thread::sleep(Duration::from_secs(1));
    let before = Vitals::of(&server, Duration::ZERO)?;
    println!("started with {} descriptors and {} threads", before.descriptors, before.threads);
    Ok((server, before))
}

/// Raises the limit on open files, because all clients are in this process and the usual limit is too low for them.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        eprintln!("  the limit on open files could not be raised");
    }
}

/// Runs the load for one minute at a time, and sends each outcome to the watching thread.
fn send(
    load: &HttpLoad,
    minutes: u64,
    mut requests: DriftingSwarms,
    over: &AtomicBool,
    outcomes: &Sender<LoadOutcome>,
) {
    for _ in 0..minutes {
        // Sending fails when the watching thread has ended.
        if over.load(Relaxed) || outcomes.send(load.run(&mut requests)).is_err() {
            return;
        }
    }
}

/// The figures so far.
#[derive(Default)]
struct Record {
    vitals: Vec<Vitals>,
    replies: u64,
    errors: BTreeMap<&'static str, u64>,
    /// How long the slowest reply took, in milliseconds.
    slowest: f64,
}

impl Record {
    /// Records memory and descriptors until just before the end of a minute.
    fn watch(&mut self, server: &TrackerProcess, start: Instant, end: Instant) -> Result<(), String> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            thread::sleep(left.min(CHECK_INTERVAL).saturating_sub(Duration::from_millis(500)));
            if !server.is_alive() {
                return Err("the tracker has ended".to_owned());
            }
            self.vitals.push(Vitals::of(server, start.elapsed())?);
            if left <= CHECK_INTERVAL {
                return Ok(());
            }
        }
    }

    /// Adds the outcomes of a minute's two loads. Returns how long the slowest reply took, in milliseconds.
    fn add(&mut self, loads: [&Receiver<LoadOutcome>; 2]) -> Result<f64, String> {
        let mut slowest = 0.0_f64;
        for load in loads {
            let outcome = load.recv().map_err(|_| "the load generator has ended")?;
            self.replies += outcome.replies;
            outcome.errors.iter().for_each(|(why, count)| *self.errors.entry(why).or_default() += count);
            slowest = slowest.max(outcome.quantile(1.0));
        }
        self.slowest = self.slowest.max(slowest);
        Ok(slowest)
    }

    fn print(&self, minute: u64, swarms: u64, peers: u64, slowest: f64, asked: [usize; 3]) {
        let Some(Vitals { resident, descriptors, threads, .. }) = self.vitals.last() else { return };
        let (minute, rss, replies) = (minute + 1, mebibytes(*resident), self.replies);
        let errors: u64 = self.errors.values().sum();
        println!(
            "{minute} | {rss:.1} | {descriptors} | {threads} | {swarms} | {peers} | {replies} | {errors} | {slowest:.0} | {asked:?}"
        );
    }

    /// Fails if a reply was too slow. Prints how long the slowest reply took.
    fn is_prompt(&self) -> Result<(), String> {
        let text = format!("the slowest reply took {:.0} ms; the limit is {SLOWEST} ms", self.slowest);
        if self.slowest > SLOWEST {
            return Err(text);
        }
        println!("{text}");
        Ok(())
    }

    fn failures(&self) -> Vec<String> {
        let errors = self.errors.iter().map(|(why, count)| format!("{count} times: {why}"));
        let silent = (self.replies == 0).then(|| "there was no correct reply".to_owned());
        errors.chain(silent).collect()
    }
}

/// Waits until nearly as few descriptors are open as before the load.
fn settles(server: &TrackerProcess, before: usize) -> Result<(), String> {
    let start = Instant::now();
    loop {
        if !server.is_alive() {
            return Err("the tracker has ended".to_owned());
        }
        let descriptors = Vitals::of(server, Duration::ZERO)?.descriptors;
        let elapsed = start.elapsed();
        if descriptors <= before + SPARE {
            println!("descriptors: {before} before the load, {descriptors} {} s after it", elapsed.as_secs());
            return Ok(());
        }
        if elapsed > SETTLE_TIMEOUT {
            return Err(format!("descriptors: {before} before the load, {descriptors} two minutes after it"));
        }
        thread::sleep(Duration::from_secs(1));
    }
}
