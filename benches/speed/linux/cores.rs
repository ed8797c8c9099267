//! The cost of a second worker.
//!
//! A process with two workers is compared with two processes that have one worker and one core each. In both cases the
//! load generator uses the same two cores, so it disturbs both alike. One process can cost more than two processes for
//! only two reasons: its workers share data, and the kernel moves its workers between cores.

use std::thread;

use load::figures::Sample;
use load::http::HttpLoad;
use load::machine::Placement;
use load::outcome::LoadOutcome;
use load::table::Row;

use super::announces::{LENGTH, against, sample, usual, warm};
use super::bench::Bench;
use super::program::Program;
use super::rounds::{self, by_turns};

/// Threads of the load generator: one for each core.
const LOADS: usize = 2;

/// Connections of each thread.
const CONNECTIONS: usize = 32;

const ALONE: &[Placement] = &[Placement::Server];
const WORKERS: &[Placement] = &[Placement::Both];
const PROCESSES: &[Placement] = &[Placement::Server, Placement::Load];

pub(super) fn two(bench: &Bench) -> Result<Vec<Row>, String> {
    let samples = by_turns(&[ALONE, WORKERS, PROCESSES], |places| announced(bench, places));
    bench.cores.pin(Placement::Load);
    let [alone, workers, processes] = samples?;
    let figure = "announces with two workers on two cores, which the load generator shares";
    Ok(vec![
        against(&format!("{figure}, against one on one"), &workers, &alone, 1.10),
        against(&format!("{figure}, against two processes that share nothing"), &workers, &processes, 1.10),
    ])
}

/// Starts one process at each placement, and measures all of them together.
fn announced(bench: &Bench, places: &[Placement]) -> Result<Sample, String> {
    let ours = Program::retracker();
    let servers = places.iter().map(|&place| warm(bench, &ours, place)).collect::<Result<Vec<_>, _>>()?;
    bench.cores.pin(if places == ALONE { Placement::Load } else { Placement::Both });
    let mut loads: Vec<_> = servers
        .iter()
        .cycle()
        .take(LOADS)
        .map(|server| {
            (HttpLoad { connections: CONNECTIONS, ..HttpLoad::new(server.address, LENGTH) }, usual(server, false))
        })
        .collect();
    let measured = rounds::measure_all(&servers, || {
        thread::scope(|scope| {
            let threads: Vec<_> = loads.iter_mut().map(|(load, requests)| scope.spawn(|| load.run(requests))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).fold(LoadOutcome::empty(), LoadOutcome::and)
        })
    });
    measured.map(|measured| sample(&measured))
}
