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

/// Blobs and records in a folder of this process's own. Cheap to clone; see the module for the rules.
#[derive(Clone)]
pub struct BlobStore {
    pub(super) space: Arc<Space>,
    /// Locked as long as the process uses the folder.
    _lock: Arc<File>,
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum StoreFault {
    /// Another process uses it.
    #[error("{}: another torrent-cache uses this folder; give each its own, or stop the other one", .0.display())]
    InUse(PathBuf),
    /// There is a folder `incoming` with files, which is not from a store.
    #[error("{}: not a folder of torrent-cache, but its folder incoming/ has files; give an empty folder", .0.display())]
    NotAStore(PathBuf),
    /// It cannot be read or written.
    #[error("{}: cannot be used as storage: {source}", .folder.display())]
    Disk {
        /// The store's folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BlobStore {
    /// Opens the store in this folder, or makes one. What a dead process was writing is removed.
    pub fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreFault> {
        let disk = |source| StoreFault::Disk { folder: folder.to_owned(), source };
        let layout = StoreFolder::new(folder);
        layout.create_root().map_err(disk)?;
        // `incoming` is emptied, so it must be ours.
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
            log::warn!("{}: other users of this host can look there; close it with: chmod 700 {root}", open.display());
        }
        layout.remove_incoming().map_err(disk)?;
        let space = Space::open(layout, limits).map_err(disk)?;
        Ok(Self { space: Arc::new(space), _lock: Arc::new(lock) })
    }

    /// Whether a blob is there. This does not count as a use of it.
    pub fn has(&self, digest: &Digest) -> bool {
        self.space.has_blob(*digest)
    }

    /// A complete blob. This counts as a use of it.
    pub fn find(&self, digest: &Digest) -> io::Result<Option<StoredBlob>> {
        self.space.open_blob(*digest)
    }

    /// Makes room for content and begins to write it. With an error of the kind `StorageFull` there is no room for it.
    pub fn begin(&self, name: &ContentName, length: Option<u64>) -> io::Result<IncomingBlob> {
        IncomingBlob::create(&self.space, name, length)
    }

    /// Notes whether another host has this blob as well. Then it is evicted before blobs that others lack. Until the first
    /// call no other host has it.
    pub fn set_elsewhere(&self, digest: Digest, is_elsewhere: bool) {
        self.space.set_elsewhere(digest, is_elsewhere);
    }

    /// Has `hook` called with each blob that was removed, because room was needed or because it was damaged. It must not
    /// block. The first call counts.
    pub fn on_removal(&self, hook: impl Fn(Digest) + Send + Sync + 'static) {
        self.space.on_removal(Box::new(hook));
    }

    /// What the store holds.
    pub fn usage(&self) -> io::Result<StoreUsage> {
        self.space.usage()
    }

    /// How many files were removed to make room, since the store was opened.
    pub fn evictions(&self) -> u64 {
        self.space.evictions()
    }
}
