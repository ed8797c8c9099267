//! An announce, and what the tracker answers.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use smallvec::SmallVec;

use super::{InfoHash, PeerId, PeerLists, Role};

/// Why a client announces (BEP 3, BEP 21). An announce that a client sends just because time has passed has no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first announce of this client for this torrent.
    Started,
    /// The download has just finished.
    Completed,
    /// The client leaves the swarm.
    Stopped,
    /// The client has all that it wants, but not all of the torrent (BEP 21).
    Paused,
}

impl Event {
    /// The word for it in an HTTP announce.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// How many peers the client wants to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumWant {
    /// It left that to the tracker.
    #[default]
    Default,
    /// At most this many; the tracker has a limit of its own.
    AtMost(u32),
}

/// The opaque value by which a client is known to upstream trackers when its address has changed. Inline up to 16 bytes;
/// aria2 sends 8.
pub type Key = SmallVec<[u8; 16]>;

/// A checked announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client.
    pub peer_id: PeerId,
    /// Where the client listens, on the address that the tracker's policy finds; none when it cannot be reached.
    pub port: Option<NonZeroU16>,
    /// Bytes uploaded since `started`.
    pub uploaded: u64,
    /// Bytes downloaded since `started`.
    pub downloaded: u64,
    /// Bytes still to download; none when the client does not know (a magnet link) or said it badly.
    pub left: Option<u64>,
    /// What happened, if anything did.
    pub event: Option<Event>,
    /// How many peers it wants.
    pub numwant: NumWant,
    /// Whether it wants to know the ids of the others: lists of dictionaries have them, compact ones have not.
    pub ids: bool,
    /// Opaque, echoed to upstream trackers.
    pub key: Option<Key>,
    /// The addresses that the client claims for itself. Policy decides what they are worth.
    pub claimed: ClaimedIps,
}

/// The addresses in `ip`, `ipv4` and `ipv6`: of each the first that is an address at all. Host names and `.i2p`
/// names are not.
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
    /// What the client is in its swarm. One that does not say how much is left is taken for a leecher: that
    /// tells it more peers than it may need, where the opposite would tell it too few.
    pub fn role(&self) -> Role {
        match (self.event, self.left) {
            (_, Some(0)) => Role::Seed,
            (Some(Event::Paused), _) => Role::PartialSeed,
            _ => Role::Leecher,
        }
    }
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceReply {
    /// Seconds until the client should announce again.
    pub interval: u32,
    /// Seconds before which it should not.
    pub min_interval: u32,
    /// Seeds in the swarm.
    pub complete: u32,
    /// Peers in the swarm that are not seeds.
    pub incomplete: u32,
    /// How often the download has been completed, as far as this tracker knows.
    pub downloaded: u32,
    /// The client's own address as the tracker sees it (BEP 24); none when it is not known.
    pub external_ip: Option<IpAddr>,
    /// A sentence for the client's user.
    pub warning: Option<Cow<'static, str>>,
    /// The others.
    pub peers: PeerLists,
}
