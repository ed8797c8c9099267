//! How a forwarder does, for the operator.

use std::collections::BTreeMap;
use std::time::Duration;

/// How one forwarder does.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// Its name.
    pub name: String,
    /// `http`, `https` or `udp`.
    pub protocol: String,
    /// `closed` when it is asked as ever; `open`, `probing` or `paused`.
    pub state: &'static str,
    /// How long it has been so.
    pub state_for: Duration,
    /// When it is asked again, if it is not at present.
    pub next_probe_in: Option<Duration>,
    /// Exchanges under way.
    pub in_flight: usize,
    /// Exchanges that wait for their turn.
    pub waiting: usize,
    /// Peers that it knows, or is to know, through us.
    pub sessions: i64,
    /// Lists of its peers that are kept.
    pub lists: i64,
    /// Exchanges by outcome, as in the metrics.
    pub exchanges: BTreeMap<&'static str, u64>,
    /// How long it takes to answer.
    pub mean_latency: Option<Duration>,
    /// The latest error.
    pub last_error: Option<LastError>,
}

/// An error that is past.
#[derive(Clone, Debug)]
pub struct LastError {
    /// It in words.
    pub text: String,
    /// How long ago it was.
    pub ago: Duration,
}
