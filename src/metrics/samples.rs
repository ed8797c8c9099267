//! What is read at the moment of a scrape.

/// How the upstream trackers do, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ForwardSample {
    /// Each of them.
    pub forwarders: Vec<ForwarderSample>,
    /// Torrents of which they have been told.
    pub torrents: i64,
    /// Torrents of which all that was forgotten for want of room.
    pub evicted: u64,
}

/// How one upstream tracker does.
#[derive(Clone, Debug)]
pub struct ForwarderSample {
    /// Its name. What several of one name do is added up.
    pub name: String,
    /// Exchanges under way.
    pub in_flight: i64,
    /// Exchanges that wait for their turn.
    pub waiting: i64,
    /// Peers that it knows through us, or is to know.
    pub sessions: i64,
    /// Lists of its peers that are kept.
    pub lists: i64,
    /// The state of its circuit: one of [`CIRCUITS`].
    pub circuit: &'static str,
}

/// The states that a circuit can be in.
pub const CIRCUITS: [&str; 4] = ["closed", "open", "probing", "paused"];

/// How many swarms and peers there are, at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSample {
    /// Swarms.
    pub swarms: i64,
    /// IPv4 and IPv6, of each the seeds and the others.
    pub peers: [[i64; 2]; 2],
    /// Swarms dropped for want of room.
    pub evicted: u64,
}

/// What has become of the log, at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSample {
    /// Lines dropped because nobody read them.
    pub dropped: u64,
}
