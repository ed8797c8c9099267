//! The vocabulary of the field: values only. Nothing here does I/O, reads a clock or knows a framework.

pub mod address;
pub mod announce;
pub mod id;
pub mod peer;
pub mod refusal;
pub mod scrape;
pub mod view;

pub use announce::{AnnounceReply, AnnounceRequest, ClaimedIps, Event, Key, NumWant};
pub use id::{InfoHash, PeerId};
pub use peer::{Endpoint, Ip, Peer, PeerLists, Role};
pub use refusal::{Parameter, Refusal};
pub use scrape::{ScrapeReply, ScrapeRequest, SwarmCounts};
pub use view::{ExternalAddress, Nearness, Place, Views, Zone, ZoneId};
