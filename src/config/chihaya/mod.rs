//! Reads Chihaya's own files: `config.json` of v1.0, and both forms of v2's `chihaya.yaml`. A file becomes one
//! [`ChihayaConfig`]. For each key, the linter says what it means here.

mod durations;
mod hooks;
mod keys;
mod known;
mod lint;
mod model;
mod outcomes;
mod path;
mod rules;
mod scalars;
mod sections;
pub(super) mod serving;
mod tree;
mod v1;
mod v2;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use self::lint::{Finding, Severity};
pub use self::model::{
    Approval, ChihayaApi, ChihayaConfig, ChihayaGeneration, ChihayaHttp, ChihayaTls, ChihayaUdp, HttpTimeouts,
    KeySetUrl, PrivateKey, RequestRules, TokenRule,
};
pub use self::rules::ChihayaRules;

use ::settings::Origin;

use self::lint::Lint;
use self::tree::{ConfigNode, KeyedNode, NodeValue, Place};
use super::error::ConfigError;
use super::yaml::{self, Problem};

/// Whether this argument sets the verbosity of v1.0's log, such as `-v=5` in `docker run` lines. The argument has no
/// effect here. `-v` without a value prints the version.
pub(super) fn is_verbosity(argument: &OsStr) -> bool {
    let level = argument.to_str().and_then(|text| text.strip_prefix("-v="));
    level.is_some_and(|level| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A Chihaya file, and what became of each of its keys.
#[derive(Clone, Debug)]
pub struct ChihayaFile {
    /// The flag or variable that named the file.
    origin: Origin,
    path: PathBuf,
    read: ChihayaText,
}

/// The configuration in a text, and what became of each of its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct ChihayaText {
    config: ChihayaConfig,
    findings: Vec<Finding>,
}

impl ChihayaFile {
    /// Reads a file. Returns an error only if the linter cannot go on. A wrong value becomes a finding instead.
    pub(super) fn read(
        origin: Origin,
        path: &Path,
        expected: &'static str,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let path = path::expand(path, env);
        let read = yaml::read(origin, &path, expected, ChihayaText::read)?;
        Ok(Self { origin, path, read })
    }

    /// Returns the configuration, or an error about the first wrong value.
    pub fn checked(&self) -> Result<&ChihayaConfig, ConfigError> {
        match self.read.findings.iter().find(|finding| finding.severity == Severity::Error) {
            None => Ok(&self.read.config),
            Some(Finding { place, text, .. }) => {
                Err(ConfigError::File { path: self.path.clone(), line: Some(place.line), problem: text.clone() })
            }
        }
    }

    /// Returns the linter's warnings, each with the file and the line.
    fn warnings(&self) -> impl Iterator<Item = String> {
        let findings = self.read.findings.iter().filter(|finding| finding.severity > Severity::Fine);
        findings.map(|finding| format!("{} {finding}", self.path.display()))
    }

    /// Returns an error about the file as a whole.
    fn problem(&self, problem: &str) -> ConfigError {
        ConfigError::File { path: self.path.clone(), line: None, problem: problem.to_owned() }
    }

    /// Returns whether every rule of the file about who may announce is in force.
    pub fn restricts_as_written(&self) -> bool {
        self.read.findings.iter().all(|finding| finding.severity < Severity::NotInForce)
    }
}

/// Writes the linter's lines and its verdict.
impl fmt::Display for ChihayaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChihayaText { config, findings } = &self.read;
        writeln!(f, "{}: in the form of Chihaya {}", self.path.display(), config.generation)?;
        findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let verdict = match (count(Severity::Error), count(Severity::NotInForce)) {
            (0, 0) => "All that restricts access is in force".to_owned(),
            (0, lets) => format!("Restrictions of access that are not in force: {lets}"),
            (wrong, _) => format!("Wrong values: {wrong}"),
        };
        writeln!(f, "{verdict}; warnings: {}.", count(Severity::Warning))
    }
}

impl ChihayaText {
    /// Reads the text of a file.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        let mut lint = Lint::default();
        let config = match root(text)? {
            Root::V1(node, rest) => {
                let config = v1::read(section(&node, "an object with keys such as \"announce\"")?, &mut lint);
                after(&mut lint, rest, "what follows the first object is not read");
                config
            }
            Root::V2(node, rest) => {
                let (below, beside) = below_chihaya(&node)?;
                let config = v2::read(below, &mut lint);
                for entry in beside {
                    lint.unknown(&entry.key, entry, false, "means nothing: only what is below chihaya is read");
                }
                after(&mut lint, rest, "a second document begins here, which is not read");
                config
            }
        };
        Ok(Self { config, findings: lint.into_findings() })
    }
}

/// Reads a text that is not in a file. The error is a sentence.
impl FromStr for ChihayaText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|Problem { line, problem }| {
            line.map_or_else(|| problem.clone(), |line| format!("line {line}: {problem}"))
        })
    }
}

/// The values of a file, and the line of any text after them. Chihaya does not read that text.
enum Root {
    V1(ConfigNode, Option<usize>),
    V2(ConfigNode, Option<usize>),
}

/// Finds out for which generation of Chihaya a file is. A file with the top-level key `chihaya` is for v2, even if the
/// file is JSON, because JSON is YAML too. Other JSON is for v1.
fn root(text: &str) -> Result<Root, Problem> {
    let json = match text.trim_start().starts_with('{').then(|| tree::from_json(text)) {
        Some(Ok((node, rest))) if has_chihaya(&node) => return Ok(Root::V2(node, rest)),
        Some(Ok((node, rest))) => return Ok(Root::V1(node, rest)),
        Some(Err(problem)) => Some(problem),
        None => None,
    };
    match (tree::from_yaml(text), json) {
        (Ok((Some(node), rest)), _) if has_chihaya(&node) => Ok(Root::V2(node, rest)),
        (_, Some(problem)) | (Err(problem), None) => Err(problem),
        (Ok(_), None) => Err(Problem { line: Some(1), problem: NO_CHIHAYA.to_owned() }),
    }
}

const NO_CHIHAYA: &str =
    "it has no top-level key chihaya and is no JSON, expected chihaya.yaml of v2 or config.json of v1";

fn has_chihaya(node: &ConfigNode) -> bool {
    matches!(&node.value, NodeValue::Section(entries) if entries.iter().any(|entry| entry.key == CHIHAYA))
}

const CHIHAYA: &str = "chihaya";

fn section<'a>(node: &'a ConfigNode, expected: &str) -> Result<&'a [KeyedNode], Problem> {
    match &node.value {
        NodeValue::Section(entries) => Ok(entries),
        _ => Err(Problem {
            line: Some(node.place.line),
            problem: format!("it is {}, expected {expected}", scalars::shown(node)),
        }),
    }
}

/// Returns the keys below the last `chihaya`, and the top-level keys beside it.
fn below_chihaya(root: &ConfigNode) -> Result<(&[KeyedNode], Vec<&KeyedNode>), Problem> {
    let entries = section(root, "a section with the key chihaya")?;
    let (chihaya, beside): (Vec<_>, _) = entries.iter().partition(|entry| entry.key == CHIHAYA);
    match chihaya.last() {
        Some(entry) if !entry.value.is_null() => Ok((section(&entry.value, "keys below chihaya")?, beside)),
        _ => Ok((&[], beside)),
    }
}

fn after(lint: &mut Lint, rest: Option<usize>, text: &str) {
    if let Some(line) = rest {
        lint.warns(Place { line, offset: usize::MAX }, text);
    }
}

#[cfg(test)]
mod tests;
