//! Computes medians, spreads and ratios of figures from several rounds.

use std::fmt;

/// The figures of one tracker in one round.
#[derive(Clone, Copy)]
pub struct Sample {
    /// The figure that is compared.
    pub value: f64,
    /// A second figure, which is only printed.
    pub aside: f64,
    pub noisy: bool,
}

/// The figures of one tracker in all rounds.
#[derive(Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    pub fn values(&self) -> Spread {
        Spread::of(self.0.iter().map(|sample| sample.value))
    }

    pub fn asides(&self) -> Spread {
        Spread::of(self.0.iter().map(|sample| sample.aside))
    }

    pub fn is_noisy(&self) -> bool {
        self.0.iter().any(|sample| sample.noisy)
    }

    /// Returns the ratios of these figures to the other tracker's, round by round, because a disturbance affects both
    /// trackers.
    pub fn over(&self, others: &Self) -> Spread {
        Spread::of(self.0.iter().zip(&others.0).map(|(one, other)| one.value / other.value))
    }
}

/// The median, the minimum and the maximum. From twenty figures on, the first and the third quartile replace the
/// extremes.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let left_out = if figures.len() < 20 { 0 } else { figures.len() / 4 };
        let high = figures.len() - 1 - left_out;
        Self { median: figures[figures.len() / 2], low: figures[left_out], high: figures[high] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { usize::from(self.median < 100.0) };
        let Self { median, low, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}
