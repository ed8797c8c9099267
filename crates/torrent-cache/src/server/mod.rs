//! Sockets, handlers and replies.
//!
//! ```text
//! cache_server.rs   binds the port, starts the workers, stops them
//! connections.rs    a worker: accepts connections, and serves http or https by the first byte
//! stream.rs         a connection as actix-http reads and writes it, with limits for slow clients
//! answer.rs         sends a request to its handler, counts it and logs it
//! blobs.rs          blobs by digest: from disk, from a flight, or both
//! manifests.rs      manifests by digest and by tag
//! manifest_fetches.rs  one fetch of a manifest for all clients that send the same request
//! ostree_files.rs   absolute form: parts and objects of OSTree
//! superblocks.rs    which digests the parts of a delta have
//! pass.rs           everything that is passed through uncached
//! pages.rs          /health and /metrics
//! status/           the status, as a page and as JSON
//! upstream_blob.rs  fetches a blob from its upstream for a flight
//! upstream_fault.rs how an upstream fails
//! reply.rs          headers and bodies of replies
//! failure.rs        errors as replies and as log lines
//! client_request.rs a client's request as the handlers see it
//! own_host.rs       whether a request can come from a page of a web browser
//! context.rs        what all handlers share
//! counted_connection.rs, active_body.rs  count the open connections and the replies under way
//! ```

mod active_body;
mod answer;
mod blobs;
mod cache_server;
mod client_request;
mod connections;
mod context;
mod counted_connection;
mod failure;
mod file_sender;
mod manifest_fetches;
mod manifests;
mod ostree_files;
mod own_host;
mod pages;
mod pass;
mod reload;
mod reply;
mod status;
mod stream;
mod superblocks;
mod upstream_blob;
mod upstream_fault;

pub use cache_server::{CacheServer, ServeError};
pub use reload::NOTHING_TO_RELOAD;
