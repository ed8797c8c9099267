//! The blobs on disk.
//!
//! ```text
//! FOLDER/lock                        held by the process that uses the folder
//! FOLDER/blobs/sha256/ab/HEX         blobs, by digest
//! FOLDER/manifests/sha256/ab/HEX     manifests, by digest
//! FOLDER/tags/ab/HEX                 the last manifest of a tag for each Accept, by the digest of upstream, repository and tag
//! FOLDER/deltas/ab/HEX               the digest of an OSTree file, by the digest of its URL
//! FOLDER/deliveries/ab/HEX           a note that an upstream has delivered a blob or manifest, with its media type, by the
//!                                    digest of upstream, repository, kind and digest
//! FOLDER/torrents/ab/HEX             the torrent file of a shared blob, by the digest of its share key
//! FOLDER/incoming/N.part             files that are being written
//! ```
//!
//! - The file system holds the whole state. A file's name is a digest, and its time of modification is when it was last
//!   used, to the hour. Memory holds only what a new process finds out again: sums, sets of digests, and the few files
//!   that are evicted next.
//! - A file is written below `incoming/`, checked, synced, and only then renamed to its place. A process that dies
//!   leaves files in `incoming/` only, and the next process removes them.
//! - A blob is verified when it comes. Each process verifies it again before its first use, because disks damage files.
//!   A damaged blob is removed. See the module `flight`.
//! - A stored file does not show that an upstream has it. A file from one upstream is served as a file of another
//!   upstream only after the other upstream has delivered it too ([`Delivery`]). Asking the other upstream is not
//!   enough: digests are no secret, and an upstream may say yes to any digest.
//! - Text from a client (a tag, a repository, a URL, `Accept`) is hashed, so that it never becomes part of a path.
//! - The quota counts every file in blocks of 4 KiB, files that are being written as well. `eviction_order.rs` says
//!   what is evicted first. A blob that is being read ([`StoredBlob`]) is not evicted.
//! - A torrent file stays exactly as long as its blob.
//!
//! All calls block, so async code calls them in `spawn_blocking`.

mod blob_store;
mod disk;
mod eviction;
mod eviction_order;
mod incoming;
mod layout;
mod limits;
mod records;
mod space;
mod taken;
#[cfg(test)]
mod tests;

pub use blob_store::{BlobStore, StoreFault};
pub use incoming::{CommitError, IncomingBlob, VerifiedBlob};
pub use limits::{DiskShare, NotADiskShare, StoreLimits};
pub use records::{CachedManifest, Delivery, StoredTorrent, TagEntry, TagKey};
pub use space::{StoreUsage, StoredBlob};
