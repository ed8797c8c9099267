//! The state of a forwarder, for the operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::list::UpstreamPeers;

/// The state of one forwarder.
#[derive(Clone, Debug)]
pub struct ForwarderStatus {
    /// The forwarder's name.
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
    /// Clients that are announced to this forwarder, or will be.
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

/// One torrent at one forwarder.
#[derive(Clone, Debug)]
pub struct TorrentAtForwarder {
    /// The forwarder.
    pub forwarder: ForwarderStatus,
    /// Whether the forwarder's `only` or `except` hides the torrent from it.
    pub is_hidden: bool,
    /// What is known of the torrent. `None` if nothing is kept, for example because no client has announced it.
    pub torrent: Option<UpstreamTorrent>,
}

/// What a forwarder knows of one torrent through us, and the list that it gave.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTorrent {
    /// How many of our clients are announced to this forwarder, or will be.
    pub clients: usize,
    /// The time until the next announce of one of these clients. `None` if there are none, or all are being announced.
    pub due_in: Option<Duration>,
    /// How many exchanges are under way that are expected to bring a list.
    pub under_way: usize,
    /// The list from which clients get peers. `None` if there is no list.
    pub list: Option<Arc<UpstreamPeers>>,
    /// For how long the list may be used.
    pub list_good_for: Duration,
}

/// The latest error of a forwarder.
#[derive(Clone, Debug)]
pub struct LastError {
    /// What went wrong.
    pub text: String,
    /// How long ago the error happened.
    pub ago: Duration,
}

/// A limit, and what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitUse {
    /// The most that may be in use.
    pub most: u64,
    /// What is in use now.
    pub in_use: u64,
    /// How often something waited or was dropped because of the limit.
    pub bites: u64,
}

/// The limits of forwarding.
#[derive(Clone, Copy, Debug)]
pub struct ForwardLimits {
    /// Exchanges under way with all forwarders together. `--max-exchanges`.
    pub exchanges: LimitUse,
    /// Exchanges that wait for their turn with one forwarder. `in_use` is the longest queue. `bites` counts the
    /// exchanges that all queues dropped.
    pub queue: LimitUse,
    /// Bytes that are kept about torrents. `bites` counts the torrents that were dropped.
    pub memory: LimitUse,
}
