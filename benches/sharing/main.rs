//! How far several instances with one swarm can grow: a simulation of up to 64 instances and millions of peers, which
//! writes to a real Redis and reads from it.
//!
//! ```text
//! cargo bench --bench sharing
//! cargo bench --bench sharing -- --peers 1000000 --instances 2,8 --seconds 10
//! ```
//!
//! Peers are simulated one by one, so they take no sockets and hardly any memory. The rule that decides what is shared,
//! the batches, the Redis, and the store that applies the records are the real ones. Time is simulated. To measure all
//! other costs, and those of a whole process, use `cargo bench --bench speed -- sharing`.

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
    println!("nothing is measured: this benchmark needs Linux (/proc)");
}
