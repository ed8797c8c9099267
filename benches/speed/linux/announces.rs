//! What announces and scrapes cost, and how long they take.

use std::time::Duration;
use std::{iter, thread};

use super::Bench;
use super::crowd::Crowd;
use super::load::Load;
use super::machine::{First, Place};
use super::program::{Program, Server};
use super::reply::Expect;
use super::requests::{EachOnce, Prepared, Style, Uniform};
use super::rounds::{self, Measured, ROUNDS, Sample, Samples, by_turns, ours_and};
use super::table::Row;

/// The clock of the CPU ticks a hundred times a second, so that a round has to have many of them.
pub(super) const LENGTH: Duration = Duration::from_secs(4);

pub(super) const COST: &str = "CPU s/1 M";

pub(super) fn keepalive(bench: &Bench) -> Result<Vec<Row>, String> {
    cost(bench, "announces over kept connections", false)
}

pub(super) fn close(bench: &Bench) -> Result<Vec<Row>, String> {
    cost(bench, "announces, a connection each", true)
}

fn cost(bench: &Bench, figure: &str, close: bool) -> Result<Vec<Row>, String> {
    let (ours, theirs) = ours_and(bench.opentracker.as_ref(), |program| {
        let server = warm(bench, program, Place::Server)?;
        announce(&server, close).map(|measured| sample(&measured))
    })?;
    let most = Row::new(&format!("{figure}: at most"), &format!("{} /s", ours.asides()));
    let most = theirs.iter().fold(most, |row, theirs| row.theirs(format!("{} /s", theirs.asides())));
    Ok(vec![Row::compared(figure, COST, &ours, theirs.as_ref(), 1.0), most])
}

/// Both get the same load, which neither is hard pressed by: half of what the slower one can do. Tracker and load generator
/// go before whatever else runs on their cores.
///
/// A second is what others do to the host in it, whichever tracker it belongs to: so there are many, by turns, and the one in
/// the middle counts.
pub(super) fn latency(bench: &Bench) -> Result<Vec<Row>, String> {
    const SECONDS: usize = 20;
    let programs: Vec<_> = iter::once(Program::retracker()).chain(bench.opentracker.clone()).collect();
    let start = || programs.iter().map(|program| warm(bench, program, Place::Server)).collect::<Result<Vec<_>, _>>();
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

fn latency_of(server: &Server, requests: &mut Prepared, rate: f64) -> Result<Sample, String> {
    let load = Load { rate: Some(rate), ..Load::new(server.address, Duration::from_secs(1)) };
    let mut alone = true;
    let Measured { outcome, spent } = rounds::measure(server, || {
        // In a thread of its own, so that what is measured after it does not go before others.
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let alone = First::Process(server.pid()).goes() && First::ThisThread.goes();
                (alone, load.run(requests))
            });
            let (is_alone, outcome) = load.join().unwrap();
            alone &= is_alone;
            outcome
        })
    })?;
    if !alone {
        eprintln!("  not before other programs, which takes root and chrt");
    }
    let noisy = !alone || spent.is_disturbed();
    Ok(Sample { value: outcome.quantile(0.99), aside: outcome.quantile(0.5), noisy })
}

pub(super) fn scrape(bench: &Bench) -> Result<Vec<Row>, String> {
    const AT_ONCE: u64 = 64;
    let (ours, theirs) = ours_and(bench.opentracker.as_ref(), |program| {
        let server = warm(bench, program, Place::Server)?;
        let mut requests = Prepared::scrapes(Crowd::USUAL, AT_ONCE, &Style::new(server.address));
        let load = Load { expect: Expect::Counts(AT_ONCE as usize), ..Load::new(server.address, LENGTH) };
        rounds::measure(&server, || load.run(&mut requests)).map(|measured| sample(&measured))
    })?;
    Ok(vec![Row::compared("scrapes of 64 swarms", COST, &ours, theirs.as_ref(), 1.0)])
}

/// A figure of ours against another one of ours.
pub(super) fn against(figure: &str, ours: &Samples, other: &Samples, goal: f64) -> Row {
    let row = Row::new(figure, &format!("{} {COST}", ours.values())).theirs(format!("ours: {} {COST}", other.values()));
    row.ratio(ours.over(other), goal).noisy(ours.is_noisy() || other.is_noisy())
}

/// Ours with far more swarms than fit in a cache, against ours with few. Both are filled once, and then asked by turns.
pub(super) fn growth(bench: &Bench) -> Result<Vec<Row>, String> {
    let start = |crowd| {
        let server = Program::retracker().start(&bench.cores, Place::Server, &["--max-peers", "20000000"]);
        fill(&server, crowd).map(|()| (server, crowd))
    };
    let many = start(Crowd::new(1_000_000, 10))?;
    let few = start(Crowd::new(10_000, 10))?;
    let [many, few] = by_turns(&[many, few], |(server, crowd)| {
        let mut requests = Uniform::new(*crowd, Style::new(server.address));
        rounds::measure(server, || Load::new(server.address, LENGTH).run(&mut requests))
            .map(|measured| sample(&measured))
    })?;
    Ok(vec![against("announces of 10 M peers in 1 M swarms, against 100 k in 10 k", &many, &few, 1.25)])
}

/// The Go original returns all peers of a swarm, so that it costs the more the more there are in a popular one.
pub(super) fn go_retracker(bench: &Bench) -> Result<Vec<Row>, String> {
    let (ours, theirs) = ours_and(bench.go_retracker.as_ref(), |program| {
        let server = warm(bench, program, Place::Server)?;
        announce(&server, false).map(|measured| sample(&measured))
    })?;
    let same = Row::compared("announces, beside the Go retracker", COST, &ours, theirs.as_ref(), 1.0 / 30.0);
    let crowd = Crowd { grown: true, ..Crowd::USUAL };
    let (ours, theirs) = ours_and(bench.go_retracker.as_ref(), |program| {
        let server = program.start(&bench.cores, Place::Server, &[]);
        fill(&server, crowd)?;
        // Many swarms have one peer only, who is told of nobody.
        let load = Load { expect: Expect::Anything, ..Load::new(server.address, LENGTH) };
        let mut requests = Prepared::announces(crowd, &Style::new(server.address));
        rounds::measure(&server, || load.run(&mut requests)).map(|measured| sample(&measured))
    })?;
    let figure = "announces, beside the Go retracker, popular swarms being large";
    Ok(vec![same, Row::compared(figure, COST, &ours, theirs.as_ref(), 1.0 / 30.0)])
}

/// A tracker that knows all peers of the usual crowd.
pub(super) fn warm(bench: &Bench, program: &Program, place: Place) -> Result<Server, String> {
    let server = program.start(&bench.cores, place, &[]);
    fill(&server, Crowd::USUAL)?;
    Ok(server)
}

/// Has all of a crowd announce once, who want no peers yet.
pub(super) fn fill(server: &Server, crowd: Crowd) -> Result<(), String> {
    let style = Style::new(server.address).numwant(0);
    Load::filling(server.address)
        .run_all(&mut EachOnce::new(crowd, style))
        .map_err(|why| format!("{}: {why}", server.name))
}

fn announce(server: &Server, close: bool) -> Result<Measured, String> {
    let load = Load { close, ..Load::new(server.address, LENGTH) };
    let mut requests = usual(server, close);
    rounds::measure(server, || load.run(&mut requests))
}

pub(super) fn usual(server: &Server, close: bool) -> Prepared {
    Prepared::announces(Crowd::USUAL, &Style::new(server.address).close(close))
}

pub(super) fn sample(measured: &Measured) -> Sample {
    let Measured { outcome, spent } = measured;
    Sample { value: measured.cost(), aside: outcome.per_second(), noisy: spent.is_disturbed() }
}
