//! What a second worker costs.
//!
//! The load generator needs a core of its own, so that on two cores it gets into the workers' way. It gets into the way of two
//! processes as well that have a worker and a core each: what two workers cost more than these is due to what they share, and
//! to the kernel's moving them.

use std::thread;

use super::Bench;
use super::announces::{LENGTH, against, sample, usual, warm};
use super::load::{Load, Outcome};
use super::machine::Place;
use super::program::Program;
use super::rounds::{self, Sample, by_turns};
use super::table::Row;

/// One thread of the load generator for each core.
const LOADS: usize = 2;

/// Of each of them.
const CONNECTIONS: usize = 32;

const ALONE: &[Place] = &[Place::Server];
const WORKERS: &[Place] = &[Place::Both];
const PROCESSES: &[Place] = &[Place::Server, Place::Load];

pub(super) fn two(bench: &Bench) -> Result<Vec<Row>, String> {
    let samples = by_turns(&[ALONE, WORKERS, PROCESSES], |places| announced(bench, places));
    bench.cores.stay(Place::Load);
    let [alone, workers, processes] = samples?;
    let figure = "announces with two workers on two cores, which the load generator shares";
    Ok(vec![
        against(&format!("{figure}, against one on one"), &workers, &alone, 1.10),
        against(&format!("{figure}, against two processes that share nothing"), &workers, &processes, 1.10),
    ])
}

/// With a process in each of these places.
fn announced(bench: &Bench, places: &[Place]) -> Result<Sample, String> {
    let ours = Program::retracker();
    let servers = places.iter().map(|&place| warm(bench, &ours, place)).collect::<Result<Vec<_>, _>>()?;
    bench.cores.stay(if places == ALONE { Place::Load } else { Place::Both });
    let mut loads: Vec<_> = servers
        .iter()
        .cycle()
        .take(LOADS)
        .map(|server| (Load { connections: CONNECTIONS, ..Load::new(server.address, LENGTH) }, usual(server, false)))
        .collect();
    let measured = rounds::measure_all(&servers, || {
        thread::scope(|scope| {
            let threads: Vec<_> = loads.iter_mut().map(|(load, requests)| scope.spawn(|| load.run(requests))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).fold(Outcome::none(), Outcome::and)
        })
    });
    measured.map(|measured| sample(&measured))
}
