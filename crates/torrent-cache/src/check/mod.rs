//! `torrent-cache check` and `torrent-cache healthcheck`.

mod health;
mod report;

pub use health::healthcheck;
pub use report::{CheckReport, check};
