//! What the swarm counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes and events of all torrents since the start.
#[derive(Debug, Default)]
pub struct SwarmCounters {
    sent: AtomicU64,
    received: AtomicU64,
    wasted: AtomicU64,
    wrong: AtomicU64,
    peers: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmSample {
    /// Bytes of blocks that were sent to peers.
    pub sent: u64,
    /// Bytes of verified pieces that came from peers.
    pub received: u64,
    /// Bytes of blocks that this host had already or had not asked for.
    pub wasted: u64,
    /// Pieces from peers that had wrong bytes.
    pub wrong: u64,
    /// Peers that are connected.
    pub peers: u64,
}

impl SwarmCounters {
    pub(super) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    pub(super) fn wasted(&self, bytes: u64) {
        self.wasted.fetch_add(bytes, Relaxed);
    }

    pub(super) fn wrong(&self) {
        self.wrong.fetch_add(1, Relaxed);
    }

    pub(super) fn joined(&self) {
        self.peers.fetch_add(1, Relaxed);
    }

    pub(super) fn left(&self) {
        self.peers.fetch_sub(1, Relaxed);
    }

    /// Reads the counters.
    pub fn sample(&self) -> SwarmSample {
        SwarmSample {
            sent: self.sent.load(Relaxed),
            received: self.received.load(Relaxed),
            wasted: self.wasted.load(Relaxed),
            wrong: self.wrong.load(Relaxed),
            peers: self.peers.load(Relaxed),
        }
    }
}
