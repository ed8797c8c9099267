//! The latency of announces while retracker forwards: the release binary, with fake upstream trackers over loopback.
//!
//! ```text
//! cargo bench --bench forwarding
//! cargo bench --bench forwarding -- latency
//! ```
//!
//! The exit status is 1 if an announce failed, or if an announce of a known torrent waited for an upstream. Latencies
//! do not affect the exit status, because they depend on the machine. The report marks a latency that is above its
//! goal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark may fail, and it prints its report"
)]

#[cfg(target_os = "linux")]
mod expiry;
#[cfg(target_os = "linux")]
mod latency;
#[cfg(target_os = "linux")]
mod retracker;

/// A measurement: its name on the command line, and the function that measures.
#[cfg(target_os = "linux")]
type Measurement = (&'static str, fn() -> Result<Vec<load::table::Row>, String>);

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    use load::table::{self, Row};

    // `cargo test --all-targets` starts benchmarks without `--bench`, to test that they start.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("nothing is measured without --bench, which `cargo bench` adds");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let parts: [Measurement; 2] = [("latency", latency::warm_announces), ("expiry", expiry::ten_thousand_swarms)];
    table::print_head("with forwarders", "without");
    let mut failed = false;
    for (name, measure) in parts {
        if !wanted.is_empty() && !wanted.iter().any(|other| other == name) {
            continue;
        }
        for row in measure().unwrap_or_else(|why| vec![Row::failed(name, &why)]) {
            row.print();
            failed |= row.is_failed();
        }
    }
    println!("\n{}; {}", load::machine::today(), load::machine::describe(&load::machine::Cores::of_this_process()));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("nothing is measured: this benchmark needs Linux (epoll)");
}
