//! The state of a forwarder, for the operator.

use std::collections::BTreeMap;
use std::time::Duration;

/// The state of one forwarder.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// Its name.
    pub name: String,
    /// `http`, `https` or `udp`.
    pub protocol: String,
    /// The state of its circuit: `closed` in normal operation; otherwise `open`, `probing` or `paused`.
    pub state: &'static str,
    /// How long the circuit has been in this state.
    pub state_for: Duration,
    /// The time until the next exchange may begin, if none may begin now.
    pub next_probe_in: Option<Duration>,
    /// Exchanges under way.
    pub in_flight: usize,
    /// Exchanges that wait for their turn.
    pub waiting: usize,
    /// Sessions: clients that are, or are about to be, announced to it.
    pub sessions: i64,
    /// Lists of peers from this forwarder that are kept.
    pub lists: i64,
    /// Exchanges by outcome, as in the metrics.
    pub exchanges: BTreeMap<&'static str, u64>,
    /// The mean time to an answer; `None` if the forwarder has never answered.
    pub mean_latency: Option<Duration>,
    /// The latest error.
    pub last_error: Option<LastError>,
}

/// The latest error of a forwarder.
#[derive(Clone, Debug)]
pub struct LastError {
    /// What went wrong.
    pub text: String,
    /// How long ago the error happened.
    pub ago: Duration,
}
