//! The vocabulary of the protocol: types that only hold values.

mod announce;
mod id;
mod peer;
mod protocol;
mod refusal;
mod scrape;

pub use announce::{AnnounceReply, AnnounceRequest, ClaimedIps, Event, Key, NumWant};
pub use id::{InfoHash, PeerId};
pub use peer::{Endpoint, Ip, Peer, PeerLists, Role};
pub use protocol::Protocol;
pub use refusal::{Parameter, Refusal};
pub use scrape::{ScrapeReply, ScrapeRequest, SwarmCounts};
