//! The CPU time of announces over UDP (BEP 15), compared with other trackers.

use load::crowd::Crowd;
use load::figures::Sample;
use load::table::Row;
use load::udp::{PreparedAnnounces, UdpLoad, fill};

use super::announces::{COST, LENGTH, sample};
use super::bench::Bench;
use super::program::Program;
use super::rounds::{self, ours_and};

use std::collections::BTreeMap;

/// For each tracker: how many announces got a reply, and how many got none.
type ReplyCounts = BTreeMap<&'static str, (u64, u64)>;

pub(super) fn announces(bench: &Bench) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut counts = ReplyCounts::new();
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

fn cost(bench: &Bench, program: &Program, counts: &mut ReplyCounts) -> Result<Sample, String> {
    let server = program.start_udp(&bench.cores, &[])?;
    fill(server.address, Crowd::USUAL).map_err(|why| format!("{}: {why}", server.name))?;
    let load = UdpLoad::new(server.address, LENGTH);
    let mut announces = PreparedAnnounces::new(Crowd::USUAL, 30);
    let measured = rounds::measure(&server, || load.run(&mut announces))?;
    let (replies, lost) = counts.entry(server.name).or_default();
    *replies += measured.outcome.replies;
    *lost += measured.outcome.lost;
    Ok(sample(&measured))
}
