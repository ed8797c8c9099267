//! The CPU time of announces and scrapes, and their latency.

use std::cell::RefCell;
use std::time::Duration;
use std::{iter, thread};

use load::crowd::Crowd;
use load::figures::{Sample, Samples};
use load::http::HttpLoad;
use load::http::reply::Expect;
use load::http::requests::{EachOnce, LoadSource, PreparedRequests, RequestStyle, UniformAnnounces};
use load::machine::{Placement, Priority};
use load::table::Row;

use super::bench::Bench;
use super::cells::{self, CELLS, LoadCell};
use super::program::{Program, TrackerProcess};
use super::rounds::{self, Measured, ROUNDS, by_turns, ours_and};

/// The length of a round. A short round would be inexact, because the kernel counts CPU time in hundredths of a second.
pub(super) const LENGTH: Duration = Duration::from_secs(4);

/// The most announces that are written before the measurement.
const PREPARED: u64 = 100_000;

pub(super) const COST: &str = "CPU s/1 M";

pub(super) fn keepalive(bench: &Bench) -> Result<Vec<Row>, String> {
    cost(bench, "announces over kept connections", false)
}

pub(super) fn close(bench: &Bench) -> Result<Vec<Row>, String> {
    cost(bench, "announces, a connection each", true)
}

fn cost(bench: &Bench, figure: &str, close: bool) -> Result<Vec<Row>, String> {
    let prepare = |program: &Program, &LoadCell { crowd, numwant, place }: &LoadCell| {
        let server = program.start(&bench.cores, place, &[]);
        fill(&server, crowd)?;
        let style = RequestStyle::new(server.address).close(close).numwant(numwant);
        // A million prepared announces would take half a gigabyte.
        let requests: Box<dyn LoadSource> = if crowd.size() > PREPARED {
            Box::new(UniformAnnounces::new(crowd, style))
        } else {
            Box::new(PreparedRequests::announces(crowd, &style))
        };
        Ok((server, RefCell::new(requests)))
    };
    let worst = cells::worst(&CELLS, bench.opentracker.as_ref(), prepare, |(server, requests)| {
        let load = HttpLoad { close, ..HttpLoad::new(server.address, LENGTH) };
        rounds::measure(server, || load.run(&mut **requests.borrow_mut())).map(|measured| sample(&measured))
    })?;
    Ok(worst.rows(figure, COST, 0.95))
}

/// Measures latencies. The trackers take many turns of one second, and the median counts, because other programs
/// disturb some seconds.
pub(super) fn latency(bench: &Bench) -> Result<Vec<Row>, String> {
    const SECONDS: usize = 20;
    let programs: Vec<_> = iter::once(Program::retracker()).chain(bench.opentracker.clone()).collect();
    let start =
        || programs.iter().map(|program| warm(bench, program, Placement::Server)).collect::<Result<Vec<_>, _>>();
    let mut most = f64::INFINITY;
    for server in start()? {
        most = most.min(announce(&server, false)?.outcome.per_second());
    }
    let rate = (most / 2.0 / 1000.0).round() * 1000.0;
    let mut samples: Vec<_> = programs.iter().map(|_| Samples::default()).collect();
    for _ in 0..ROUNDS {
        let servers = start()?;
        let mut loads: Vec<_> = servers.iter().map(|server| (server, usual(server, false))).collect();
        for _ in 0..SECONDS {
            for ((server, requests), samples) in loads.iter_mut().zip(&mut samples) {
                samples.0.push(latency_of(server, requests, rate)?);
            }
        }
    }
    let mut samples = samples.into_iter();
    let (ours, theirs) = (samples.next().unwrap_or_default(), samples.next());
    let figure = format!("p99 of announces at {rate} /s");
    let median = Row::new(&format!("p50 of announces at {rate} /s"), &format!("{} ms", ours.asides()));
    let median = theirs.iter().fold(median, |row, theirs| row.theirs(format!("{} ms", theirs.asides())));
    Ok(vec![Row::compared(&figure, "ms", &ours, theirs.as_ref(), 1.0), median])
}

fn latency_of(server: &TrackerProcess, requests: &mut PreparedRequests, rate: f64) -> Result<Sample, String> {
    let load = HttpLoad { rate: Some(rate), ..HttpLoad::new(server.address, Duration::from_secs(1)) };
    let mut alone = true;
    let Measured { outcome, spent } = rounds::measure(server, || {
        // The load runs on a thread of its own, which gets real-time priority. So later measurements run without it.
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let alone = Priority::Process(server.pid()).raise() && Priority::ThisThread.raise();
                (alone, load.run(requests))
            });
            let (is_alone, outcome) = load.join().unwrap();
            alone &= is_alone;
            outcome
        })
    })?;
    if !alone {
        eprintln!("  latencies were measured without real-time priority, which needs root and chrt");
    }
    let noisy = !alone || spent.is_disturbed();
    Ok(Sample { value: outcome.quantile(0.99), aside: outcome.quantile(0.5), noisy })
}

pub(super) fn scrape(bench: &Bench) -> Result<Vec<Row>, String> {
    const AT_ONCE: u64 = 64;
    let (ours, theirs) = ours_and(bench.opentracker.as_ref(), |program| {
        let server = warm(bench, program, Placement::Server)?;
        let mut requests = PreparedRequests::scrapes(Crowd::USUAL, AT_ONCE, &RequestStyle::new(server.address));
        let load = HttpLoad { expect: Expect::Counts(AT_ONCE as usize), ..HttpLoad::new(server.address, LENGTH) };
        rounds::measure(&server, || load.run(&mut requests)).map(|measured| sample(&measured))
    })?;
    Ok(vec![Row::compared("scrapes of 64 swarms", COST, &ours, theirs.as_ref(), 1.0)])
}

/// Compares two figures of retracker.
pub(super) fn against(figure: &str, ours: &Samples, other: &Samples, goal: f64) -> Row {
    let row = Row::new(figure, &format!("{} {COST}", ours.values())).theirs(format!("ours: {} {COST}", other.values()));
    row.ratio(ours.over(other), goal).noisy(ours.is_noisy() || other.is_noisy())
}

/// Compares two instances of retracker: one has far more swarms than fit in the CPU's caches, the other has few. Both
/// are filled once, and then measured by turns.
pub(super) fn growth(bench: &Bench) -> Result<Vec<Row>, String> {
    let start = |crowd| {
        let server = Program::retracker().start(&bench.cores, Placement::Server, &["--max-peers", "20000000"]);
        fill(&server, crowd).map(|()| (server, crowd))
    };
    let many = start(Crowd::new(1_000_000, 10))?;
    let few = start(Crowd::new(10_000, 10))?;
    let [many, few] = by_turns(&[many, few], |(server, crowd)| {
        let mut requests = UniformAnnounces::new(*crowd, RequestStyle::new(server.address));
        rounds::measure(server, || HttpLoad::new(server.address, LENGTH).run(&mut requests))
            .map(|measured| sample(&measured))
    })?;
    Ok(vec![against("announces of 10 M peers in 1 M swarms, against 100 k in 10 k", &many, &few, 1.15)])
}

/// Compares retracker with the Go retracker: first with swarms of the usual size, then with some very large swarms,
/// because the Go retracker returns all peers of a swarm.
pub(super) fn go_retracker(bench: &Bench) -> Result<Vec<Row>, String> {
    let (ours, theirs) = ours_and(bench.go_retracker.as_ref(), |program| {
        let server = warm(bench, program, Placement::Server)?;
        announce(&server, false).map(|measured| sample(&measured))
    })?;
    let same = Row::compared("announces, beside the Go retracker", COST, &ours, theirs.as_ref(), 1.0 / 30.0);
    let crowd = Crowd { skewed: true, ..Crowd::USUAL };
    let (ours, theirs) = ours_and(bench.go_retracker.as_ref(), |program| {
        let server = program.start(&bench.cores, Placement::Server, &[]);
        fill(&server, crowd)?;
        // A reply may have an empty list, because many swarms have only one peer.
        let load = HttpLoad { expect: Expect::Anything, ..HttpLoad::new(server.address, LENGTH) };
        let mut requests = PreparedRequests::announces(crowd, &RequestStyle::new(server.address));
        rounds::measure(&server, || load.run(&mut requests)).map(|measured| sample(&measured))
    })?;
    let figure = "announces, beside the Go retracker, popular swarms being large";
    Ok(vec![same, Row::compared(figure, COST, &ours, theirs.as_ref(), 1.0 / 30.0)])
}

/// Starts a tracker and announces all peers of the usual crowd to it.
pub(super) fn warm(bench: &Bench, program: &Program, place: Placement) -> Result<TrackerProcess, String> {
    let server = program.start(&bench.cores, place, &[]);
    fill(&server, Crowd::USUAL)?;
    Ok(server)
}

/// Announces each peer of a crowd once, with `numwant=0`.
pub(super) fn fill(server: &TrackerProcess, crowd: Crowd) -> Result<(), String> {
    let style = RequestStyle::new(server.address).numwant(0);
    HttpLoad::filling(server.address)
        .run_all(&mut EachOnce::new(crowd, style))
        .map_err(|why| format!("{}: {why}", server.name))
}

fn announce(server: &TrackerProcess, close: bool) -> Result<Measured, String> {
    let load = HttpLoad { close, ..HttpLoad::new(server.address, LENGTH) };
    let mut requests = usual(server, close);
    rounds::measure(server, || load.run(&mut requests))
}

pub(super) fn usual(server: &TrackerProcess, close: bool) -> PreparedRequests {
    PreparedRequests::announces(Crowd::USUAL, &RequestStyle::new(server.address).close(close))
}

pub(super) fn sample(measured: &Measured) -> Sample {
    let Measured { outcome, spent } = measured;
    Sample { value: measured.cost(), aside: outcome.per_second(), noisy: spent.is_disturbed() }
}
