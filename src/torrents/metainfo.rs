//! The torrent files of blobs, in a cache with a bound on their bytes.
//!
//! A file stays while its swarm has peers, and a day longer. When the cache is full, the least recently used file is
//! removed.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use ring::digest;
use tracker_protocol::InfoHash;
use tracker_protocol::metainfo::{Metainfo, MetainfoError};

use super::key::BlobKey;
use crate::clock::{Timestamp, Ttl};

/// How long a file stays after its swarm was last seen with peers.
const WITHOUT_PEERS: Duration = Duration::from_hours(24);

/// The bytes that the cache takes for an entry, beside the file and the key. The number is generous.
const OVERHEAD: usize = 512;

/// How many files one [`MetainfoCache::housekeep`] checks. The fullest cache is checked within half an hour.
const CHECKED: usize = 100;

/// A torrent file as it was stored.
#[derive(Debug)]
pub struct StoredMetainfo {
    /// The blob.
    pub key: BlobKey,
    /// The file, as it was sent.
    pub file: Vec<u8>,
    /// The info-hash of the file.
    pub info_hash: InfoHash,
    /// The beginning of the file's SHA-256, in hexadecimal digits.
    pub digest: String,
    /// The file's number in the order of storing, from 1 on.
    pub index: u64,
    /// When the swarm last had peers, or the file was last stored: tenths of a second, as in [`Timestamp`].
    used: AtomicU32,
    /// The first host that complained about wrong content.
    complainant: Mutex<Option<IpAddr>>,
}

/// What storing a file did.
#[derive(Debug)]
pub enum PutMetainfo {
    /// The file is new.
    New(Arc<StoredMetainfo>),
    /// The blob had a file with the same info-hash already. This file stays.
    Same(Arc<StoredMetainfo>),
    /// The blob has a file with another info-hash. This file stays.
    Conflict(Arc<StoredMetainfo>),
}

/// The torrent files.
#[derive(Debug)]
pub(super) struct MetainfoCache {
    files: Cache<BlobKey, Arc<StoredMetainfo>>,
    /// Held while files are added and removed: only one writer at a time changes the cache.
    writing: Mutex<Writing>,
}

#[derive(Debug, Default)]
struct Writing {
    /// The index of the newest file.
    newest: u64,
    /// The files in the order in which they are checked.
    rounds: VecDeque<Weak<StoredMetainfo>>,
}

impl StoredMetainfo {
    fn new(now: Timestamp, key: &BlobKey, file: Vec<u8>, info_hash: InfoHash, index: u64) -> Self {
        let hash = digest::digest(&digest::SHA256, &file);
        let beginning = hash.as_ref().first_chunk().copied().map_or(0, u128::from_be_bytes);
        Self {
            key: key.clone(),
            file,
            info_hash,
            digest: format!("{beginning:032x}"),
            index,
            used: AtomicU32::new(now.tenths()),
            complainant: Mutex::default(),
        }
    }

    /// Returns whether the file may stay. If its swarm has peers, the file counts as used now.
    fn is_live(&self, now: Timestamp, has_peers: impl Fn(InfoHash) -> bool) -> bool {
        if has_peers(self.info_hash) {
            self.used.store(now.tenths(), Relaxed);
            return true;
        }
        now < Timestamp::from_tenths(self.used.load(Relaxed)).plus(Ttl::new(WITHOUT_PEERS))
    }

    fn weight(&self) -> u32 {
        u32::try_from(self.file.len() + self.key.as_str().len() + OVERHEAD).unwrap_or(u32::MAX)
    }
}

impl MetainfoCache {
    /// Makes an empty cache for this many bytes.
    pub(super) fn new(memory: u64) -> Self {
        let files = Cache::builder()
            .max_capacity(memory)
            .weigher(|_, file: &Arc<StoredMetainfo>| file.weight())
            // The usual policy would refuse new files in favour of older ones.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { files, writing: Mutex::default() }
    }

    pub(super) fn get(
        &self,
        now: Timestamp,
        key: &BlobKey,
        has_peers: impl Fn(InfoHash) -> bool,
    ) -> Option<Arc<StoredMetainfo>> {
        self.files.get(key).filter(|file| file.is_live(now, has_peers))
    }

    pub(super) fn put(
        &self,
        now: Timestamp,
        key: &BlobKey,
        file: Vec<u8>,
        has_peers: impl Fn(InfoHash) -> bool,
    ) -> Result<PutMetainfo, MetainfoError> {
        let info_hash = Metainfo::decode(&file)?.info_hash();
        let mut writing = self.writing.lock();
        if let Some(there) = self.get(now, key, has_peers) {
            if there.info_hash != info_hash {
                return Ok(PutMetainfo::Conflict(there));
            }
            there.used.store(now.tenths(), Relaxed);
            return Ok(PutMetainfo::Same(there));
        }
        writing.newest += 1;
        let stored = Arc::new(StoredMetainfo::new(now, key, file, info_hash, writing.newest));
        self.files.insert(key.clone(), Arc::clone(&stored));
        writing.rounds.push_back(Arc::downgrade(&stored));
        // The cache evicts files only when it is told to, or after many calls.
        self.files.run_pending_tasks();
        Ok(PutMetainfo::New(stored))
    }

    pub(super) fn remove(&self, key: &BlobKey) {
        let _writing = self.writing.lock();
        self.files.invalidate(key);
    }

    /// Records a host's complaint. If another host complained before, removes the file and returns that host.
    pub(super) fn complain(&self, key: &BlobKey, host: IpAddr) -> Option<IpAddr> {
        let _writing = self.writing.lock();
        let file = self.files.get(key)?;
        let first = *file.complainant.lock().get_or_insert(host);
        if first == host {
            return None;
        }
        self.files.invalidate(key);
        Some(first)
    }

    /// Removes files that may not stay, among those that were checked least recently.
    pub(super) fn housekeep(&self, now: Timestamp, has_peers: impl Fn(InfoHash) -> bool) {
        let mut writing = self.writing.lock();
        for _ in 0..writing.rounds.len().min(CHECKED) {
            let Some(next) = writing.rounds.pop_front() else { break };
            let Some(file) = next.upgrade() else { continue };
            // Another file may have been stored under the key meanwhile.
            let is_there = self.files.get(&file.key).is_some_and(|there| there.index == file.index);
            match file.is_live(now, &has_peers) {
                true if is_there => writing.rounds.push_back(next),
                false if is_there => self.files.invalidate(&file.key),
                _ => {}
            }
        }
        self.files.run_pending_tasks();
    }

    /// Returns the number of files, and the bytes that they take.
    pub(super) fn size(&self) -> (i64, i64) {
        self.files.run_pending_tasks();
        let [entries, bytes] = [self.files.entry_count(), self.files.weighted_size()];
        (i64::try_from(entries).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests;
