//! What requests to a registry say (OCI Distribution Specification 1.1), without I/O.
//!
//! A request's path is parsed once. The path that goes upstream is written from the parsed value, so upstream cannot
//! get another resource than the one that was checked.

pub mod errors;
pub mod names;
pub mod naming;
pub mod path;
pub mod query;
pub mod range;
