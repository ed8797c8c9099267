//! A pull-through cache for container images and OSTree deltas. Each host of a fleet runs one.
//!
//! ```text
//! main.rs          signals, the command line, the exit code
//! check            `torrent-cache check` and `torrent-cache healthcheck`
//! server           sockets, handlers, replies
//! config           every setting, and one checked configuration
//! metrics          every metric
//! authorization    whether a client may have a cached file
//! flight           one fetch of a blob for any number of clients
//! sharing          how hosts share blobs: which host asks the upstream, and when
//! swarm_tracker    the client of the tracker: announces, torrent files, leases
//! upstream         HTTP to registries and OSTree servers
//! store            the blobs on disk
//! swarm            BitTorrent with the other hosts of the network
//! peer_wire        the messages between the peers of a swarm
//! content          the names of content, and whether bytes are right
//! ostree           requests to an OSTree repository, and whether the bytes of a reply are right
//! registry         requests to a registry
//! digest           SHA-256 digests
//! ```
//!
//! A module imports only modules below it in this list. Invariants:
//!
//! - A reply with wrong bytes is never complete, because its last byte is kept back until the whole blob is verified.
//! - A client gets a cached file only if its upstream allows it. The upstream is asked on each hit: see
//!   [`authorization`].
//! - If the disk is full or broken, hits are lost, but no pull fails.

pub mod authorization;
pub mod check;
pub mod config;
pub mod content;
pub mod digest;
pub mod flight;
pub mod metrics;
pub mod ostree;
pub mod peer_wire;
pub mod registry;
pub mod server;
pub mod sharing;
pub mod store;
pub mod swarm;
pub mod swarm_tracker;
pub mod upstream;
