//! Reads requests to a registry (OCI Distribution Specification 1.1), without I/O.
//!
//! The path of a request is parsed once. The path that goes upstream is written from the parsed value. So the upstream
//! is asked for exactly the resource that was checked.

pub mod errors;
pub mod names;
pub mod naming;
pub mod path;
pub mod query;
pub mod range;
