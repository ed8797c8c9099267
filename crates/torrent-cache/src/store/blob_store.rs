//! The store as its users see it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::incoming::IncomingBlob;
use super::layout::{FILE_MODE, StoreFolder};
use super::limits::StoreLimits;
use super::space::{Space, StoreUsage, StoredBlob};
use crate::content::ContentName;
use crate::digest::Digest;

/// Blobs and records in a folder that only this process uses. Cheap to clone. The rules are in the module's
/// documentation.
#[derive(Clone)]
pub struct BlobStore {
    pub(super) space: Arc<Space>,
    /// Locked as long as the process uses the folder.
    _lock: Arc<File>,
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum StoreFault {
    /// Another process uses the folder.
    #[error("{}: another torrent-cache uses this folder; give each its own, or stop the other one", .0.display())]
    InUse(PathBuf),
    /// The folder has no lock file, but a folder `incoming` with files, which the store would remove.
    #[error("{}: not a folder of torrent-cache, but its folder incoming/ has files; give an empty folder", .0.display())]
    NotAStore(PathBuf),
    /// The folder cannot be read or written.
    #[error("{}: cannot be used as storage: {source}", .folder.display())]
    Disk {
        /// The store's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BlobStore {
    /// Opens the store in this folder, or makes a new store. Removes the files that an earlier process did not finish.
    pub fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreFault> {
        let disk = |source| StoreFault::Disk { folder: folder.to_owned(), source };
        let layout = StoreFolder::new(folder);
        layout.create_root().map_err(disk)?;
        // `incoming` will be emptied, so it must belong to a store. A lock file shows that.
        let has_incoming = fs::read_dir(layout.incoming()).is_ok_and(|mut entries| entries.next().is_some());
        if has_incoming && !layout.lock().exists() {
            return Err(StoreFault::NotAStore(folder.to_owned()));
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(layout.lock())
            .map_err(disk)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreFault::InUse(folder.to_owned()),
            TryLockError::Error(error) => disk(error),
        })?;
        layout.create().map_err(disk)?;
        if let Some(open) = layout.open_to_others().map_err(disk)? {
            let root = folder.display();
            log::warn!(
                "{}: other users of this host can list this folder; close it with: chmod 700 {root}",
                open.display()
            );
        }
        layout.remove_incoming().map_err(disk)?;
        let space = Space::open(layout, limits).map_err(disk)?;
        Ok(Self { space: Arc::new(space), _lock: Arc::new(lock) })
    }

    /// Returns whether the store has a blob. The call does not count as a use of the blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.space.has_blob(*digest)
    }

    /// Returns a complete blob. The call counts as a use of the blob.
    pub fn find(&self, digest: &Digest) -> io::Result<Option<StoredBlob>> {
        self.space.open_blob(*digest)
    }

    /// Makes room for content and begins to write it. An error of the kind `StorageFull` means that there is no room.
    pub fn begin(&self, name: &ContentName, length: Option<u64>) -> io::Result<IncomingBlob> {
        IncomingBlob::create(&self.space, name, length)
    }

    /// Notes whether another host has this blob as well. If so, it is evicted before blobs that no other host has.
    /// Until the first call, the blob counts as the only copy.
    pub fn set_elsewhere(&self, digest: Digest, is_elsewhere: bool) {
        self.space.set_elsewhere(digest, is_elsewhere);
    }

    /// Sets the hook that is called with each removed blob: evicted, or damaged. The hook must not block. Later calls
    /// of this function change nothing.
    pub fn on_removal(&self, hook: impl Fn(Digest) + Send + Sync + 'static) {
        self.space.on_removal(Box::new(hook));
    }

    /// Returns what the store holds.
    pub fn usage(&self) -> io::Result<StoreUsage> {
        self.space.usage()
    }

    /// Returns how many files were evicted since the store was opened.
    pub fn evictions(&self) -> u64 {
        self.space.evictions()
    }
}
