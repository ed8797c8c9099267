//! Evicts files when room is needed, and removes a blob's torrent files with the blob.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::eviction_order::{EvictionCandidate, EvictionGroup, RemovalHook};
use super::layout::{FileKind, FileName, FoundFile};
use super::space::Space;
use super::taken::TakenSpace;
use crate::digest::Digest;

/// The most files that one walk through the folder chooses for eviction.
const CANDIDATES: usize = 1024;

impl Space {
    /// See [`BlobStore::on_removal`](super::BlobStore::on_removal).
    pub(super) fn on_removal(&self, hook: RemovalHook) {
        let _is_first = self.on_removal.set(hook);
    }

    /// Notes whether another host has this blob.
    pub(super) fn set_elsewhere(&self, digest: Digest, is_elsewhere: bool) {
        let mut taken = self.taken.lock();
        // Only blobs of this store are noted, so that the memory is bounded.
        if is_elsewhere && self.has_blob(digest) {
            taken.elsewhere_grew |= taken.elsewhere.insert(digest);
        } else {
            taken.elsewhere.remove(&digest);
        }
    }

    /// Makes a torrent file stay as long as its blob. Returns `false` if the blob is gone.
    pub(super) fn keep_with_blob(&self, torrent: FileName, blob: Digest) -> bool {
        let mut taken = self.taken.lock();
        let is_there = self.has_blob(blob);
        if is_there {
            taken.torrents.insert(torrent.digest, blob);
        }
        is_there
    }

    /// Removes a file that is damaged or useless. With a blob, its torrent files go too.
    pub(super) fn discard(&self, name: FileName) -> io::Result<()> {
        let path = self.folder.path(name);
        let gone = {
            // Under the lock, because another thread can store the blob anew, and `length` must be the length of the
            // file that is removed.
            let mut taken = self.taken.lock();
            let length = fs::metadata(&path)?.len();
            let gone = self.take_away(&path)?;
            taken.remove(name, length);
            gone
        };
        self.removed(name);
        fs::remove_file(gone)
    }

    /// Renames a file out of its place. The caller removes the file after it has released the lock, because removing a
    /// large file takes long.
    fn take_away(&self, path: &Path) -> io::Result<PathBuf> {
        let gone = self.folder.new_incoming();
        fs::rename(path, &gone)?;
        Ok(gone)
    }

    /// After a blob was removed, removes its torrent files and calls the hook.
    fn removed(&self, name: FileName) {
        if name.kind != FileKind::Blob {
            return;
        }
        let torrents = self.taken.lock().torrents_of(name.digest);
        for torrent in torrents {
            if let Err(error) = self.discard(torrent)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!(
                    "{}: not removed, the next start will remove it: {error}",
                    self.folder.path(torrent).display()
                );
            }
        }
        if let Some(hook) = self.on_removal.get() {
            hook(name.digest);
        }
    }

    /// Evicts the next candidate. If there is no candidate, walks through the folder for new ones. Returns `false` if
    /// the walk finds none.
    pub(super) fn evict_one(&self) -> io::Result<bool> {
        let mut candidates = self.candidates.lock();
        // A blob that another host has got since the walk must go before the files of the group `Last`. So walk again.
        if candidates.last().is_some_and(|next| next.group == EvictionGroup::Last) && self.taken.lock().elsewhere_grew {
            candidates.clear();
        }
        while let Some(candidate) = candidates.pop() {
            if self.evict(&candidate)? {
                return Ok(true);
            }
        }
        // The walk also corrects the sums. There may be room after all, because someone removed files by hand.
        *candidates = self.candidates_now()?;
        Ok(!candidates.is_empty())
    }

    /// Evicts a candidate, unless it is in use, was used since the walk, or has moved to the group `Last` since the
    /// walk. Returns whether it was evicted.
    fn evict(&self, candidate: &EvictionCandidate) -> io::Result<bool> {
        let FoundFile { name, length, used_at } = candidate.file;
        let path = self.folder.path(name);
        let unchanged = |metadata: fs::Metadata| metadata.modified().is_ok_and(|now| now == used_at);
        let gone = {
            // Under the lock, because a reader registers its use under the same lock before it opens the file.
            let mut taken = self.taken.lock();
            let is_used = name.kind == FileKind::Blob && taken.in_use.contains_key(&name.digest);
            let group = EvictionGroup::of(name, used_at, SystemTime::now(), &taken.elsewhere);
            if is_used || group > candidate.group || !fs::metadata(&path).is_ok_and(unchanged) {
                return Ok(false);
            }
            let gone = self.take_away(&path)?;
            taken.remove(name, length);
            taken.evictions += 1;
            gone
        };
        self.removed(name);
        fs::remove_file(gone)?;
        log::debug!("evicted {}, {length} bytes", path.display());
        Ok(true)
    }

    /// Walks through the folder for the next files to evict; the last of the list goes first. Corrects the sums,
    /// because someone may have removed files by hand.
    fn candidates_now(&self) -> io::Result<Vec<EvictionCandidate>> {
        let (changes, in_use, elsewhere, torrents) = {
            let mut taken = self.taken.lock();
            taken.elsewhere_grew = false;
            let in_use = taken.in_use.keys().copied().collect::<HashSet<_>>();
            (taken.changes, in_use, taken.elsewhere.clone(), taken.torrents.clone())
        };
        let now = SystemTime::now();
        let (mut found, mut blobs) = (TakenSpace::default(), HashSet::new());
        // The top of the heap is the candidate that goes last.
        let mut first = BinaryHeap::new();
        // The walk visits blobs before torrent files, so `blobs` is complete when the first torrent file comes.
        self.folder.walk(|FoundFile { name, length, used_at }| {
            found.add(name, length);
            let is_held = match name.kind {
                FileKind::Blob => {
                    blobs.insert(name.digest);
                    in_use.contains(&name.digest)
                }
                FileKind::Torrent => torrents.get(&name.digest).is_some_and(|blob| blobs.contains(blob)),
                FileKind::Manifest | FileKind::Tag | FileKind::Delta | FileKind::Delivery => false,
            };
            if is_held {
                return;
            }
            first.push((EvictionGroup::of(name, used_at, now, &elsewhere), used_at, name, length));
            if first.len() > CANDIDATES {
                first.pop();
            }
        })?;
        let mut taken = self.taken.lock();
        if taken.changes == changes {
            taken.stored = found.stored;
            taken.blobs = found.blobs;
        }
        let mut first = first.into_vec();
        first.sort_unstable_by_key(|(group, used_at, name, _)| Reverse((*group, *used_at, *name)));
        let candidate =
            |(group, used_at, name, length)| EvictionCandidate { group, file: FoundFile { name, length, used_at } };
        Ok(first.into_iter().map(candidate).collect())
    }
}
