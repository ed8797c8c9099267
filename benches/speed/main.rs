//! CPU time, memory and latency of the release binary, compared with other trackers under the same load.
//!
//! ```text
//! cargo bench --bench speed
//! cargo bench --bench speed -- keepalive close memory
//! cargo bench --bench speed -- load --url http://127.0.0.1:6969/announce --pid 4711
//! cargo bench --bench speed -- soak --minutes 60
//! ```
//!
//! `benches/README.md` says how to tell the benchmark where the other trackers are. The exit status is 1 if a reply was
//! wrong. Figures do not affect the exit status, because they depend on the machine.

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

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("nothing is measured: this benchmark needs Linux (epoll, CPU affinity, /proc)");
}
