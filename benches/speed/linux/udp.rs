//! The CPU time of announces over UDP (BEP 15), compared with other trackers.

use std::cell::RefCell;
use std::collections::BTreeMap;

use load::crowd::CrowdNetwork;
use load::table::Row;
use load::udp::{PreparedAnnounces, UdpLoad, fill};

use super::announces::{COST, LENGTH, sample};
use super::bench::Bench;
use super::cells::{self, CELLS, LoadCell};
use super::program::{Program, TrackerProcess};
use super::rounds;

/// For each tracker: how many announces got a reply, and how many got none.
type ReplyCounts = BTreeMap<&'static str, (u64, u64)>;

pub(super) fn announces(bench: &Bench) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let counts = RefCell::new(ReplyCounts::new());
    for (name, rival, goal) in bench.udp_rivals() {
        let figure = format!("announces over UDP, beside {name}");
        let worst = cells::worst(
            &CELLS,
            rival,
            |program, cell| Prepared::new(bench, program, cell),
            |prepared| {
                let Prepared { server, load, announces } = prepared;
                let measured = rounds::measure(server, || load.run(&mut announces.borrow_mut()))?;
                let mut counts = counts.borrow_mut();
                let (replies, lost) = counts.entry(server.name).or_default();
                *replies += measured.outcome.replies;
                *lost += measured.outcome.lost;
                Ok(sample(&measured))
            },
        )?;
        rows.extend(worst.rows(&figure, COST, goal));
    }
    rows.extend(counts.into_inner().iter().map(|(name, (replies, lost))| {
        let parts = *lost as f64 / (replies + lost) as f64 * 1e6;
        Row::new(&format!("announces over UDP that {name} did not answer"), &format!("{parts:.1} in 1 M"))
    }));
    Ok(rows)
}

/// A tracker that knows all peers of a crowd, and the announces that it will get.
struct Prepared {
    server: TrackerProcess,
    load: UdpLoad,
    announces: RefCell<PreparedAnnounces>,
}

impl Prepared {
    fn new(bench: &Bench, program: &Program, &LoadCell { crowd, numwant, place }: &LoadCell) -> Result<Self, String> {
        let server = program.start_udp(&bench.cores, place, crowd.network == CrowdNetwork::OneV6, &[])?;
        fill(server.address, crowd).map_err(|why| format!("{}: {why}", server.name))?;
        let load = UdpLoad::new(server.address, LENGTH);
        Ok(Self { server, load, announces: RefCell::new(PreparedAnnounces::new(crowd, numwant)) })
    }
}
