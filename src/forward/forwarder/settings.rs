//! The settings of a forwarder, which may change while the forwarder is in use.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::forward::options::{DEFAULT_NUMWANT, DEFAULT_RATE, ForwarderOptions, Torrents};
use crate::metrics::{ForwarderMetrics, Metrics};
use tracker_protocol::InfoHash;

/// The entry of a forwarder, and what depends on the entry.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) options: ForwarderOptions,
    pub(super) timeout: Duration,
    pub(super) metrics: ForwarderMetrics,
    /// Since when these settings apply.
    pub(super) since: Instant,
}

impl Settings {
    /// Takes the settings from an entry. `timeout` applies if the entry names no timeout.
    pub(super) fn new(options: &ForwarderOptions, timeout: Duration, metrics: &Metrics) -> Self {
        Self {
            options: options.clone(),
            timeout: options.timeout.unwrap_or(timeout),
            metrics: metrics.forwarder(&options.name),
            since: clock::now(),
        }
    }

    /// Returns whether the upstream sees no difference. If so, the forwarder is kept.
    pub(super) fn looks_like(&self, options: &ForwarderOptions) -> bool {
        let own = &self.options;
        (&own.uri, &own.host, own.ip, &own.ca) == (&options.uri, &options.host, options.ip, &options.ca)
    }

    pub(super) fn serves(&self, info_hash: InfoHash) -> bool {
        match &self.options.torrents {
            Torrents::All => true,
            Torrents::Only(hashes) => hashes.contains(&info_hash),
            Torrents::Except(hashes) => !hashes.contains(&info_hash),
        }
    }

    /// Returns whether the entry names the torrents that are announced to the forwarder.
    pub(super) fn names_torrents(&self) -> bool {
        matches!(self.options.torrents, Torrents::Only(_))
    }

    pub(super) fn numwant(&self) -> u32 {
        self.options.numwant.unwrap_or(DEFAULT_NUMWANT)
    }

    /// Returns how many exchanges may begin in a second.
    pub(super) fn rate(&self) -> u32 {
        self.options.rate.unwrap_or(DEFAULT_RATE).get()
    }
}
