//! The blobs that this host offers to others.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;
use sha1::{Digest as _, Sha1};
use tracker_protocol::InfoHash;

use crate::digest::Digest;
use crate::store::{BlobStore, StoredTorrent};
use crate::swarm::{PieceHash, PieceShape, SeedCatalogue, SharedContent};
use crate::swarm_tracker::{SHARED_PIECE_LENGTH, ShareKey, SharedMetainfo};

/// The blobs that this host offers, by the info-hashes of their torrents.
pub(super) struct SeedIndex {
    store: BlobStore,
    seeds: Mutex<HashMap<InfoHash, Seed>>,
    /// The keys of all blobs that are offered, or wait to be offered.
    keys: Mutex<HashSet<ShareKey>>,
}

struct Seed {
    blob: OfferedBlob,
    /// Whether another host has the whole blob as well.
    is_elsewhere: bool,
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
        Self { store, seeds: Mutex::default(), keys: Mutex::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.seeds.lock().len()
    }

    pub(super) fn insert(&self, info_hash: InfoHash, blob: OfferedBlob) {
        self.keys.lock().insert(blob.key);
        self.seeds.lock().insert(info_hash, Seed { blob, is_elsewhere: false });
        self.store.set_elsewhere(blob.digest, false);
    }

    pub(super) fn get(&self, info_hash: InfoHash) -> Option<OfferedBlob> {
        self.seeds.lock().get(&info_hash).map(|seed| seed.blob)
    }

    /// Notes how many hosts, including this host, have the whole torrent; 0 means that the tracker does not know. A
    /// blob can be in several torrents. The store is told that another host has the blob only if more than one host has
    /// each of these torrents.
    pub(super) fn counted(&self, info_hash: InfoHash, hosts: u32) {
        let mut seeds = self.seeds.lock();
        let Some(seed) = seeds.get_mut(&info_hash) else { return };
        let (digest, before) = (seed.blob.digest, seed.is_elsewhere);
        seed.is_elsewhere = hosts > 1;
        if seed.is_elsewhere != before {
            let is_elsewhere = seeds.values().all(|seed| seed.blob.digest != digest || seed.is_elsewhere);
            drop(seeds);
            self.store.set_elsewhere(digest, is_elsewhere);
        }
    }

    /// Marks a blob as offered. Returns whether it was not offered before.
    pub(super) fn is_new(&self, key: &ShareKey) -> bool {
        self.keys.lock().insert(*key)
    }

    /// Notes that a blob is not offered after all.
    pub(super) fn not_offered(&self, key: &ShareKey) {
        self.keys.lock().remove(key);
    }

    /// Returns the hashes of the pieces of a blob, or `None` if the blob is gone. Reads the whole blob. Blocks.
    pub(super) fn hashes(&self, blob: &OfferedBlob) -> io::Result<Option<Vec<PieceHash>>> {
        let Some(stored) = self.store.find(&blob.digest)? else { return Ok(None) };
        let Some(shape) = PieceShape::new(stored.length(), SHARED_PIECE_LENGTH) else { return Ok(None) };
        let mut hashes = Vec::new();
        for piece in 0..shape.count {
            let mut bytes = vec![0; shape.length_of(piece) as usize];
            stored.file().read_exact_at(&mut bytes, shape.start(piece))?;
            hashes.push(Sha1::digest(&bytes).into());
        }
        Ok(Some(hashes))
    }

    /// Returns all torrents.
    pub(super) fn all(&self) -> Vec<(InfoHash, OfferedBlob)> {
        self.seeds.lock().iter().map(|(info_hash, seed)| (*info_hash, seed.blob)).collect()
    }

    /// Removes a blob that is gone. Returns its torrents.
    pub(super) fn remove(&self, digest: Digest) -> Vec<InfoHash> {
        let mut seeds = self.seeds.lock();
        let gone: Vec<_> = seeds.extract_if(|_, seed| seed.blob.digest == digest).collect();
        drop(seeds);
        let mut keys = self.keys.lock();
        gone.into_iter()
            .map(|(info_hash, seed)| {
                keys.remove(&seed.blob.key);
                info_hash
            })
            .collect()
    }

    /// Stores the torrent file of a blob. Returns whether the store still has the blob. Blocks.
    pub(super) fn keep(&self, blob: OfferedBlob, metainfo: &SharedMetainfo) -> io::Result<bool> {
        self.store.put_torrent(&blob.key.to_string(), &StoredTorrent { digest: blob.digest, file: metainfo.encode() })
    }

    /// Returns the stored torrent file of a blob. Blocks.
    pub(super) fn file(&self, key: &ShareKey) -> io::Result<Option<Vec<u8>>> {
        Ok(self.store.torrent(&key.to_string())?.map(|torrent| torrent.file))
    }

    /// Offers all blobs of the store that have a torrent file. Removes a torrent file that `read` does not accept for
    /// its key, and a torrent file whose blob is gone. Blocks.
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

/// Returns the key of the blob that a torrent file is for. The key is the torrent's name.
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
        // Damaged bytes must not be sent: other hosts ban a peer that sends wrong pieces.
        if stored.length() != blob.length || !stored.is_right().unwrap_or_default() {
            return None;
        }
        let shape = PieceShape::new(blob.length, SHARED_PIECE_LENGTH)?;
        Some(Arc::new(SharedContent::complete(Arc::clone(stored.file()), shape, stored)))
    }
}
