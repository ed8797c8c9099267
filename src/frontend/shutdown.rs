//! How the frontends learn that the process stops, and how long they may go on.

use std::time::Duration;

use tokio::sync::watch;

/// How long requests under way may take to finish once the process is told to stop.
pub const DRAIN: Duration = Duration::from_secs(5);

/// True once the process is told to stop.
pub type StopReceiver = watch::Receiver<bool>;
