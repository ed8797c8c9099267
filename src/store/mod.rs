//! The local peers: which clients announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A swarm identifies a peer by its endpoint and its zone. An announce from the same endpoint updates the same peer,
//!   even if the announce has another peer id.
//! - A client with one id at several addresses, of one family or both, counts once in the numbers that clients get. It
//!   counts with the role that it announced from its first address. The first address is the earliest recorded address
//!   from which the client still announces; its other addresses are second addresses. Replies have both kinds, but all
//!   first addresses before any second address. So a client that takes the id of another client hides only itself.
//!   [`Store::totals`] counts addresses, not clients.
//! - If a peer itself announces from an address, an announce that claims this address does not change the peer.
//!   `stopped` removes a client only at the address that sent the `stopped`, but at all ports of this address. When a
//!   client announces from a port, the store removes a silent endpoint of the client at another port of the same
//!   address. Silent means no announce for a few intervals, or for longer if the endpoint announced less often before.
//!   The store does not remove the endpoint at once, because two clients may share an id and an address.
//! - A peer may have a second address for clients that cannot use the first one. Only those clients get the second
//!   address. The second address is added and removed with the peer.
//! - `downloaded` counts a client once, as long as the torrent's shard remembers the download. A shard remembers a few
//!   dozen downloads.
//! - A client gets only peers that it can reach. Peers of the client's own zone or subnet come first.
//! - A peer that has not announced within the peer age is never in a reply, even before housekeeping runs. (The peer
//!   age is rounded down by a few thousandths.) In unused swarms and in swarms of thousands of peers, the counts may
//!   include an expired peer longer: up to a minute, or a thousandth of the peer age.
//! - A swarm that was not announced or scraped within the peer age is dropped together with its `downloaded` count.
//! - The number of peers is bounded. If there are too many, the store removes a peer of the source with the most peers,
//!   even if the new peer is from that source. So a flood from one source does not remove a torrent of another source.
//!   (A source is an IPv4 address or an IPv6 /64. Claimed peers count, roughly, for the host that claims them.) Among
//!   sources with equally many peers, the store first removes peers of swarms that were used only once. The least
//!   recently used of these swarms comes first. Peers of small swarms follow. Among equally small swarms, the least
//!   recently used swarm comes first.
//! - Other instances of the tracker may send records of the announces that they have heard. A record has the effect that
//!   its announce would have had here, at the moment at which the other instance heard the announce. The latest news of
//!   a peer wins: an older record changes nothing but `downloaded`, and a record of `stopped` removes no entry that the
//!   store has heard of since. So records may come late, in any order and several times. (The store compares moments to
//!   a tenth of a second for the last few hundred peers of a shard, and to a few thousandths of the peer age for the
//!   other peers.) A record can claim an address only if an announce could claim it. The store refuses a record of an
//!   address that no client can reach.
//! - `downloaded` is never less than the highest count that another instance has sent.
//! - The store writes nothing to disk, and waits for nothing but its locks. An operation looks at a few thousand peers
//!   at most while it holds a lock. Three exceptions take milliseconds for half a million peers: the list of a huge
//!   swarm grows by an eighth, the swarm's index doubles, or nearly all its peers have expired and are dropped in one
//!   pass.
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
