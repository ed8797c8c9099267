//! The table that a benchmark prints.

use crate::figures::{Samples, Spread};

/// One row of the table.
pub struct Row {
    figure: String,
    ours: String,
    theirs: String,
    ratio: String,
    goal: String,
    noisy: bool,
    missed: bool,
    failed: bool,
}

impl Row {
    /// Makes a row with a figure beside the same figure of another tracker. `theirs` is `None` if the other tracker is
    /// not installed.
    pub fn compared(figure: &str, unit: &str, ours: &Samples, theirs: Option<&Samples>, goal: f64) -> Self {
        let row = Self::new(figure, &format!("{} {unit}", ours.values())).noisy(ours.is_noisy());
        match theirs {
            None => Self { theirs: "not on this machine".to_owned(), goal: goal_text(goal), ..row },
            Some(theirs) => Self {
                theirs: format!("{} {unit}", theirs.values()),
                noisy: row.noisy || theirs.is_noisy(),
                ..row.ratio(ours.over(theirs), goal)
            },
        }
    }

    /// Makes a row with a figure that is not compared.
    pub fn new(figure: &str, ours: &str) -> Self {
        Self {
            figure: figure.to_owned(),
            ours: ours.to_owned(),
            theirs: String::new(),
            ratio: String::new(),
            goal: String::new(),
            noisy: false,
            missed: false,
            failed: false,
        }
    }

    pub fn theirs(self, theirs: String) -> Self {
        Self { theirs, ..self }
    }

    pub fn ratio(self, ratio: Spread, goal: f64) -> Self {
        Self { ratio: ratio.to_string(), missed: ratio.median > goal, goal: goal_text(goal), ..self }
    }

    /// Sets a goal that is not a ratio.
    pub fn goal(self, goal: &str, met: bool) -> Self {
        Self { goal: goal.to_owned(), missed: !met, ..self }
    }

    pub fn noisy(self, noisy: bool) -> Self {
        Self { noisy, ..self }
    }

    /// Makes a row for a measurement that failed, because replies were wrong or missing.
    pub fn failed(figure: &str, why: &str) -> Self {
        Self { failed: true, ..Self::new(figure, why) }
    }

    pub fn is_failed(&self) -> bool {
        self.failed
    }

    pub fn print(&self) {
        let Self { figure, ours, theirs, ratio, goal, noisy, missed, failed } = self;
        let marks = [(*noisy, " noisy"), (*missed, " above the goal"), (*failed, " **failed**")];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        println!("| {figure} | {ours} | {theirs} | {ratio} | {goal}{marks} |");
    }
}

fn goal_text(goal: f64) -> String {
    format!("≤ {goal:.2}")
}

pub fn print_head(ours: &str, theirs: &str) {
    println!("| figure | {ours} | {theirs} | ratio | goal |\n| --- | --- | --- | --- | --- |");
}
