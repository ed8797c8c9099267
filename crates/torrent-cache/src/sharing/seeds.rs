//! The blobs that this host offers to others.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracker_protocol::InfoHash;

use crate::digest::Digest;
use crate::store::{BlobStore, StoredTorrent};
use crate::swarm::{PieceShape, SeedCatalogue, SharedContent};
use crate::swarm_tracker::{SHARED_PIECE_LENGTH, ShareKey, SharedMetainfo};

/// The blobs by the torrents that they are.
pub(super) struct SeedIndex {
    store: BlobStore,
    seeds: Mutex<HashMap<InfoHash, OfferedBlob>>,
}

/// A blob that this host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfferedBlob {
    pub(super) key: ShareKey,
    pub(super) digest: Digest,
    pub(super) length: u64,
}

impl SeedIndex {
    pub(super) fn new(store: BlobStore) -> Self {
        Self { store, seeds: Mutex::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.seeds.lock().len()
    }

    pub(super) fn insert(&self, info_hash: InfoHash, blob: OfferedBlob) {
        self.seeds.lock().insert(info_hash, blob);
    }

    pub(super) fn get(&self, info_hash: InfoHash) -> Option<OfferedBlob> {
        self.seeds.lock().get(&info_hash).copied()
    }

    /// All torrents.
    pub(super) fn all(&self) -> Vec<(InfoHash, OfferedBlob)> {
        self.seeds.lock().iter().map(|(info_hash, blob)| (*info_hash, *blob)).collect()
    }

    /// The torrents of a blob that is gone.
    pub(super) fn remove(&self, digest: Digest) -> Vec<InfoHash> {
        let mut seeds = self.seeds.lock();
        let gone: Vec<_> = seeds.iter().filter(|(_, blob)| blob.digest == digest).map(|(hash, _)| *hash).collect();
        seeds.retain(|_, blob| blob.digest != digest);
        gone
    }

    /// Keeps the torrent file of a blob. Blocks.
    pub(super) fn keep(&self, blob: OfferedBlob, metainfo: &SharedMetainfo) -> io::Result<()> {
        self.store.put_torrent(&blob.key.to_string(), &StoredTorrent { digest: blob.digest, file: metainfo.encode() })
    }

    /// The torrent file of a blob. Blocks.
    pub(super) fn file(&self, key: &ShareKey) -> io::Result<Option<Vec<u8>>> {
        Ok(self.store.torrent(&key.to_string())?.map(|torrent| torrent.file))
    }

    /// Reads the torrent files of all blobs that are in the store. Blocks. `read` reads a file, if it is one of this key.
    pub(super) fn load(&self, read: impl Fn(&ShareKey, &[u8]) -> Option<SharedMetainfo>) -> io::Result<()> {
        self.store.torrents(|torrent| {
            let Some((key, metainfo)) = key_of(&torrent.file).and_then(|key| Some((key, read(&key, &torrent.file)?)))
            else {
                return false;
            };
            let is_there = self.store.has(&torrent.digest);
            if is_there {
                let blob = OfferedBlob { key, digest: torrent.digest, length: metainfo.length() };
                self.insert(metainfo.info_hash(), blob);
            }
            is_there
        })
    }
}

/// The key that a torrent file is for: its name.
fn key_of(file: &[u8]) -> Option<ShareKey> {
    tracker_protocol::metainfo::Metainfo::decode(file).ok()?.parts().name.parse().ok()
}

impl SeedCatalogue for SeedIndex {
    fn open(&self, info_hash: InfoHash) -> Option<Arc<SharedContent>> {
        let blob = self.get(info_hash)?;
        let stored = match self.store.find(&blob.digest) {
            Ok(stored) => stored?,
            Err(error) => {
                log::warn!("{}: cannot be shared: {error}", blob.digest);
                return None;
            }
        };
        // A file that the disk has damaged would get this host banned by others.
        if stored.length() != blob.length || !stored.is_right() {
            return None;
        }
        let shape = PieceShape::new(blob.length, SHARED_PIECE_LENGTH)?;
        Some(Arc::new(SharedContent::complete(Arc::clone(stored.file()), shape, stored)))
    }
}
