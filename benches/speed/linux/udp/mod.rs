//! Announces over UDP (BEP 15), beside other trackers.

mod batch;
mod datagram;
mod load;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Bench;
use super::announces::{COST, LENGTH, sample};
use super::crowd::{Crowd, Turns};
use super::load::Outcome;
use super::program::{Program, Server};
use super::rounds::{self, ours_and};
use super::table::Row;

pub(super) use self::load::{LONGEST, UdpLoad};

/// Numbers that no row compares: announces with a reply, and without.
type Counts = BTreeMap<&'static str, (u64, u64)>;

pub(super) fn announces(bench: &Bench) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut counts = Counts::new();
    let mut rivals = vec![("opentracker", bench.opentracker.as_ref())];
    rivals.extend(bench.aquatic_udp.as_ref().map(|program| ("aquatic_udp", Some(program))));
    for (name, rival) in rivals {
        let figure = format!("announces over UDP, beside {name}");
        let (ours, theirs) = ours_and(rival, |program| cost(bench, program, &mut counts))?;
        rows.push(Row::compared(&figure, COST, &ours, theirs.as_ref(), 1.0));
        let most = Row::new(&format!("{figure}: at most"), &format!("{} /s", ours.asides()));
        rows.push(theirs.iter().fold(most, |row, theirs| row.theirs(format!("{} /s", theirs.asides()))));
    }
    rows.extend(counts.iter().map(|(name, (replies, lost))| {
        let parts = *lost as f64 / (replies + lost) as f64 * 1e6;
        Row::new(&format!("announces over UDP that {name} did not answer"), &format!("{parts:.1} in 1 M"))
    }));
    Ok(rows)
}

fn cost(bench: &Bench, program: &Program, counts: &mut Counts) -> Result<rounds::Sample, String> {
    let server = program.start_udp(&bench.cores)?;
    fill(server.address, Crowd::USUAL).map_err(|why| format!("{}: {why}", server.name))?;
    let load = UdpLoad::new(server.address, LENGTH);
    let mut announces = Announces::new(Crowd::USUAL, 30);
    let measured = rounds::measure(&server, || announces.run(&load))?;
    let (replies, lost) = counts.entry(server.name).or_default();
    *replies += measured.outcome.replies;
    *lost += measured.outcome.lost;
    Ok(sample(&measured))
}

/// Has all of a crowd announce once, who want no peers yet.
pub(super) fn fill(target: SocketAddr, crowd: Crowd) -> Result<(), String> {
    let load = UdpLoad { alone: true, ..UdpLoad::new(target, LONGEST) };
    let outcome = load.run(&mut (0..crowd.size()).map(|number| datagram::announce(crowd.peer(number), 0)));
    outcome.verdict()?;
    if outcome.replies == crowd.size() { Ok(()) } else { Err(format!("{} announces were lost", outcome.lost)) }
}

/// Announces of a crowd, written beforehand.
pub(super) struct Announces {
    datagrams: Vec<datagram::Announce>,
    turns: Turns,
}

impl Announces {
    pub(super) fn new(crowd: Crowd, numwant: u32) -> Self {
        let write = |number| datagram::announce(crowd.peer(number), numwant);
        Self { datagrams: (0..crowd.size()).map(write).collect(), turns: Turns::of(crowd) }
    }

    pub(super) fn run(&mut self, load: &UdpLoad) -> Outcome {
        let Self { datagrams, turns } = self;
        load.run(&mut std::iter::repeat_with(|| datagrams[turns.next()]))
    }
}

/// Waits until a tracker gives connection ids.
pub(super) fn wait_for(server: &Server, patience: Duration) -> Result<(), String> {
    load::connect(server.address, patience).map(drop).map_err(|why| format!("{}: {why}", server.name))
}
