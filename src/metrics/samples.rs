//! Values that are read at each scrape of `/metrics`.

/// The state of the upstream trackers.
#[derive(Clone, Debug, Default)]
pub struct ForwardSample {
    /// The state of each upstream tracker.
    pub forwarders: Vec<ForwarderSample>,
    /// Torrents that are announced to upstream trackers.
    pub torrents: i64,
    /// Torrents that were dropped because the kept torrents took too much memory.
    pub evicted: u64,
}

/// The state of one upstream tracker.
#[derive(Clone, Debug)]
pub struct ForwarderSample {
    /// The tracker's name. If several forwarders share a name, their values are added up.
    pub name: String,
    /// Exchanges under way.
    pub in_flight: i64,
    /// Exchanges that wait for their turn.
    pub waiting: i64,
    /// Clients that are announced to this tracker, or will be.
    pub sessions: i64,
    /// Peer lists from this tracker that are kept.
    pub lists: i64,
    /// The state of the circuit: one of [`CIRCUITS`].
    pub circuit: &'static str,
}

/// The states of a circuit.
pub const CIRCUITS: [&str; 4] = ["closed", "open", "probing", "paused"];

/// The numbers of swarms and peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSample {
    /// Swarms.
    pub swarms: i64,
    /// The numbers of peers: first IPv4, then IPv6. Each pair has the seeds, then the leechers.
    pub peers: [[i64; 2]; 2],
    /// Swarms that were evicted since the start.
    pub evicted: u64,
    /// Peers that were evicted since the start.
    pub evicted_peers: u64,
}

/// The numbers of peers in the zones.
#[derive(Clone, Debug, Default)]
pub struct ZoneSample {
    /// The name of each zone, with its seeds and its leechers.
    pub zones: Vec<(String, [i64; 2])>,
}

/// The state of shared blobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct TorrentsSample {
    /// Torrent files.
    pub entries: i64,
    /// Bytes that the torrent files take.
    pub bytes: i64,
    /// Leases that are held.
    pub leases: i64,
    /// Long polls under way.
    pub polls: i64,
}

/// The state of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSample {
    /// Lines that were dropped because stderr was not read.
    pub dropped: u64,
    /// The most bytes of lines that wait until stderr is read.
    pub capacity: u64,
}
