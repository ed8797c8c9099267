//! stub
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
pub mod bittorrent;
pub mod store;
pub mod wire;
