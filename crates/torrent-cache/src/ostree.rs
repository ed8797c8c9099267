//! OSTree, as an HTTP proxy between a client and a repository in archive mode sees it, without I/O.
//!
//! The parts of static deltas and the file objects are what a pull is made of. This module says which requests ask for
//! them, and whether the bytes that came are right.

pub mod filez;
mod gvariant;
pub mod path;
pub mod superblock;
