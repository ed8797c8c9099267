//! The sums of a store, and the blobs that are in use.

use std::collections::{HashMap, HashSet};

use super::disk::in_blocks;
use super::layout::{FileKind, FileName};
use crate::digest::Digest;

/// The readers of a blob.
pub(super) struct BlobUsers {
    pub(super) count: usize,
    pub(super) blocks: u64,
}

#[derive(Default)]
pub(super) struct TakenSpace {
    /// Bytes of complete files.
    pub(super) stored: u64,
    pub(super) blobs: u64,
    /// Counts the files that came and went. If it changes during a walk, the walk's sums are not right.
    pub(super) changes: u64,
    /// Bytes that are reserved for files in `incoming/`, written or not.
    pub(super) reserved: u64,
    /// The part of `reserved` that is not on the disk yet.
    pub(super) unwritten: u64,
    /// Bytes written since the store was opened. The difference from an earlier value is what was written since then.
    pub(super) written: u64,
    pub(super) in_use: HashMap<Digest, BlobUsers>,
    /// The blobs that this process has verified. Those of an earlier process do not count, because disks damage files.
    pub(super) verified: HashSet<Digest>,
    /// Files that were removed to make room.
    pub(super) evictions: u64,
    /// The blobs of this store that other hosts have as well.
    pub(super) elsewhere: HashSet<Digest>,
    /// Whether a blob was added to `elsewhere` since the last walk for files to evict.
    pub(super) elsewhere_grew: bool,
    /// The blob of each torrent file, by the torrent file's name. Only torrent files that this process has read or
    /// written.
    pub(super) torrents: HashMap<Digest, Digest>,
}

impl TakenSpace {
    pub(super) fn pinned(&self) -> u64 {
        self.in_use.values().map(|users| users.blocks).sum()
    }

    pub(super) fn add(&mut self, name: FileName, length: u64) {
        self.stored += in_blocks(length);
        self.blobs += u64::from(name.kind == FileKind::Blob);
        self.changes += 1;
    }

    pub(super) fn remove(&mut self, name: FileName, length: u64) {
        self.stored = self.stored.saturating_sub(in_blocks(length));
        self.blobs = self.blobs.saturating_sub(u64::from(name.kind == FileKind::Blob));
        self.changes += 1;
        match name.kind {
            FileKind::Blob => {
                self.verified.remove(&name.digest);
                self.elsewhere.remove(&name.digest);
            }
            FileKind::Torrent => {
                self.torrents.remove(&name.digest);
            }
            FileKind::Manifest | FileKind::Tag | FileKind::Delta | FileKind::Delivery => {}
        }
    }

    /// Returns the torrent files of a blob.
    pub(super) fn torrents_of(&self, blob: Digest) -> Vec<FileName> {
        let of_blob = self.torrents.iter().filter(|(_, digest)| **digest == blob);
        of_blob.map(|(digest, _)| FileName { kind: FileKind::Torrent, digest: *digest }).collect()
    }
}
