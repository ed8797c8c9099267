//! Tests the binary from outside, with a scripted upstream in this process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // These are tests.

mod authorization;
mod blobs;
mod client;
mod commands;
mod deliveries;
mod documentation;
mod failing;
mod manifests;
mod ostree;
mod program;
mod ranges;
mod refusals;
mod status;
mod storage;
mod tls;
mod upstream;
