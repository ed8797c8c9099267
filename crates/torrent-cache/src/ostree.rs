//! The parts of OSTree that an HTTP proxy between a client and a repository in archive mode needs, without I/O.
//!
//! A pull fetches mostly parts of static deltas and file objects. This module says which requests ask for them, and
//! whether the received bytes are right.

pub mod filez;
mod gvariant;
pub mod path;
pub mod superblock;
