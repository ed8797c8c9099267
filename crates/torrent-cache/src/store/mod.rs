//! The blobs on disk.
//!
//! ```text
//! FOLDER/lock                        held by the process that uses the folder
//! FOLDER/blobs/sha256/ab/HEX         blobs, by digest
//! FOLDER/manifests/sha256/ab/HEX     manifests, by digest
//! FOLDER/tags/ab/HEX                 what a tag meant last for each Accept, by the digest of upstream, repository and tag
//! FOLDER/deltas/ab/HEX               the digest of an OSTree file, by the digest of its URL
//! FOLDER/deliveries/ab/HEX           that an upstream has delivered something, and with which media type, by the digest
//!                                    of upstream, repository, kind and digest
//! FOLDER/torrents/ab/HEX             the torrent file of a blob that is shared, by the digest of the name that hosts share
//!                                    it by
//! FOLDER/incoming/N.part             files that are being written
//! ```
//!
//! - The file system is the only truth. A file's name is its digest, and its time of modification is when it was last
//!   used, to the hour. Memory holds sums, and the few files that are evicted next.
//! - A file is written below `incoming/`, checked, synced, and only then renamed to its place. A process that dies
//!   leaves files in `incoming/` only, and the next process removes them.
//! - A blob was verified when it came. It is verified again when it is first read, once for each process, as disks damage
//!   files; a damaged one is removed. See the module `flight`.
//! - Whether the store has something and whether an upstream has it are two questions. What one upstream has delivered is
//!   another upstream's only once that one has delivered it as well ([`Delivery`]): a digest is no secret, and upstreams
//!   may say yes to whatever they are asked.
//! - What a client chooses (a tag, a repository, a URL, `Accept`) is hashed, and so never becomes part of a path.
//! - The quota counts every file of the store in blocks of 4 KiB, and what is being written. Blobs that another host has as
//!   well are evicted first, and files that were not used for 30 days. Of several the file goes first that was not used for
//!   the longest time. A blob that is being read ([`StoredBlob`]) is not evicted. See `eviction_order.rs`.
//! - A torrent file is there as long as its blob.
//!
//! All calls block: async code calls them in `spawn_blocking`.

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
