//! How long announces take while very many peers expire together.

use std::time::Duration;

use super::Bench;
use super::announces::fill;
use super::crowd::Crowd;
use super::load::Load;
use super::machine::{Clock, Place};
use super::program::Program;
use super::requests::{Prepared, Style};
use super::table::Row;

/// Minutes for which a peer is kept: longer than filling takes.
const AGE: &str = "0.5";

/// From before the first expires until all of them have gone.
const WATCH: Duration = Duration::from_secs(50);

const RATE: f64 = 1000.0;

/// In milliseconds.
const GOAL: f64 = 20.0;

pub(super) fn together(bench: &Bench) -> Result<Vec<Row>, String> {
    [("50 k swarms", Crowd::new(50_000, 10)), ("one swarm", Crowd::new(1, 500_000))]
        .into_iter()
        .map(|(what, crowd)| {
            let figure = format!("slowest announce of 1000 /s while 500 k peers in {what} expire");
            // What fails in one of them is not to hide the other.
            Ok(slowest(bench, &figure, crowd).unwrap_or_else(|why| Row::failed(&figure, &why)))
        })
        .collect()
}

/// The slowest announce of some that stay, which are of the same swarms and of others, while all others expire.
fn slowest(bench: &Bench, figure: &str, crowd: Crowd) -> Result<Row, String> {
    let server = Program::retracker().start(&bench.cores, Place::Server, &["-a", AGE]);
    fill(&server, crowd)?;
    let staying = Crowd { swarms: 100, peers: 10, ..crowd };
    fill(&server, staying)?;
    let full = server.peers_of(crowd, 1);
    let load = Load { rate: Some(RATE), ..Load::new(server.address, WATCH) };
    let mut requests = Prepared::announces(staying, &Style::new(server.address));
    let clock = Clock::start(&[server.pid()]);
    let outcome = load.run(&mut requests);
    let spent = clock.stop();
    let [p99, most] = [0.99, 1.0].map(|fraction| outcome.quantile(fraction));
    let text = format!("{most:.2} ms (p99 {p99:.2} ms)");
    outcome.verdict().map_err(|why| format!("{text}, but {why}"))?;
    let left = server.peers_of(crowd, 1);
    if left > staying.peers || full < crowd.peers {
        return Err(format!("{text}, but of {full} peers {left} are left: not those expired that should"));
    }
    Ok(Row::new(figure, &text).goal(&format!("≤ {GOAL} ms"), most <= GOAL).noisy(spent.is_disturbed()))
}
