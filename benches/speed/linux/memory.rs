//! What peers take in memory.

use std::thread;
use std::time::Duration;

use super::Bench;
use super::announces::fill;
use super::crowd::Crowd;
use super::machine::{Place, resident};
use super::program::Program;
use super::rounds::{Sample, ours_and};
use super::table::Row;

/// After it, a start is over, and nothing is cleared up any more that filling has left behind.
const SETTLING: Duration = Duration::from_secs(4);

pub(super) fn per_peer(bench: &Bench) -> Result<Vec<Row>, String> {
    const CROWD: Crowd = Crowd::new(100_000, 10);
    let (ours, theirs) = ours_and(bench.opentracker.as_ref(), |program| filled(bench, program, CROWD))?;
    Ok(vec![Row::compared("memory per peer, 1 M peers in 100 k swarms", "B", &ours, theirs.as_ref(), 1.0)])
}

/// The Go original is so slow that it gets fewer.
pub(super) fn go_retracker(bench: &Bench) -> Result<Vec<Row>, String> {
    const CROWD: Crowd = Crowd::new(20_000, 10);
    let (ours, theirs) = ours_and(bench.go_retracker.as_ref(), |program| filled(bench, program, CROWD))?;
    let figure = "memory per peer beside the Go retracker, 200 k peers in 20 k swarms";
    Ok(vec![Row::compared(figure, "B", &ours, theirs.as_ref(), 1.0 / 20.0)])
}

/// Bytes per peer of a crowd, none of whom may be missing.
pub(super) fn filled(bench: &Bench, program: &Program, crowd: Crowd) -> Result<Sample, String> {
    const ASKED: u64 = 50;
    let server = program.start(&bench.cores, Place::Server, &[]);
    // It listens before it has started in full, and reads its code when it first runs it: neither is any peer's.
    fill(&server, Crowd::new(1, 1))?;
    thread::sleep(SETTLING);
    let before = resident(server.pid());
    fill(&server, crowd)?;
    thread::sleep(SETTLING);
    let after = resident(server.pid());
    let (there, expected) = (server.peers_of(crowd, ASKED), ASKED * crowd.peers);
    if there != expected {
        return Err(format!("{there} peers of {expected} are there"));
    }
    let value = after.saturating_sub(before) as f64 / crowd.size() as f64;
    Ok(Sample { value, aside: after as f64, noisy: false })
}
