//! The local peers: which clients announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A peer is an endpoint in a zone, in a swarm. An announce from the same endpoint updates the same peer, even if
//!   it has another id.
//! - A client with one id at several addresses, of either family, counts once in the numbers that clients get. It
//!   counts with the role that it announced from its first address. The first address is the earliest recorded one from
//!   which the client still announces. Replies have all of a client's addresses, but second addresses only after the
//!   first addresses of all clients. So a client that takes the id of another client hides only itself.
//!   [`Store::totals`] counts addresses, not clients.
//! - An announce that claims another address does not change a peer that itself announces from that address. `stopped`
//!   removes a client only at the address that the `stopped` comes from, and there at all ports. When a client
//!   announces from a port, its endpoint at another port of the same address is removed if that endpoint has been
//!   silent for a few intervals. An endpoint that announced less often before may be silent for longer. The endpoint is
//!   not removed sooner, because the two endpoints may belong to two clients that share an id and an address.
//! - A peer may have a second address for clients that cannot use the first one. Only those clients get the second
//!   address. It is added and removed with the peer.
//! - `downloaded` counts a client once, as long as the torrent's shard remembers the download. A shard remembers a few
//!   dozen downloads.
//! - A client gets only peers that it can reach. Peers of its own zone or subnet come before others.
//! - A peer that has not announced for the peer age is never in a reply, whether or not housekeeping has run. (The peer
//!   age is rounded down by a few thousandths.) In swarms that are not used or that have thousands of peers, the counts
//!   may include such a peer for up to a minute longer, or a thousandth of the peer age.
//! - A swarm that has not been announced or scraped for the peer age is dropped, and its `downloaded` count with it.
//! - The number of peers is bounded. If there are too many, a peer of the source that has the most peers is removed,
//!   even if the newcomer is from that source. So a flood from one source does not remove a torrent of another source.
//!   (A source is an address or a /64 of IPv6; claimed peers count, roughly, for the host that claims them.) Among
//!   sources with equally many peers, peers of swarms that were used only once are removed first, beginning with the
//!   least recently used swarm. Peers of small swarms follow. Among equally small swarms, peers of the least recently
//!   used swarm are removed first.
//! - Nothing is persisted, and nothing blocks: every operation takes one short lock, and looks at a few thousand peers at most
//!   while it holds the lock. There are three exceptions, which take milliseconds for half a million peers: the list of a huge
//!   swarm grows by an eighth, its index doubles, or nearly all its peers have expired and are dropped in one pass.
//!
//! `now` is an argument everywhere, so that tests do not have to wait.

mod announcement;
mod arrival;
mod client_id;
mod completions;
mod context;
#[cfg(test)]
mod contract;
mod delta;
mod entry;
mod index;
mod last_use;
mod memory;
mod peers;
mod pick;
mod ranked;
mod shard;
mod swarm;
mod time;

pub use announcement::{Action, Announcement, Selection};
pub use memory::{Store, StoreOptions, Totals};
