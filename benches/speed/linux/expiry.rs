//! The latency of announces while half a million peers expire at once.

use std::time::Duration;

use load::crowd::Crowd;
use load::http::HttpLoad;
use load::http::requests::{PreparedRequests, RequestStyle};
use load::machine::{CpuClock, Placement};
use load::table::Row;

use super::announces::fill;
use super::bench::Bench;
use super::program::Program;

/// The peer age in minutes. It is longer than the tracker takes to fill, so that no peer expires before the measurement.
const AGE: &str = "0.5";

/// The length of the load. It begins before the first peer expires, and ends after all expired peers are removed.
const WATCH: Duration = Duration::from_secs(50);

const RATE: f64 = 1000.0;

/// The goal for the slowest announce, in milliseconds.
const GOAL: f64 = 20.0;

pub(super) fn together(bench: &Bench) -> Result<Vec<Row>, String> {
    [("50 k swarms", Crowd::new(50_000, 10)), ("one swarm", Crowd::new(1, 500_000))]
        .into_iter()
        .map(|(what, crowd)| {
            let figure = format!("slowest announce of 1000 /s while 500 k peers in {what} expire");
            // If one of the two measurements fails, the table still shows the other.
            Ok(slowest(bench, &figure, crowd).unwrap_or_else(|why| Row::failed(&figure, &why)))
        })
        .collect()
}

/// Measures the slowest announce while all peers of `crowd` expire, except those that go on announcing. Some of these are
/// in swarms of `crowd`, and others are in swarms of their own.
fn slowest(bench: &Bench, figure: &str, crowd: Crowd) -> Result<Row, String> {
    let server = Program::retracker().start(&bench.cores, Placement::Server, &["-a", AGE]);
    fill(&server, crowd)?;
    let staying = Crowd { swarms: 100, peers: 10, ..crowd };
    fill(&server, staying)?;
    let full = server.peers_of(crowd, 1);
    let load = HttpLoad { rate: Some(RATE), ..HttpLoad::new(server.address, WATCH) };
    let mut requests = PreparedRequests::announces(staying, &RequestStyle::new(server.address));
    let clock = CpuClock::start(&[server.pid()]);
    let outcome = load.run(&mut requests);
    let spent = clock.stop();
    let [p99, most] = [0.99, 1.0].map(|fraction| outcome.quantile(fraction));
    let text = format!("{most:.2} ms (p99 {p99:.2} ms)");
    outcome.verdict().map_err(|why| format!("{text}, but {why}"))?;
    let left = server.peers_of(crowd, 1);
    if left > staying.peers || full < crowd.peers {
        return Err(format!("{text}, but {left} of the {full} peers of a swarm are left, so the peers did not expire"));
    }
    Ok(Row::new(figure, &text).goal(&format!("≤ {GOAL} ms"), most <= GOAL).noisy(spent.is_disturbed()))
}
