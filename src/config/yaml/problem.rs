//! What is wrong with a file.

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct Problem {
    pub(in crate::config) line: Option<usize>,
    pub(in crate::config) problem: String,
}
