//! The loads with which a figure is measured. A tracker can be good with one load and bad with another, so the table has
//! the figure of the load with the worst ratio.

use std::fmt;

use load::crowd::{Crowd, CrowdNetwork};
use load::figures::{Sample, Samples};
use load::machine::Placement;
use load::table::Row;

use super::program::Program;
use super::rounds::by_turns;

/// A load, and the cores of the tracker that gets it.
#[derive(Clone, Copy)]
pub(super) struct LoadCell {
    pub(super) crowd: Crowd,
    pub(super) numwant: u32,
    /// On both cores, a tracker has two workers, and the load generator shares a core with one of them.
    pub(super) place: Placement,
}

/// A million peers in small swarms.
pub(super) const MILLION: Crowd = Crowd::new(100_000, 10);
/// The same peers in one network.
pub(super) const LAN: Crowd = Crowd { network: CrowdNetwork::OneV4, ..MILLION };
/// A million peers in large swarms.
const LARGE: Crowd = Crowd { network: CrowdNetwork::OneV4, ..Crowd::new(1_000, 1_000) };

pub(super) const CELLS: [LoadCell; 9] = [
    LoadCell::of(Crowd::USUAL),
    LoadCell::of(Crowd { network: CrowdNetwork::OneV4, ..Crowd::USUAL }),
    LoadCell::of(MILLION),
    LoadCell::of(LAN),
    LoadCell::of(Crowd { network: CrowdNetwork::OneV6, ..MILLION }),
    LoadCell::of(Crowd { random_ids: true, ..LAN }),
    LoadCell { numwant: 50, ..LoadCell::of(LARGE) },
    LoadCell { numwant: 200, ..LoadCell::of(LARGE) },
    LoadCell { place: Placement::Both, ..LoadCell::of(LAN) },
];

impl LoadCell {
    pub(super) const fn of(crowd: Crowd) -> Self {
        Self { crowd, numwant: 30, place: Placement::Server }
    }
}

impl fmt::Display for LoadCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crowd, numwant, place } = self;
        let network = match crowd.network {
            CrowdNetwork::Many => "many networks",
            CrowdNetwork::OneV4 => "one /24",
            CrowdNetwork::OneV6 => "one /64",
        };
        let ids = if crowd.random_ids { ", random ids" } else { "" };
        let workers = if *place == Placement::Both { ", two workers" } else { "" };
        let (swarms, peers) = (crowd.swarms, crowd.peers);
        write!(f, "{swarms} swarms of {peers} peers in {network}{ids}, numwant {numwant}{workers}")
    }
}

/// What the trackers' figures were in one cell.
pub(super) struct CellSamples {
    cell: LoadCell,
    ours: Samples,
    /// `None` if the other tracker is not installed.
    theirs: Option<Samples>,
}

impl CellSamples {
    /// Returns the ratio of our figure to the other tracker's, or our figure if there is no other tracker.
    fn badness(&self) -> f64 {
        self.theirs.as_ref().map_or_else(|| self.ours.values().median, |theirs| self.ours.over(theirs).median)
    }

    pub(super) fn row(&self, figure: &str, unit: &str, goal: f64) -> Row {
        Row::compared(&format!("{figure}, {}", self.cell), unit, &self.ours, self.theirs.as_ref(), goal)
    }

    /// Returns the row, and a row with the announces per second.
    pub(super) fn rows(&self, figure: &str, unit: &str, goal: f64) -> Vec<Row> {
        let most = Row::new(&format!("{figure}: at most"), &format!("{} /s", self.ours.asides()));
        let most = self.theirs.iter().fold(most, |row, theirs| row.theirs(format!("{} /s", theirs.asides())));
        vec![self.row(figure, unit, goal), most]
    }
}

/// Measures retracker and another tracker with each load, and returns the figures of the load with the worst ratio.
/// `prepare` starts and fills a tracker, and `sample` measures it.
pub(super) fn worst<T>(
    cells: &[LoadCell],
    rival: Option<&Program>,
    prepare: impl Fn(&Program, &LoadCell) -> Result<T, String>,
    sample: impl Fn(&T) -> Result<Sample, String>,
) -> Result<CellSamples, String> {
    let mut all = Vec::new();
    for &cell in cells {
        let ours = prepare(&Program::retracker(), &cell)?;
        let (ours, theirs) = match rival.map(|rival| prepare(rival, &cell)).transpose()? {
            None => {
                let [ours] = by_turns(&[ours], &sample)?;
                (ours, None)
            }
            Some(theirs) => {
                let [ours, theirs] = by_turns(&[ours, theirs], &sample)?;
                (ours, Some(theirs))
            }
        };
        let measured = CellSamples { cell, ours, theirs };
        eprintln!("  {cell}: {:.2}", measured.badness());
        all.push(measured);
    }
    all.into_iter().max_by(|one, other| one.badness().total_cmp(&other.badness())).ok_or_else(|| "no load".to_owned())
}
