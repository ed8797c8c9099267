//! A pull-through cache for container images and OSTree deltas. Each host of a fleet runs one.
//!
//! ```text
//! main.rs          signals, the command line, the exit code
//! check            `torrent-cache check` and `torrent-cache healthcheck`
//! server           sockets, handlers, replies
//! config           every setting, and one checked configuration
//! metrics          what is counted
//! authorization    whether a client may have what is in the cache
//! flight           one fetch of a blob for any number of clients
//! sharing          how hosts share blobs: which of them asks the upstream, and when
//! swarm_tracker    the client of the tracker: announces, torrent files, leases
//! upstream         HTTP to registries and OSTree servers
//! store            the blobs on disk
//! swarm            BitTorrent with the other hosts of the network
//! peer_wire        what peers of a swarm say to each other
//! content          what content is named by, and whether bytes are right
//! ostree           which requests are for parts and objects, and whether their bytes are right
//! registry         what requests to a registry say
//! digest           SHA-256 digests
//! ```
//!
//! Imports go down this list only. Invariants:
//!
//! - No reply is complete whose bytes are wrong: the last byte is kept back until the whole blob is verified.
//! - No client gets what its upstream would not give it: the upstream is asked on each hit, see [`authorization`].
//! - A disk that is full or broken costs hits, never a pull.

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
