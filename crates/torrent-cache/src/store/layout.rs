//! Where files are in the store's folder.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::digest::Digest;

/// Only the owner may read files. They can be private, and other users of this host have shown no credentials for them.
pub(super) const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// The permissions of all users but the owner.
const OTHERS: u32 = 0o077;

/// What a file of the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FileKind {
    Blob,
    Manifest,
    Tag,
    Delta,
    /// A note that an upstream has delivered a blob or a manifest.
    Delivery,
    /// The torrent file of a blob that is shared.
    Torrent,
}

impl FileKind {
    const ALL: [Self; 6] = [Self::Blob, Self::Manifest, Self::Tag, Self::Delta, Self::Delivery, Self::Torrent];

    fn folder(self) -> &'static str {
        match self {
            Self::Blob => "blobs/sha256",
            Self::Manifest => "manifests/sha256",
            Self::Tag => "tags",
            Self::Delta => "deltas",
            Self::Delivery => "deliveries",
            Self::Torrent => "torrents",
        }
    }
}

/// The name of a file of the store: a kind and a digest, so that no text from outside is in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileName {
    pub(super) kind: FileKind,
    pub(super) digest: Digest,
}

/// A file that a walk through the folder has found.
pub(super) struct FoundFile {
    pub(super) name: FileName,
    pub(super) length: u64,
    pub(super) used_at: SystemTime,
}

/// The store's folder.
pub(super) struct StoreFolder(PathBuf);

impl StoreFolder {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.0.join("incoming")
    }

    pub(super) fn path(&self, name: FileName) -> PathBuf {
        let hex = name.digest.hex();
        let prefix: String = hex.chars().take(2).collect();
        self.0.join(name.kind.folder()).join(prefix).join(hex)
    }

    /// Returns a path below `incoming/` that no other file has.
    pub(super) fn new_incoming(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.incoming().join(format!("{}.part", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes the folder with [`FOLDER_MODE`]. Missing folders above it are not the store's, and get the usual mode.
    pub(super) fn create_root(&self) -> io::Result<()> {
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent)?;
        }
        make_folders(&self.0)
    }

    /// Makes the folders inside that every store has.
    pub(super) fn create(&self) -> io::Result<()> {
        for kind in FileKind::ALL {
            make_folders(&self.0.join(kind.folder()))?;
        }
        make_folders(&self.incoming())
    }

    /// Returns a folder that other users of this host can look into, such as a folder that an older version made.
    pub(super) fn open_to_others(&self) -> io::Result<Option<PathBuf>> {
        let is_open = |path: &Path| Ok::<_, io::Error>(fs::metadata(path)?.permissions().mode() & OTHERS != 0);
        if !is_open(&self.0)? {
            return Ok(None);
        }
        for path in ["blobs", "manifests", "tags", "deltas", "incoming"].map(|name| self.0.join(name)) {
            if is_open(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Removes all files that an earlier process did not finish.
    pub(super) fn remove_incoming(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.incoming())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Visits each file of the store. Returns the paths of all other files in the folder.
    pub(super) fn walk(&self, mut visit: impl FnMut(FoundFile)) -> io::Result<Vec<PathBuf>> {
        let mut foreign = Vec::new();
        let own = ["lock", "incoming", "blobs", "manifests", "tags", "deltas", "deliveries", "torrents"];
        each_entry(&self.0, |path, name, _| {
            if !own.contains(&name) {
                foreign.push(path);
            }
            Ok(())
        })?;
        for kind in FileKind::ALL {
            each_entry(&self.0.join(kind.folder()), |path, prefix, entry| {
                if !entry.file_type()?.is_dir() || prefix.len() != 2 {
                    foreign.push(path);
                    return Ok(());
                }
                each_entry(&path, |path, hex, entry| {
                    // A file can be evicted during the walk.
                    let metadata = match entry.metadata() {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                        metadata => metadata?,
                    };
                    match format!("sha256:{hex}").parse() {
                        Ok(digest) if metadata.is_file() && hex.starts_with(prefix) => visit(FoundFile {
                            name: FileName { kind, digest },
                            length: metadata.len(),
                            used_at: metadata.modified()?,
                        }),
                        _ => foreign.push(path),
                    }
                    Ok(())
                })
            })?;
        }
        Ok(foreign)
    }
}

/// Makes a folder and the missing folders above it. A folder that exists keeps its mode.
fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Makes a folder. Fails if the folder exists.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Calls `visit` with the path and the name of each entry of a folder. The name is empty if it is not UTF-8.
fn each_entry(folder: &Path, mut visit: impl FnMut(PathBuf, &str, &fs::DirEntry) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        visit(entry.path(), entry.file_name().to_str().unwrap_or_default(), &entry)?;
    }
    Ok(())
}

/// Syncs a folder, so that files and folders that were made in it, or renamed into it, survive a loss of power.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
