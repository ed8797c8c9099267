//! What the program does when it does not serve: each command does one thing and ends.

pub mod check;
pub mod healthcheck;
