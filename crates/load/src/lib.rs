//! Load generators for BitTorrent trackers, and measuring tools for the benchmarks.
//!
//! - [`http`] and [`udp`] announce to a tracker as fast as it answers, or at a fixed rate, and check every reply.
//! - [`crowd`] says which peers announce and in which order; [`outcome`] holds what the tracker replied.
//! - [`upstream`] provides fake upstream trackers, and [`redis`] a Redis.
//! - [`machine`] reads CPU time and memory from the kernel and places programs on cores.
//! - [`figures`] and [`table`] turn rounds into medians and rows.
//! - [`child`] holds a program that a measurement starts.
//! - [`client`] sends single requests, each on a connection of its own, and reads the metrics page.
//!
//! Nothing here depends on which tracker is measured.

#![cfg(target_os = "linux")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark may fail and prints its report; its fields are named so that they need no sentence each"
)]

pub mod child;
pub mod client;
pub mod crowd;
pub mod figures;
pub mod http;
pub mod machine;
pub mod outcome;
pub mod redis;
pub mod table;
pub mod udp;
pub mod upstream;
