//! A scrape: the counts of several swarms at once (BEP 48).

use super::InfoHash;

/// The torrents that a scrape asks for, in the order of the request; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeRequest {
    /// The torrents. A torrent may be repeated here, but not in the reply.
    pub info_hashes: Vec<InfoHash>,
}

/// How many peers of each kind a swarm has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Seeds.
    pub complete: u32,
    /// All others: leechers and partial seeds.
    pub incomplete: u32,
    /// Those of `incomplete` that are partial seeds (BEP 21).
    pub partial_seeds: u32,
    /// How many `completed` events the tracker has counted.
    pub downloaded: u32,
}

/// The counts of every torrent that was asked for. A torrent that no client has announced has zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeReply {
    /// Sorted by info-hash, without repeats, as bencode requires.
    pub files: Vec<(InfoHash, SwarmCounts)>,
    /// At least this many seconds should pass before the client scrapes again.
    pub min_request_interval: u32,
}
