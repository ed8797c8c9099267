//! The client of the tracker: announces, and the calls about torrent files and leases that docs/torrent-cache.md lists
//! under "The tracker's part". The callers decide which host fetches what.
//!
//! - Each call has a connection of its own, which the call's own future drives. So a [`SwarmTracker`] belongs to no
//!   runtime, and any thread's runtime can use it. A pool would save little, because the tracker closes a connection
//!   after each request with a body. Dropping a call ends its connection, and so ends the long poll at the tracker.
//! - A tracker that is down costs little. A connection must open within one second. A reply must come within three
//!   seconds, or four for an announce. A long poll has three seconds more than its wait. After a failure all calls fail
//!   at once for two seconds ([`TrackerFault::Paused`]). Then one call tries again.
//! - Each reply of the server of the torrents has the tracker's boot id. A new id in [`SwarmTracker::boot`] means that
//!   the tracker has restarted, and has lost all that it knew.

mod announce;
mod exchange;
mod fault;
mod key;
mod metainfo;
mod pause;
mod replies;
mod secrets;
mod tracker;

#[cfg(test)]
mod tests;

pub use announce::{SwarmAnnounce, SwarmPeers};
pub use fault::{TrackerError, TrackerFault};
pub use key::ShareKey;
pub use metainfo::{SHARED_PIECE_LENGTH, SharedMetainfo, SharedMetainfoError};
pub use replies::{LeaseClaim, LeaseRenewal, LeaseView, MetainfoPut, PortReach, SwarmBlob};
pub use secrets::{ClusterSecret, NotAClusterSecret, NotATrackerToken, TrackerToken};
pub use tracker::{MAX_WAIT, SwarmTracker, TrackerOptions, UnusableTracker};
