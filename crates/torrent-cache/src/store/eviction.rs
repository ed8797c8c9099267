//! What goes when room is needed, and what goes with it.

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

/// One walk through the folder finds the next so many files to evict.
const CANDIDATES: usize = 1024;

impl Space {
    /// See [`BlobStore::on_removal`](super::BlobStore::on_removal).
    pub(super) fn on_removal(&self, hook: RemovalHook) {
        let _is_first = self.on_removal.set(hook);
    }

    /// Notes whether another host has this blob.
    pub(super) fn set_elsewhere(&self, digest: Digest, is_elsewhere: bool) {
        let mut taken = self.taken.lock();
        // The memory is bounded, as only blobs that are here are noted.
        if is_elsewhere && self.has_blob(digest) {
            taken.elsewhere_grew |= taken.elsewhere.insert(digest);
        } else {
            taken.elsewhere.remove(&digest);
        }
    }

    /// Makes a torrent file stay as long as its blob. `false`: the blob is gone.
    pub(super) fn keep_with_blob(&self, torrent: FileName, blob: Digest) -> bool {
        let mut taken = self.taken.lock();
        let is_there = self.has_blob(blob);
        if is_there {
            taken.torrents.insert(torrent.digest, blob);
        }
        is_there
    }

    /// Removes a file that is damaged or of no use, and what belongs to it.
    pub(super) fn discard(&self, name: FileName) -> io::Result<()> {
        let path = self.folder.path(name);
        let gone = {
            // The length must be that of the file that goes, as another thread can bring the blob anew at any time.
            let mut taken = self.taken.lock();
            let length = fs::metadata(&path)?.len();
            let gone = self.take_away(&path)?;
            taken.remove(name, length);
            gone
        };
        self.removed(name);
        fs::remove_file(gone)
    }

    /// Renames a file out of its place, which takes no time. The removal of a large file takes long, so it must not happen
    /// under the lock.
    fn take_away(&self, path: &Path) -> io::Result<PathBuf> {
        let gone = self.folder.new_incoming();
        fs::rename(path, &gone)?;
        Ok(gone)
    }

    /// Removes the torrent files of a blob that was removed, and tells the hook.
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

    /// Removes the file that comes first, or finds out which files come next. `false`: none.
    pub(super) fn evict_one(&self) -> io::Result<bool> {
        let mut candidates = self.candidates.lock();
        // Of those that are left, none may go before a blob that another host has since the walk.
        if candidates.last().is_some_and(|next| next.group == EvictionGroup::Last) && self.taken.lock().elsewhere_grew {
            candidates.clear();
        }
        while let Some(candidate) = candidates.pop() {
            if self.evict(&candidate)? {
                return Ok(true);
            }
        }
        // This can show that there is room after all, because somebody removed files.
        *candidates = self.candidates_now()?;
        Ok(!candidates.is_empty())
    }

    /// Removes the file, unless it is in use, was used since it was found, or has become the last copy.
    fn evict(&self, candidate: &EvictionCandidate) -> io::Result<bool> {
        let FoundFile { name, length, used_at } = candidate.file;
        let path = self.folder.path(name);
        let unchanged = |metadata: fs::Metadata| metadata.modified().is_ok_and(|now| now == used_at);
        let gone = {
            // A reader counts its use under the lock before it opens the file.
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

    /// What goes next, the first one last. Corrects the sums if others removed files.
    fn candidates_now(&self) -> io::Result<Vec<EvictionCandidate>> {
        let (changes, in_use, elsewhere, torrents) = {
            let mut taken = self.taken.lock();
            taken.elsewhere_grew = false;
            let in_use = taken.in_use.keys().copied().collect::<HashSet<_>>();
            (taken.changes, in_use, taken.elsewhere.clone(), taken.torrents.clone())
        };
        let now = SystemTime::now();
        let (mut found, mut blobs) = (TakenSpace::default(), HashSet::new());
        // The one that goes last is on the top.
        let mut first = BinaryHeap::new();
        // Blobs come before their torrent files.
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
