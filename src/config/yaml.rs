//! Files in YAML: read, and what is wrong with them told by line.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer};

use super::ConfigError;

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: Option<usize>,
    pub(super) problem: String,
}

/// Reads and checks a file. `setting` is what named it, and `expected` what it is to hold.
pub(super) fn read<T>(
    setting: &'static str,
    path: &Path,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Problem>,
) -> Result<T, ConfigError> {
    let path = path.to_owned();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let error = match error.kind() {
                std::io::ErrorKind::IsADirectory => {
                    "it is a directory, which Docker makes of a mounted file that does not exist".to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    "permission denied: the user that retracker runs as must be allowed to read it, chmod 644"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            return Err(ConfigError::Unreadable { setting, path, error, expected });
        }
    };
    parse(&text).map_err(|Problem { line, problem }| ConfigError::File { path, line, problem })
}

/// The file's text as a value. None when there is nothing but comments.
pub(super) fn parse<T: de::DeserializeOwned>(text: &str) -> Result<Option<T>, Problem> {
    serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        let problem = message.split(" at line ").next().unwrap_or(&message);
        // Without the path to the place, which the line says better.
        let problem = match problem.split_once(": ") {
            Some((path, rest)) if !path.contains([' ', '`']) => rest,
            _ => problem,
        };
        // Nor with a text that is not where it should be: it may hold a passkey.
        let problem = match problem.split_once("invalid type: string \"").and_then(|(_, rest)| rest.rsplit_once("\", "))
        {
            Some((_text, expected)) => format!("found a text, {expected}"),
            None => problem.to_owned(),
        };
        let problem = problem.replace("expected a sequence", "expected a list");
        Problem { line: error.location().map(|location| location.line()), problem }
    })
}

/// Reads a value as text and checks it while the reader still knows on which line it stands.
pub(super) struct Text<F>(pub(super) F);

impl<T, F: FnOnce(&str) -> Result<T, String>> de::Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// The same for a value that may be missing.
pub(super) struct Optional<F>(pub(super) F);

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> de::Visitor<'de> for Optional<F> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(Text(self.0)).map(Some)
    }
}
