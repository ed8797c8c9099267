//! The local peers: who announced which torrent to this tracker, and when.
//!
//! # Contract
//! - A peer is an endpoint in a zone, in a swarm. Who announces from the same endpoint again is the same peer, whatever it
//!   calls itself now.
//! - A client that has the same id under several addresses, of either family, counts once in what clients are told, as what
//!   its first address says: the one that was recorded first and still announces. It is told under all of them, but under
//!   its second addresses only after everybody's first. So one that takes another's id hides itself. [`Store::totals`]
//!   counts addresses.
//! - An announce that claims another address than it comes from does nothing to a peer that announces from there itself, and
//!   `stopped` ends a client only at the address that it comes from, with all ports that it had there. An endpoint that has
//!   been silent for a few intervals goes when the same client announces from another port of the same address, unless it
//!   announced less often than that before: two clients may share id and address.
//! - A second address for clients that cannot use the first is told to them only, and comes and goes with its peer.
//! - `downloaded` counts a client once, as long as it is among the last few dozen downloads of its share of the torrents.
//! - Who asks is told of peers that it can reach, its own zone's or subnet's before others.
//! - A peer that has not announced for the peer age, rounded down by a few thousandths, is never handed out, whether or not
//!   housekeeping has run. Counts may include it for up to a minute longer, or a thousandth of the peer age, in swarms that
//!   nobody asks for or that have thousands of peers.
//! - A swarm that nobody has asked for during the peer age goes away, and its `downloaded` count with it.
//! - The number of peers is bounded. Past the bound, peers of the source that has most give way, be it the newcomer's own: a
//!   flood from one source does not push out a torrent of another one. (A source is an address, a /64 of IPv6; peers that are
//!   claimed are counted for who claims them, roughly.) Of equals, those in swarms that were asked for once only give way
//!   first, the oldest of them before others; then those in small swarms that nobody has asked for lately.
//! - Nothing is persisted, and nothing blocks: every operation takes one short lock. None looks at more than a few thousand
//!   peers while it holds it, but when the list of a huge swarm grows by an eighth, its index doubles, or nearly all of it have
//!   expired and are dropped in one pass: that takes milliseconds for half a million.
//!
//! `now` is an argument everywhere, so that tests need not wait.

mod announcement;
mod arrival;
mod client_id;
#[cfg(test)]
mod contract;
mod entry;
mod index;
mod memory;
mod peers;
mod pick;
mod ranked;
mod shard;
mod swarm;
mod time;

pub use announcement::{Action, Announcement, Selection};
pub use memory::{Store, StoreOptions, Totals};

use self::time::{Pace, Rhythm, Tick, TtlTicks};
