//! How the frontends learn of a stop signal, and how long they may continue after it.

use std::time::Duration;

use tokio::sync::watch;

/// How long requests under way may take to finish after a stop signal, unless a Chihaya file sets another time.
pub const DRAIN: Duration = Duration::from_secs(5);

/// True after a stop signal.
pub type StopReceiver = watch::Receiver<bool>;
