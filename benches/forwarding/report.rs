//! The table, and what stands in it.

use std::fmt;
use std::time::Duration;

/// One line of the table.
pub(crate) struct Row {
    what: String,
    go: &'static str,
    goal: &'static str,
    measured: String,
    outcome: Outcome,
}

enum Outcome {
    Met,
    /// Of a figure that the machine can spoil.
    AboveGoal,
    Missed,
}

impl Row {
    /// `go` is what the Go retracker does.
    pub(crate) fn new(what: impl Into<String>, go: &'static str, goal: &'static str, measured: String) -> Self {
        Self { what: what.into(), go, goal, measured, outcome: Outcome::Met }
    }

    /// A measurement that has not come to its end.
    pub(crate) fn failed(what: &str) -> Self {
        Self::new(what, "", "", "failed, see above".to_owned()).must(false)
    }

    /// A criterion that holds on every machine.
    pub(crate) fn must(mut self, met: bool) -> Self {
        if !met {
            self.outcome = Outcome::Missed;
        }
        self
    }

    /// A criterion that a busy machine can miss.
    pub(crate) fn should(mut self, met: bool) -> Self {
        if !met && !self.is_missed() {
            self.outcome = Outcome::AboveGoal;
        }
        self
    }

    pub(crate) fn is_missed(&self) -> bool {
        matches!(self.outcome, Outcome::Missed)
    }

    pub(crate) fn print(&self) {
        let Self { what, go, goal, measured, outcome } = self;
        let mark = match outcome {
            Outcome::Met => "",
            Outcome::AboveGoal => " (above the goal: is the machine busy?)",
            Outcome::Missed => " **missed**",
        };
        println!("| {what} | {go} | {goal} | {measured}{mark} |");
    }
}

pub(crate) fn print_head() {
    println!("| what | Go retracker today | goal | measured |\n| --- | --- | --- | --- |");
}

/// Says where the figures come from.
pub(crate) fn print_machine() {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_else(|_| "unknown".to_owned()).trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    println!("\n{cores} cores, kernel {kernel}, load at the end {load}: `cargo bench --bench forwarding`");
}

/// How long announces took.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(all: impl IntoIterator<Item = Duration>) -> Self {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable();
        Self(all)
    }

    /// So many of them are at most that long, as a fraction of all.
    pub(crate) fn quantile(&self, fraction: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * fraction).round() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A time as the table shows it.
pub(crate) struct Ms(pub(crate) Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms", self.0.as_secs_f64() * 1000.0)
    }
}

/// One figure of each round: the one in the middle, and between which they lie.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        Self { median: figures[figures.len() / 2], least: figures[0], most: figures[figures.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.least, self.most)
    }
}
