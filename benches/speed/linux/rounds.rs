//! How figures are measured: the trackers take turns in several rounds, and a round that other programs disturb is
//! repeated.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use load::figures::{Sample, Samples};
use load::machine::{CpuClock, CpuUsage, wait_for_quiet};
use load::outcome::LoadOutcome;

use super::program::{Program, TrackerProcess};

pub(crate) const ROUNDS: usize = 3;

/// A disturbed round is run at most this many times. `--tries` sets the number.
pub(crate) static TRIES: AtomicUsize = AtomicUsize::new(6);

/// The outcome of a load, and the CPU time that the load took.
pub(crate) struct Measured {
    pub(crate) outcome: LoadOutcome,
    pub(crate) spent: CpuUsage,
}

impl Measured {
    /// Returns the tracker's CPU seconds per million replies.
    pub(crate) fn cost(&self) -> f64 {
        self.spent.tracker.as_secs_f64() / self.outcome.replies as f64 * 1e6
    }
}

/// Repeats the measurement until it is undisturbed, at most [`TRIES`] times. A wrong reply is an error.
pub(crate) fn measure(server: &TrackerProcess, run: impl FnMut() -> LoadOutcome) -> Result<Measured, String> {
    measure_all(std::slice::from_ref(server), run)
}

/// Measures several processes of one tracker at once, as [`measure`] does for one process.
pub(crate) fn measure_all(servers: &[TrackerProcess], run: impl FnMut() -> LoadOutcome) -> Result<Measured, String> {
    let pids: Vec<_> = servers.iter().map(TrackerProcess::pid).collect();
    let name = servers.first().map_or("nothing", |server| server.name);
    measure_beside(name, &pids, &[], run)
}

/// Measures these processes beside their helpers, which disturb nothing.
pub(crate) fn measure_beside(
    name: &str,
    pids: &[u32],
    helpers: &[u32],
    mut run: impl FnMut() -> LoadOutcome,
) -> Result<Measured, String> {
    let mut best: Option<Measured> = None;
    let tries = TRIES.load(Relaxed);
    for _ in 0..tries {
        // A round that is not repeated need not wait either: the machine is known to be busy.
        if tries > 1 {
            wait_for_quiet(&[pids, helpers].concat());
        }
        let measured = once(name, &CpuClock::start_beside(pids, helpers), &mut run)?;
        let disturbed = measured.spent.is_disturbed();
        if best.as_ref().is_none_or(|best| measured.spent.others < best.spent.others) {
            best = Some(measured);
        }
        if !disturbed {
            break;
        }
    }
    best.ok_or_else(|| "nothing was measured".to_owned())
}

/// Runs the load once, and measures the CPU time on this clock.
fn once(name: &str, clock: &CpuClock, run: impl FnOnce() -> LoadOutcome) -> Result<Measured, String> {
    let outcome = run();
    let measured = Measured { outcome, spent: clock.stop() };
    measured.outcome.verdict().map_err(|why| format!("{name}: {why}"))?;
    let (cost, others) = (measured.cost(), measured.spent.others * 100.0);
    eprintln!("  {name}: {cost:.2} CPU s/1 M, {others:.0} % of a core for others");
    Ok(measured)
}

/// Measures each item in turn, in several rounds.
pub(crate) fn by_turns<T, const N: usize>(
    all: &[T; N],
    mut sample: impl FnMut(&T) -> Result<Sample, String>,
) -> Result<[Samples; N], String> {
    let mut samples = std::array::from_fn(|_| Samples::default());
    for _ in 0..ROUNDS {
        for (one, samples) in all.iter().zip(&mut samples) {
            samples.0.push(sample(one)?);
        }
    }
    Ok(samples)
}

/// Measures retracker and, if there is one, another tracker by turns.
pub(crate) fn ours_and(
    other: Option<&Program>,
    mut sample: impl FnMut(&Program) -> Result<Sample, String>,
) -> Result<(Samples, Option<Samples>), String> {
    let ours = Program::retracker();
    let Some(other) = other else {
        let [ours] = by_turns(&[ours], sample)?;
        return Ok((ours, None));
    };
    let [ours, other] = by_turns(&[&ours, other], |program| sample(program))?;
    Ok((ours, Some(other)))
}
