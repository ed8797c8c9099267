//! The local peers: which clients announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A swarm identifies a peer by endpoint and zone. An announce from the same endpoint updates the peer, even with
//!   another peer id.
//! - A client with one id at several addresses, of one family or both, counts once for clients, in the role that it
//!   announced from its first address. The first address is the earliest recorded address from which the client still
//!   announces; the others are second addresses. Replies have all first addresses before any second address. So a
//!   client that takes another client's id hides only itself. [`Store::totals`] counts addresses, not clients.
//! - If a peer announces from an address, a claim of this address does not change the peer. `stopped` removes a client
//!   only at the address that sent it, at all ports. When a client announces from a new port, its silent endpoints at
//!   the same address are removed. Silent means no announce for a few intervals, or longer if the endpoint announced
//!   less often. They are not removed at once, because two clients may share an id and an address.
//! - A peer may have a public second address for clients that cannot use the first address. Only these clients get the
//!   public address. It is added and removed with the peer.
//! - `downloaded` counts a client once, as long as the torrent's shard remembers the download (a shard remembers a few
//!   dozen downloads).
//! - A client gets only peers that it can reach, those of its own zone or subnet first.
//! - A peer that has not announced within the peer age (rounded down by a few thousandths) is in no reply. The counts
//!   of unused swarms and of swarms of thousands may include it longer: a minute, or a thousandth of the peer age.
//! - A swarm that was not announced or scraped within the peer age is dropped with its `downloaded` count.
//! - The number of peers is bounded. If there are too many, a peer of the source with the most peers goes, even if the
//!   newcomer is of that source. So a flood from one source removes no torrent of another source. (A source is an IPv4
//!   address or an IPv6 /64. Claimed peers count, roughly, for their claimant.) Among equal sources, peers of swarms
//!   that were used only once go first, the least recently used swarm first. Then come peers of small swarms, and among
//!   equally small swarms again the least recently used.
//! - Other instances may send records of the announces that they heard. A record acts as its announce would have here
//!   at that moment. The latest news of a peer wins: an older record changes nothing but `downloaded`, and a record of
//!   `stopped` removes no entry that was heard of since. So records may come late, in any order and several times.
//!   (Moments are exact to a tenth of a second for the last few hundred peers of a shard, and to a few thousandths of
//!   the peer age for others.) A record can claim only what an announce could claim. A record of an address that no
//!   client can reach is refused.
//! - `downloaded` is never less than the highest count that another instance has sent.
//! - The store writes nothing to disk, and waits only for its locks. Under a lock, an operation looks at a few thousand
//!   peers at most. Three exceptions take milliseconds for half a million peers: a huge list grows by an eighth, its
//!   index doubles, or nearly all its peers have expired and are dropped in one pass.
//!
//! Methods get the present moment as an argument, so that tests do not have to wait.

mod announcement;
mod apply;
mod arrival;
mod client_id;
mod completions;
mod context;
#[cfg(test)]
mod contract;
mod delta;
mod entry;
mod explain;
mod explanation;
mod index;
mod last_use;
mod leaving;
mod memory;
mod peers;
mod pick;
mod ranked;
mod recent_moves;
mod record;
mod shard;
mod swarm;
mod time;
mod visit;
mod zone_counts;

pub use announcement::{Action, Announcement, Selection};
pub use explanation::{
    HiddenPeer, ListedPeer, PeerAtAddress, PeerExplanation, PeerVerdict, SwarmExplanation, SwarmListing,
};
pub use memory::{Store, StoreOptions, SwarmCursor, Totals};
pub use record::{Applied, Hearing, PeerChange, PeerNews, PeerRecord, RecordRefusal};
