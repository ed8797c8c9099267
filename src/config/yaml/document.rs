//! Turns the text of a file into a value.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny};
use serde_yaml::Error;

use super::problem::Problem;

/// Parses the value in a text. `None` if there are only comments.
pub(in crate::config) fn parse<T: de::DeserializeOwned>(text: &str) -> Result<Option<T>, Problem> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(None) };
    let value = Option::deserialize(first).map_err(|error| problem(&error))?;
    for document in documents {
        <()>::deserialize(document).map_err(|error| second(&error))?;
    }
    Ok(value)
}

fn problem(error: &Error) -> Problem {
    let message = error.to_string();
    let problem = message.split(" at line ").next().unwrap_or(&message);
    // The path to the value is left out: the line number says more.
    let problem = match problem.split_once(": ") {
        Some((path, rest)) if !path.contains([' ', '`']) => rest,
        _ => problem,
    };
    // A misplaced text is left out too, because it may hold a passkey.
    let problem = match problem.split_once("invalid type: string \"").and_then(|(_, rest)| rest.rsplit_once("\", ")) {
        Some((_text, expected)) => format!("found a text, {expected}"),
        None => problem.to_owned(),
    };
    let problem = problem.replace("expected a sequence", "expected a list");
    Problem { line: line(error), problem }
}

/// Returns the error when a second document has content or is not YAML.
fn second(error: &Error) -> Problem {
    if error.to_string().contains("invalid type") {
        let problem = "a second document begins here, expected one in a file".to_owned();
        return Problem { line: line(error), problem };
    }
    problem(error)
}

fn line(error: &Error) -> Option<usize> {
    error.location().map(|location| location.line())
}

/// Returns the first line of an entry in a list. The list is the whole file, or the file's value of `key`.
pub(in crate::config) fn line_of(text: &str, key: &str, entry: usize) -> Option<usize> {
    let document = serde_yaml::Deserializer::from_str(text).next()?;
    line(&Find { key, entry }.deserialize(document).err()?)
}

/// Finds the line where an entry begins. `serde_yaml` gives lines only in errors, so this reader fails on purpose
/// there.
#[derive(Clone, Copy)]
struct Find<'a> {
    key: &'a str,
    entry: usize,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        for _ in 0..self.entry {
            entries.next_element::<IgnoredAny>()?;
        }
        entries.next_element::<Here>().map(|_| ())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == self.key {
                map.next_value_seed(self)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Here;

impl<'de> Deserialize<'de> for Here {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> de::Visitor<'de> for Here {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the line")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Self, A::Error> {
        Err(de::Error::custom("here"))
    }
}
