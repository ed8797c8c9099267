//! An announce, and what the tracker answers.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use smallvec::SmallVec;

use super::{InfoHash, PeerId, PeerLists, Role};

/// Why a client announces (BEP 3, BEP 21). A regular announce, after an interval, has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first announce of this client for this torrent.
    Started,
    /// The download has just finished.
    Completed,
    /// The client leaves the swarm.
    Stopped,
    /// The client has all that it wants, but not the whole torrent (BEP 21).
    Paused,
}

impl Event {
    /// Returns the name of the event in an HTTP announce.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// How many peers the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumWant {
    /// The client leaves the number to the tracker.
    #[default]
    Default,
    /// The client wants at most this many peers. The tracker has a limit of its own.
    AtMost(u32),
}

/// The opaque value by which upstream trackers know a client after its address has changed. Up to 16 bytes need no
/// allocation; aria2 sends 8.
pub type Key = SmallVec<[u8; 16]>;

/// An announce that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client.
    pub peer_id: PeerId,
    /// The port at which the client listens; `None` when other peers cannot reach the client.
    pub port: Option<NonZeroU16>,
    /// Bytes uploaded since `started`.
    pub uploaded: u64,
    /// Bytes downloaded since `started`.
    pub downloaded: u64,
    /// Bytes still to download; `None` when the client does not know the number (as with a magnet link) or sent no
    /// number.
    pub left: Option<u64>,
    /// Why the client announces; `None` for a regular announce.
    pub event: Option<Event>,
    /// How many peers the client wants.
    pub numwant: NumWant,
    /// Whether the client wants the ids of the peers: lists of dictionaries contain ids, compact lists do not.
    pub ids: bool,
    /// The client's key, which is opaque. The tracker passes it to upstream trackers.
    pub key: Option<Key>,
    /// The addresses that the client claims for itself. The tracker decides whether they count.
    pub claimed: ClaimedIps,
}

/// The addresses in `ip`, `ipv4` and `ipv6`. If a parameter is repeated, its first value that is an address counts.
/// Host names and `.i2p` names are no addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimedIps {
    /// `ip`, of either family (BEP 3).
    pub ip: Option<IpAddr>,
    /// `ipv4` (BEP 7).
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6` (BEP 7).
    pub ipv6: Option<Ipv6Addr>,
}

impl AnnounceRequest {
    /// Returns the client's role in its swarm. A client that does not say how much is left counts as a leecher, and may
    /// get more peers than it needs. If it counted as a seed, it might get too few.
    pub fn role(&self) -> Role {
        match (self.event, self.left) {
            (_, Some(0)) => Role::Seed,
            (Some(Event::Paused), _) => Role::PartialSeed,
            _ => Role::Leecher,
        }
    }
}

/// The tracker's reply to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceReply {
    /// Seconds until the client should announce again.
    pub interval: u32,
    /// At least this many seconds should pass before the client announces again.
    pub min_interval: u32,
    /// Seeds in the swarm.
    pub complete: u32,
    /// Peers in the swarm that are not seeds.
    pub incomplete: u32,
    /// How many downloads have been completed, as far as this tracker knows.
    pub downloaded: u32,
    /// The client's address as the tracker sees it (BEP 24); `None` when the address is not known.
    pub external_ip: Option<IpAddr>,
    /// A sentence for the client's user.
    pub warning: Option<Cow<'static, str>>,
    /// Other peers of the swarm.
    pub peers: PeerLists,
}
