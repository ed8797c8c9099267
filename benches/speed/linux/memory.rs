//! Memory per peer.

use std::thread;
use std::time::Duration;

use load::crowd::Crowd;
use load::figures::Sample;
use load::machine::{Placement, resident};
use load::table::Row;

use super::announces::fill;
use super::bench::Bench;
use super::cells::{self, LAN, LoadCell, MILLION};
use super::program::Program;
use super::rounds::ours_and;

/// How long to wait for a tracker to settle: to finish its start, and to free memory that it needed only while it was
/// filled.
const SETTLING: Duration = Duration::from_secs(4);

pub(super) fn per_peer(bench: &Bench) -> Result<Vec<Row>, String> {
    // With two workers, a list may grow on one thread and be freed on the other.
    let cells = [LoadCell::of(MILLION), LoadCell::of(LAN), LoadCell { place: Placement::Both, ..LoadCell::of(LAN) }];
    let start = |program: &Program, cell: &LoadCell| Ok((program.clone(), *cell));
    let worst = cells::worst(&cells, bench.opentracker.as_ref(), start, |(program, LoadCell { crowd, place, .. })| {
        filled(bench, program, *crowd, *place)
    })?;
    Ok(vec![worst.row("memory per peer", "B", 1.0)])
}

/// Compares memory with the Go retracker. Both trackers get fewer peers, because the Go retracker is slow.
pub(super) fn go_retracker(bench: &Bench) -> Result<Vec<Row>, String> {
    const CROWD: Crowd = Crowd::new(20_000, 10);
    let (ours, theirs) =
        ours_and(bench.go_retracker.as_ref(), |program| filled(bench, program, CROWD, Placement::Server))?;
    let figure = "memory per peer beside the Go retracker, 200 k peers in 20 k swarms";
    Ok(vec![Row::compared(figure, "B", &ours, theirs.as_ref(), 1.0 / 20.0)])
}

/// Returns the bytes per peer of a crowd. Fails if the tracker does not have all peers.
pub(super) fn filled(bench: &Bench, program: &Program, crowd: Crowd, place: Placement) -> Result<Sample, String> {
    const ASKED: u64 = 50;
    let server = program.start(&bench.cores, place, &[]);
    // A tracker listens before its start is complete, and the kernel loads code when it first runs. So one peer
    // announces before the first reading: this memory is not the peers'.
    fill(&server, Crowd { swarms: 1, peers: 1, ..crowd })?;
    thread::sleep(SETTLING);
    let before = resident(server.pid());
    fill(&server, crowd)?;
    thread::sleep(SETTLING);
    let after = resident(server.pid());
    let (there, expected) = (server.peers_of(crowd, ASKED), ASKED * crowd.peers);
    if there != expected {
        return Err(format!("the tracker has {there} of {expected} peers"));
    }
    let value = after.saturating_sub(before) as f64 / crowd.size() as f64;
    Ok(Sample { value, aside: after as f64, noisy: false })
}
