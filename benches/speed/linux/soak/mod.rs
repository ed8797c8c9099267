//! A tracker under a load that changes, for as long as one likes: whether it leaks, fails or grows tired.

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

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::NamedTempFile;

use self::drift::Drifting;
use self::hostile::Hostile;
use self::upstreams::Moody;
use self::vitals::{Vitals, census, is_flat, mebibytes};
use super::load::{Load, Outcome};
use super::machine::{Cores, Place};
use super::program::{Program, Server};

const MINUTE: Duration = Duration::from_mins(1);

/// How often one looks at the tracker.
const LOOK: Duration = Duration::from_secs(5);

/// What grows until then does not count: all kinds of peers and torrents have to come and go once.
const WARM: Duration = Duration::from_mins(2);

/// In less time not everything has come and gone often enough to say whether memory is flat.
const LONG: u64 = 20;

/// How long it may take after the load until no more connections are open than before: clients' are kept for 30 seconds
/// at most, and upstream trackers are told of the last peers a minute after those have gone silent.
const AFTERMATH: Duration = Duration::from_mins(2);

/// Descriptors that may be open besides.
const SPARE: usize = 3;

/// So many that announces that wait for upstream trackers do not keep others from being sent in time.
const CONNECTIONS: usize = 256;

/// Beside hostile clients each connection is a client's with an address of its own, from these on: of those that are kept, and
/// of those for one request each.
const KEPT: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const CLOSED: Ipv4Addr = Ipv4Addr::new(127, 1, 4, 1);

// Three of four mean no harm.
const _: () = assert!((CONNECTIONS * 2).abs_diff(hostile::COUNT * 3) < 3);

/// How long a reply may take beside hostile clients, in milliseconds.
const SLOWEST: f64 = 250.0;

/// One tracker under a load that changes: swarms come and go, upstream trackers fail and come back.
#[derive(clap::Args)]
pub(super) struct SoakArguments {
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// One client in four is hostile, and the others may notice nothing of it.
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
        let mut upstreams = Moody::start();
        let file = upstreams.file();
        let path = file.path().to_str().ok_or("the temporary folder's name is no text")?;
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
        failures.extend(log.lines().find(|line| line.contains("panic")).map(|line| format!("its log says: {line}")));
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    fn is_flat(&self, vitals: &[Vitals]) -> Result<(), String> {
        let text = match is_flat(vitals, WARM.min(MINUTE * self.minutes as u32 / 4)) {
            Err(text) if self.minutes >= LONG => return Err(text),
            Err(text) => format!("{text}, which says nothing in less than {LONG} minutes"),
            Ok(text) => text,
        };
        println!("{text}");
        Ok(())
    }

    /// Keeps the load up, and writes a line a minute.
    fn watch(&self, server: &Server, upstreams: &mut Moody, record: &mut Record) -> Result<(), String> {
        println!(
            "minute | RSS MiB | descriptors | threads | swarms | peers | replies | errors | slowest ms | asked upstream"
        );
        let start = Instant::now();
        let over = AtomicBool::new(false);
        let target = server.address;
        let hostile = Hostile::new(target, start);
        thread::scope(|scope| {
            if self.hostile {
                hostile.start(scope, &over);
            }
            let (kept, closed) = (mpsc::channel(), mpsc::channel());
            for (close, sender) in [(false, kept.0), (true, closed.0)] {
                let load = self.load(target, close);
                let over = &over;
                scope.spawn(move || send(&load, self.minutes, Drifting::new(start, target, close), over, &sender));
            }
            let result: Result<(), String> = (0..self.minutes).try_for_each(|minute| {
                upstreams.change(minute);
                record.look(server, start, start + MINUTE * (minute as u32 + 1))?;
                let (swarms, peers) = census(server)?;
                let slowest = record.add([&kept.1, &closed.1])?;
                record.print(minute, swarms, peers, slowest, upstreams.asked());
                Ok(())
            });
            over.store(true, Relaxed);
            result
        })?;
        hostile.failure().map_or(Ok(()), Err)
    }

    fn load(&self, target: SocketAddr, close: bool) -> Load {
        let rate = Some(self.rate / 2.0);
        let first_source = self.hostile.then_some(if close { CLOSED } else { KEPT });
        Load { connections: CONNECTIONS, close, rate, first_source, relaxed: true, ..Load::new(target, MINUTE) }
    }
}

/// Where nothing is pinned, with forwarders and metrics, and with peers that expire soon. How long an announce may wait for
/// upstream trackers is part of how slow it is, so that beside hostile clients it is less.
fn start(forwards: &str, log: &NamedTempFile, hostile: bool) -> Result<(Server, Vitals), String> {
    let args = ["-a", "1", "-t", if hostile { "0.1" } else { "0.3" }, "-p", "-f", forwards];
    let log = log.reopen().map_err(|error| error.to_string())?;
    let cores = Cores::of_this_process();
    let server = Program::retracker().start_logging(&cores, Place::Both, &args, Stdio::from(log));
    // What the start itself has opened is closed then.
    thread::sleep(Duration::from_secs(1));
    let before = Vitals::of(&server, Duration::ZERO)?;
    println!("started with {} descriptors and {} threads", before.descriptors, before.threads);
    Ok((server, before))
}

/// All clients are in this process: there may be more of them than a process may usually have files open.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        eprintln!("  the limit of open files stays as it is");
    }
}

/// A load a minute, as long as it goes on.
fn send(load: &Load, minutes: u64, mut requests: Drifting, over: &AtomicBool, outcomes: &Sender<Outcome>) {
    for _ in 0..minutes {
        // Fails when nobody watches any more.
        if over.load(Relaxed) || outcomes.send(load.run(&mut requests)).is_err() {
            return;
        }
    }
}

/// What has been seen so far.
#[derive(Default)]
struct Record {
    vitals: Vec<Vitals>,
    replies: u64,
    errors: BTreeMap<&'static str, u64>,
    /// How long the slowest reply took, in milliseconds.
    slowest: f64,
}

impl Record {
    /// Looks at the tracker until just before the end of a minute.
    fn look(&mut self, server: &Server, start: Instant, end: Instant) -> Result<(), String> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            thread::sleep(left.min(LOOK).saturating_sub(Duration::from_millis(500)));
            if !server.is_alive() {
                return Err("the tracker has ended".to_owned());
            }
            self.vitals.push(Vitals::of(server, start.elapsed())?);
            if left <= LOOK {
                return Ok(());
            }
        }
    }

    /// Adds what came of the loads of a minute, and tells how slow the slowest reply was, in milliseconds.
    fn add(&mut self, loads: [&Receiver<Outcome>; 2]) -> Result<f64, String> {
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

    /// Whether no reply was too slow for one beside hostile clients.
    fn is_prompt(&self) -> Result<(), String> {
        let text = format!("the slowest reply took {:.0} ms, of which {SLOWEST} may be", self.slowest);
        if self.slowest > SLOWEST {
            return Err(text);
        }
        println!("{text}");
        Ok(())
    }

    fn failures(&self) -> Vec<String> {
        let errors = self.errors.iter().map(|(why, count)| format!("{count} times: {why}"));
        let silent = (self.replies == 0).then(|| "there was no right reply".to_owned());
        errors.chain(silent).collect()
    }
}

/// Waits until connections are closed. They may go on being opened, but none may stay.
fn settles(server: &Server, before: usize) -> Result<(), String> {
    let start = Instant::now();
    loop {
        if !server.is_alive() {
            return Err("the tracker has ended".to_owned());
        }
        let descriptors = Vitals::of(server, Duration::ZERO)?.descriptors;
        let elapsed = start.elapsed();
        if descriptors <= before + SPARE {
            println!("descriptors: {before} before, {descriptors} {} s after", elapsed.as_secs());
            return Ok(());
        }
        if elapsed > AFTERMATH {
            return Err(format!("descriptors: {before} before, {descriptors} long after"));
        }
        thread::sleep(Duration::from_secs(1));
    }
}
