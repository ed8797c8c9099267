//! Reads requests to a registry (OCI Distribution Specification 1.1), without I/O.
//!
//! The path that goes upstream is written from the parsed path. So the upstream is asked for exactly the resource that
//! was checked.

pub mod errors;
pub mod names;
pub mod naming;
pub mod path;
pub mod query;
pub mod range;
