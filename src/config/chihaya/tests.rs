//! Tests of the reader and the linter.
