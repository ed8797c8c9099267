//! The keys of a YAML or JSON file, with their lines. The linter needs every line; serde gives lines only in errors.

use super::super::yaml::Problem;

mod json;
mod yaml;

pub(super) use self::json::read as from_json;
pub(super) use self::yaml::read as from_yaml;

/// The most values in a file. A repeated value (`*anchor`) counts at each use. The largest file that is read has room
/// for fewer info-hashes than that.
const MAX_VALUES: usize = 1_000_000;

/// The deepest level of a value. Chihaya's own files have five.
const MAX_DEPTH: usize = 32;

/// Where something is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The distance from the beginning of the file. Orders findings on one line.
    pub(super) offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigNode {
    pub(super) place: Place,
    pub(super) value: NodeValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeValue {
    /// A value without quotes: in YAML a text, or a number, true, false or null.
    Plain(String),
    /// A value that can only be a text, such as a value in quotes.
    Quoted(String),
    List(Vec<ConfigNode>),
    Section(Vec<KeyedNode>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyedNode {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: ConfigNode,
}

impl ConfigNode {
    /// Returns whether the value is missing, as in `key:`, `key: ~` and `key: null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, NodeValue::Plain(text) if ["", "~", "null", "Null", "NULL"].contains(&text.as_str()))
    }
}

/// Counts values, and so limits the memory that a file can take.
struct ValueBudget(usize);

impl ValueBudget {
    fn take(&mut self, values: usize, place: Place) -> Result<(), Problem> {
        self.0 = self.0.checked_sub(values).ok_or_else(|| Problem {
            line: Some(place.line),
            problem: format!("the file has more than {MAX_VALUES} values, expected a configuration of Chihaya"),
        })?;
        Ok(())
    }
}

fn too_deep(place: Place) -> Problem {
    Problem {
        line: Some(place.line),
        problem: format!("a value is more than {MAX_DEPTH} levels deep, expected a configuration of Chihaya"),
    }
}
