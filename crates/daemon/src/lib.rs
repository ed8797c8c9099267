//! Runs a server process: starts and ends it, receives its signals, and writes a log that never blocks.

mod log_output;
mod reload;
mod run;
mod signals;

pub use log_output::{LogOutput, MAX_QUEUED, dropped};
pub use reload::{Reload, reload_on};
pub use run::{Daemon, ProgramFailure, Started, arguments, print, run, start_log};
pub use signals::{Signals, StopSignals};
