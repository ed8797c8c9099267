//! Why the process cannot start.

use std::path::PathBuf;

use ::settings::{InvalidValue, Origin};
use thiserror::Error;

/// Why the process cannot start, in one sentence. The sentence names the flag, variable or line, what was found there,
/// and what is expected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The command line has something that the program does not know.
    #[error("{0}")]
    Usage(String),
    /// The value of a setting is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A file cannot be read.
    #[error("{origin}: {} cannot be read ({error}), expected {expected}", path.display())]
    Unreadable {
        /// The flag or variable that named the file.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// Why the file cannot be read.
        error: String,
        /// What the file should hold.
        expected: &'static str,
    },
    /// The content of a file is wrong.
    #[error("{}{}: {problem}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// The line of the value, or the first line of its entry. `None` if unknown.
        line: Option<usize>,
        /// What was found and what is expected.
        problem: String,
    },
}
