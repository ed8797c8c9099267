//! How figures are taken: by turns, in several rounds, and again when the machine had something else to do.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::load::Outcome;
use super::machine::{Clock, Spent, wait_for_quiet};
use super::program::{Program, Server};

pub(crate) const ROUNDS: usize = 3;

/// How often a round is carried out at most that is disturbed every time; the command line may say otherwise.
pub(crate) static TRIES: AtomicUsize = AtomicUsize::new(6);

/// One load, and what it cost.
pub(crate) struct Measured {
    pub(crate) outcome: Outcome,
    pub(crate) spent: Spent,
}

impl Measured {
    /// CPU seconds of the tracker per million replies.
    pub(crate) fn cost(&self) -> f64 {
        self.spent.tracker.as_secs_f64() / self.outcome.replies as f64 * 1e6
    }
}

/// Measures until nothing has disturbed it, or it has been tried often enough. A wrong reply fails it.
pub(crate) fn measure(server: &Server, run: impl FnMut() -> Outcome) -> Result<Measured, String> {
    measure_all(std::slice::from_ref(server), run)
}

/// The same with several trackers, of one kind, at once.
pub(crate) fn measure_all(servers: &[Server], mut run: impl FnMut() -> Outcome) -> Result<Measured, String> {
    let pids: Vec<_> = servers.iter().map(Server::pid).collect();
    let name = servers.first().map_or("nothing", |server| server.name);
    let mut best: Option<Measured> = None;
    for _ in 0..TRIES.load(Relaxed) {
        wait_for_quiet(&pids);
        let measured = once(name, &pids, &mut run)?;
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

/// Measures, whatever else the machine does.
fn once(name: &str, pids: &[u32], run: impl FnOnce() -> Outcome) -> Result<Measured, String> {
    let clock = Clock::start(pids);
    let outcome = run();
    let measured = Measured { outcome, spent: clock.stop() };
    measured.outcome.verdict().map_err(|why| format!("{name}: {why}"))?;
    let (cost, others) = (measured.cost(), measured.spent.others * 100.0);
    eprintln!("  {name}: {cost:.2} CPU s/1 M, {others:.0} % of a core for others");
    Ok(measured)
}

/// What one round says of one tracker.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// The figure that is compared.
    pub(crate) value: f64,
    /// One more, for information.
    pub(crate) aside: f64,
    pub(crate) noisy: bool,
}

/// A tracker's figures of all rounds.
#[derive(Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    pub(crate) fn values(&self) -> Spread {
        Spread::of(self.0.iter().map(|sample| sample.value))
    }

    pub(crate) fn asides(&self) -> Spread {
        Spread::of(self.0.iter().map(|sample| sample.aside))
    }

    pub(crate) fn is_noisy(&self) -> bool {
        self.0.iter().any(|sample| sample.noisy)
    }

    /// Round by round, since what disturbs a round of one disturbs that of the other.
    pub(crate) fn over(&self, others: &Self) -> Spread {
        Spread::of(self.0.iter().zip(&others.0).map(|(one, other)| one.value / other.value))
    }
}

/// Takes the figures of all of them by turns.
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

/// Ours and, if it is there, another tracker by turns.
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

/// The figure in the middle, and between which the others lie; of twenty or more, half of them.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let left_out = if figures.len() < 20 { 0 } else { figures.len() / 4 };
        let most = figures.len() - 1 - left_out;
        Self { median: figures[figures.len() / 2], least: figures[left_out], most: figures[most] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { usize::from(self.median < 100.0) };
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}
