//! What a process that serves needs: its signals, and a log that never blocks.

mod log_output;
mod signals;

pub use log_output::{LogOutput, MAX_QUEUED, dropped};
pub use signals::{Signals, StopSignals};
