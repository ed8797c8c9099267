//! What became of each key of a file.

use std::fmt;

use super::known;
use super::scalars::shown;
use super::tree::{ConfigNode, KeyedNode, Place};

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong.
    Fine,
    /// The effect differs from what the file says, or the operator should know it.
    Warning,
    /// Something that restricts access is not in force.
    NotInForce,
    /// The value is wrong, and the tracker does not start with it.
    Error,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub(super) place: Place,
    /// How serious the finding is.
    pub severity: Severity,
    /// The key, its value and what became of the key.
    pub text: String,
}

/// `line 3: warning: http.shards: 16 never meant anything`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.severity {
            Severity::Fine => "",
            Severity::Warning => "warning: ",
            Severity::NotInForce => "NOT IN FORCE: ",
            Severity::Error => "error: ",
        };
        write!(f, "line {}: {label}{}", self.place.line, self.text)
    }
}

/// What became of a known key, as the code that reads the key reports it.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The key has this effect.
    Becomes(String),
    /// The key has no effect, for this reason.
    Nothing(String),
    /// The key has the effect in the first text. The second text is a warning about it.
    Warns(String, String),
    /// The key is meant to restrict access, but has no such effect.
    Lets(String),
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(super) struct Lint {
    findings: Vec<Finding>,
}

impl Lint {
    /// Returns the findings, in the order of the file.
    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.place);
        self.findings
    }

    /// Reports what became of a key.
    pub(super) fn says(&mut self, key: &str, entry: &KeyedNode, outcome: Outcome) {
        self.says_of(key, entry.place, &value(key, &entry.value), outcome);
    }

    fn says_of(&mut self, key: &str, place: Place, value: &str, outcome: Outcome) {
        let (severity, text) = match outcome {
            Outcome::Becomes(what) => (Severity::Fine, format!("-> {what}")),
            Outcome::Nothing(why) => (Severity::Fine, format!("means nothing here: {why}")),
            Outcome::Warns(what, why) if what.is_empty() => (Severity::Warning, why),
            Outcome::Warns(what, why) => (Severity::Warning, format!("-> {what}; {why}")),
            Outcome::Lets(why) => (Severity::NotInForce, why),
        };
        self.push(place, severity, format!("{key}: {value} {text}"));
    }

    /// Reports a key that Chihaya does not know. `restricts` says that the key may be meant to restrict access.
    pub(super) fn unknown(&mut self, key: &str, entry: &KeyedNode, restricts: bool, why: &str) {
        let severity = if restricts { Severity::NotInForce } else { Severity::Warning };
        self.push(entry.place, severity, format!("{}: {} {why}", key.escape_debug(), value(key, &entry.value)));
    }

    /// Reports a warning that is not about one key.
    pub(super) fn warns(&mut self, place: Place, text: impl Into<String>) {
        self.push(place, Severity::Warning, text.into());
    }

    /// Reports something that should restrict access but does not.
    pub(super) fn lets(&mut self, place: Place, text: impl Into<String>) {
        self.push(place, Severity::NotInForce, text.into());
    }

    /// Reports that a value is wrong.
    pub(super) fn error(&mut self, place: Place, text: impl Into<String>) {
        self.push(place, Severity::Error, text.into());
    }

    /// Reports a value that is not what is expected.
    pub(super) fn expected(&mut self, key: &str, node: &ConfigNode, expected: &str) {
        let found = match value(key, node) {
            found if found.starts_with(['"', '[', '(']) || found == A_SECTION => found,
            found => format!("\"{found}\""),
        };
        self.error(node.place, format!("{key} is {found}, expected {expected}"));
    }

    fn push(&mut self, place: Place, severity: Severity, text: String) {
        self.findings.push(Finding { place, severity, text });
    }
}

const A_SECTION: &str = "a section";

fn value(key: &str, node: &ConfigNode) -> String {
    match key.rsplit('.').next() {
        _ if node.is_null() => "(nothing)".to_owned(),
        Some(key) if known::is_secret(key) => "(not shown)".to_owned(),
        _ => shown(node),
    }
}
