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
//! FOLDER/torrents/ab/HEX             the torrent file of a blob that is shared, by the digest of the key under which hosts
//!                                    share the blob
//! FOLDER/incoming/N.part             files that are being written
//! ```
//!
//! - The file system holds the whole state. A file's name is a digest, and its time of modification is when it was last
//!   used, to the hour. Memory holds only sums, and the few files that are evicted next.
//! - A file is written below `incoming/`, checked, synced, and only then renamed to its place. A process that dies
//!   leaves files in `incoming/` only, and the next process removes them.
//! - A blob is verified when it comes. Each process verifies it again when it first reads it, because disks damage files. A
//!   damaged blob is removed. See the module `flight`.
//! - That the store has a file does not show that an upstream has it. A file that came from one upstream counts as another
//!   upstream's only after that upstream has delivered it as well ([`Delivery`]). Asking about the digest is not enough,
//!   because digests are no secret, and an upstream may say yes to any digest.
//! - Text from a client (a tag, a repository, a URL, `Accept`) is hashed, so that it never becomes part of a path.
//! - The quota counts every file of the store in blocks of 4 KiB, and the files that are being written. Blobs that another
//!   host has as well are evicted first, together with files that were not used for 30 days. Among these, and among the
//!   others, the file that was not used for the longest time goes first. A blob that is being read ([`StoredBlob`]) is not
//!   evicted. See `eviction_order.rs`.
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
