//! The client of the tracker: announces, and the calls about torrent files and leases that docs/torrent-cache.md lists
//! under "The tracker's part". It decides nothing: which host fetches what is decided by its callers.
//!
//! - Each call has a connection of its own, which the call's own future drives. So a [`SwarmTracker`] belongs to no
//!   runtime, and any thread's runtime can use it. A pool of connections would save little: the tracker closes a
//!   connection after each request with a body. A call that is dropped ends its connection, so the tracker ends the
//!   long poll.
//! - A tracker that is down costs little: a connection has one second, a reply three, and after a failure all calls
//!   fail at once for two seconds ([`TrackerFault::Paused`]). Then one call tries again.
//! - Each reply of the torrents' server has the tracker's boot id. [`SwarmTracker::boot`] tells when it changes: the
//!   tracker has started again and knows nothing any more.

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
