//! Reads files in YAML. Errors name the line.

mod document;
mod mapping;
mod problem;

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer};

pub(super) use self::document::{line_of, parse};
pub(super) use self::mapping::{Fields, Mapping, Once};
pub(super) use self::problem::Problem;

use ::settings::Origin;

use super::error::ConfigError;
use super::file;

/// Reads and checks a file. `expected` says what the file should hold, for errors.
pub(super) fn read<T>(
    origin: Origin,
    path: &Path,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Problem>,
) -> Result<T, ConfigError> {
    let path = path.to_owned();
    let bytes = match file::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(ConfigError::Unreadable { origin, path, error, expected }),
    };
    let parsed = file::text(bytes).and_then(|text| parse(&text));
    parsed.map_err(|Problem { line, problem }| ConfigError::File { path, line, problem })
}

/// Reads a value as text, and checks the text at once, while the reader still knows the line.
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

/// Does the same as [`Text`], for an optional value.
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
