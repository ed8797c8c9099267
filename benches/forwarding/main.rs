//! What forwarding costs clients and upstream trackers, measured over real sockets on loopback: the release binary, fake
//! upstream trackers, and clients that keep their connections.
//!
//! ```text
//! cargo bench --bench forwarding
//! cargo bench --bench forwarding -- latency expiry
//! ```
//!
//! It prints a table, takes less than three minutes, and ends with status 1 when something was missed that does not
//! depend on the machine: a count, an announce that failed or that waited. Latencies do depend on it, so that one above
//! its goal is marked, and no more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark may fail, and it prints its report"
)]

mod client;
mod events;
mod expiry;
mod faults;
mod latency;
mod report;
mod retracker;
#[allow(dead_code, reason = "the other benchmark asks more of its upstream trackers in some things")]
mod upstream;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::report::Row;
use self::upstream::Upstreams;

/// No measurement takes as long unless something hangs.
const DEADLINE: Duration = Duration::from_secs(110);

/// One measurement: its name on the command line, and what it gives.
type Measurement = (&'static str, fn(&Upstreams) -> Vec<Row>);

/// What is measured at the same time stands together. Latencies that are compared have the machine for themselves.
const GROUPS: [&[Measurement]; 3] = [
    &[("latency", latency::warm)],
    &[
        ("requests", events::requests_per_peer),
        ("second", events::second_peer),
        ("events", events::completed_and_stopped),
        ("silence", events::signed_off),
        ("burst", events::signed_off_at_once),
        ("junk", faults::junk),
        ("loop", faults::two_retrackers),
        ("restart", faults::restart),
    ],
    &[("expiry", expiry::ten_thousand_swarms)],
];

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benchmarks too, without this argument: to see whether they do start.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("nothing is measured without --bench, which `cargo bench` gives");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let upstreams = Upstreams::start();
    report::print_head();
    let mut missed = false;
    for group in GROUPS {
        let group = group.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|other| other == name));
        for row in measure(group, &upstreams) {
            row.print();
            missed |= row.is_missed();
        }
    }
    report::print_machine();
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Carries out the measurements of a group at the same time. One that fails is a row that is missed.
fn measure<'a>(group: impl Iterator<Item = &'a Measurement>, upstreams: &Upstreams) -> Vec<Row> {
    thread::scope(|scope| {
        let running: Vec<_> = group.map(|&(name, run)| (name, scope.spawn(move || run(upstreams)))).collect();
        let ended = running.into_iter().map(|(name, run)| run.join().unwrap_or_else(|_| vec![Row::failed(name)]));
        ended.flatten().collect()
    })
}

/// Runs a measurement's client side on this thread, to its end or to the deadline.
fn run<T>(measurement: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, measurement).await.expect("it takes too long") })
}
