//! The room that the store's files take on the disk, and the blobs that are in use.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::disk::{Disk, digest_of, in_blocks};
use super::eviction_order::{EvictionCandidate, RemovalHook};
use super::layout::{FileKind, FileName, StoreFolder, make_folder, sync_folder};
use super::limits::{STEP, StoreLimits};
use super::taken::{BlobUsers, TakenSpace};
use crate::digest::Digest;

/// A use is written to the disk only if the last use on the disk is at least this old.
const USE_GRANULARITY: Duration = Duration::from_hours(1);

/// What the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUsage {
    /// Bytes of all files of the store, in blocks of 4 KiB.
    pub bytes: u64,
    /// How many blobs there are.
    pub blobs: u64,
    /// Bytes that the store may take.
    pub quota: u64,
    /// Bytes of the file system that are free.
    pub free: u64,
}

/// A complete blob that is being read. The blob is not evicted before this value is dropped.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    file: Arc<File>,
    length: u64,
    in_use: Arc<InUse>,
}

impl StoredBlob {
    /// Returns the file, for reads at any position. It stays readable even if it is removed from its folder.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns the digest under which the store has the blob.
    pub fn digest(&self) -> Digest {
        self.in_use.digest
    }

    /// Returns the length of the blob in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether this process has verified the bytes.
    pub fn is_verified(&self) -> bool {
        self.in_use.space.taken.lock().verified.contains(&self.in_use.digest)
    }

    /// Notes that this process has verified the bytes.
    pub fn verified(&self) {
        self.in_use.space.taken.lock().verified.insert(self.in_use.digest);
    }

    /// Returns whether the bytes are right. Reads all of them, unless this process has verified them before. Removes a
    /// blob that is damaged or cannot be read. Blocks.
    pub fn is_right(&self) -> io::Result<bool> {
        if self.is_verified() {
            return Ok(true);
        }
        let is_right = digest_of(&self.file, self.length).map(|digest| digest == self.digest());
        match is_right {
            Ok(true) => self.verified(),
            Ok(false) | Err(_) => self.discard(),
        }
        is_right
    }

    /// Removes the blob, because its file is damaged. Blocks.
    pub fn discard(&self) {
        let digest = self.in_use.digest;
        match self.in_use.space.discard(FileName { kind: FileKind::Blob, digest }) {
            Ok(()) => log::warn!("{digest}: its file was damaged, so it is removed and will be fetched again"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("{digest}: its file is damaged and cannot be removed: {error}"),
        }
    }
}

/// Counts as one reader of a blob, until it is dropped.
struct InUse {
    space: Arc<Space>,
    digest: Digest,
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InUse({})", self.digest)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut taken = self.space.taken.lock();
        if let Some(users) = taken.in_use.get_mut(&self.digest) {
            users.count -= 1;
            if users.count == 0 {
                taken.in_use.remove(&self.digest);
            }
        }
    }
}

/// The folder, and how full it is.
pub(super) struct Space {
    pub(super) folder: StoreFolder,
    limits: StoreLimits,
    /// The lock of the sums. Threads that serve clients take it too, so no thread may do slow disk work under it.
    ///
    /// Three renames happen under the lock, so that a file and its part of the sums come and go in one step. Otherwise
    /// a walk through the folder could see a file that the sums lack, or miss one that they have, and would spoil the
    /// sums. The lock also keeps readers from opening a file after eviction has found it unused.
    pub(super) taken: Mutex<TakenSpace>,
    /// The next files to evict; the first to go is the last of the list. Only a thread that evicts holds this lock.
    pub(super) candidates: Mutex<Vec<EvictionCandidate>>,
    /// The hook that is called with each removed blob.
    pub(super) on_removal: OnceLock<RemovalHook>,
}

/// Whether there is room for a file.
enum Room {
    Enough,
    AfterEviction,
    /// Evicting every file that is not in use would not make enough room.
    Never,
}

/// The file system at one moment, and the sums shortly before.
struct MeasuredDisk {
    disk: Disk,
    written: u64,
    changes: u64,
}

impl MeasuredDisk {
    /// Returns whether files came or went since the measurement. If so, the disk may have more room than was measured.
    fn is_outdated(&self, taken: &TakenSpace) -> bool {
        self.changes != taken.changes
    }
}

/// Decides whether there is room for `bytes` more. The measured free room still contains the bytes that were written
/// since the measurement, so they are subtracted too.
fn room(limits: StoreLimits, taken: &TakenSpace, measured: &MeasuredDisk, bytes: u64) -> Room {
    let MeasuredDisk { disk, written, .. } = measured;
    let quota = limits.quota.of(disk.total);
    let evictable = taken.stored.saturating_sub(taken.pinned());
    let unmeasured = taken.unwritten.saturating_add(taken.written.saturating_sub(*written));
    let of_quota = taken.stored.saturating_add(taken.reserved).saturating_add(bytes);
    let of_disk = unmeasured.saturating_add(bytes).saturating_add(limits.min_free.of(disk.total));
    if of_quota <= quota && of_disk <= disk.free {
        Room::Enough
    } else if of_quota.saturating_sub(evictable) <= quota && of_disk <= disk.free.saturating_add(evictable) {
        Room::AfterEviction
    } else {
        Room::Never
    }
}

impl Space {
    /// Counts the files in the folder.
    pub(super) fn open(folder: StoreFolder, limits: StoreLimits) -> io::Result<Self> {
        let mut taken = TakenSpace::default();
        let foreign = folder.walk(|file| taken.add(file.name, file.length))?;
        if let Some(first) = foreign.first() {
            let root = folder.root().display();
            log::warn!(
                "{root}: {} files are not of the store, and stay as they are: {}, …",
                foreign.len(),
                first.display()
            );
            foreign
                .iter()
                .for_each(|path| log::info!("{}: not a file of the store, so it stays as it is", path.display()));
        }
        Ok(Self { folder, limits, taken: Mutex::new(taken), candidates: Mutex::default(), on_removal: OnceLock::new() })
    }

    pub(super) fn usage(&self) -> io::Result<StoreUsage> {
        let disk = Disk::of(self.folder.root())?;
        let taken = self.taken.lock();
        let quota = self.limits.quota.of(disk.total);
        Ok(StoreUsage { bytes: taken.stored, blobs: taken.blobs, quota, free: disk.free })
    }

    pub(super) fn evictions(&self) -> u64 {
        self.taken.lock().evictions
    }

    /// Opens a complete file and notes its use. Returns `None` if there is no such file.
    pub(super) fn open_file(&self, name: FileName) -> io::Result<Option<(File, u64)>> {
        let file = match File::open(self.folder.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        // A time in the future comes from a clock that was wrong, so it is replaced as well.
        let is_recent = SystemTime::now().duration_since(metadata.modified()?).is_ok_and(|age| age < USE_GRANULARITY);
        if !is_recent {
            file.set_modified(SystemTime::now())?;
        }
        Ok(Some((file, metadata.len())))
    }

    /// Opens a complete blob, which is not evicted while it is open.
    pub(super) fn open_blob(self: &Arc<Self>, digest: Digest) -> io::Result<Option<StoredBlob>> {
        // The use is counted before the file is opened, so that the file is not evicted in between.
        let in_use = self.in_use(digest, 0);
        let Some((file, length)) = self.open_file(FileName { kind: FileKind::Blob, digest })? else { return Ok(None) };
        if let Some(users) = self.taken.lock().in_use.get_mut(&digest) {
            users.blocks = in_blocks(length);
        }
        Ok(Some(StoredBlob { file: Arc::new(file), length, in_use: Arc::new(in_use) }))
    }

    /// Returns whether there is a file of this blob.
    pub(super) fn has_blob(&self, digest: Digest) -> bool {
        self.folder.path(FileName { kind: FileKind::Blob, digest }).is_file()
    }

    fn in_use(self: &Arc<Self>, digest: Digest, blocks: u64) -> InUse {
        let mut taken = self.taken.lock();
        taken.in_use.entry(digest).or_insert(BlobUsers { count: 0, blocks }).count += 1;
        InUse { space: Arc::clone(self), digest }
    }

    /// Checks that there can be room for a file of so many bytes. Evicts nothing.
    pub(super) fn check_room(&self, bytes: u64) -> io::Result<()> {
        self.check_share(bytes)?;
        loop {
            let measured = self.measure()?;
            let taken = self.taken.lock();
            match room(self.limits, &taken, &measured, bytes) {
                Room::Enough | Room::AfterEviction => return Ok(()),
                Room::Never if measured.is_outdated(&taken) => {}
                Room::Never => return Err(io::ErrorKind::StorageFull.into()),
            }
        }
    }

    /// Refuses a file larger than half of the quota, which would evict too much else. In a very small store, a file may
    /// have up to 64 MiB.
    pub(super) fn check_share(&self, bytes: u64) -> io::Result<()> {
        let quota = self.limits.quota.of(Disk::of(self.folder.root())?.total);
        if bytes > (quota / 2).max(STEP) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file would take more than half of the quota"));
        }
        Ok(())
    }

    /// Reserves `bytes` for a file that will be written, and evicts other files if there is too little room.
    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut is_last_look = false;
        loop {
            let measured = self.measure()?;
            let mut taken = self.taken.lock();
            match room(self.limits, &taken, &measured, bytes) {
                Room::Enough => {
                    taken.reserved += bytes;
                    taken.unwritten += bytes;
                    return Ok(());
                }
                Room::AfterEviction if !is_last_look => drop(taken),
                Room::AfterEviction | Room::Never if measured.is_outdated(&taken) => continue,
                Room::AfterEviction | Room::Never => return Err(io::ErrorKind::StorageFull.into()),
            }
            is_last_look = !self.evict_one()?;
        }
    }

    /// Measures the file system. A busy or remote disk can take long, so call this without the lock.
    fn measure(&self) -> io::Result<MeasuredDisk> {
        let (written, changes) = {
            let taken = self.taken.lock();
            (taken.written, taken.changes)
        };
        Ok(MeasuredDisk { disk: Disk::of(self.folder.root())?, written, changes })
    }

    /// Notes that so many reserved bytes are on the disk now.
    pub(super) fn wrote(&self, bytes: u64) {
        let mut taken = self.taken.lock();
        taken.unwritten -= bytes;
        taken.written += bytes;
    }

    /// Ends the reservation of bytes for a file. `written` of the reserved bytes are on the disk.
    pub(super) fn release(&self, reserved: u64, written: u64) {
        let mut taken = self.taken.lock();
        taken.reserved -= reserved;
        taken.unwritten -= reserved - written;
    }

    /// Renames a synced file to its place, and syncs the folder, so that the file survives a loss of power.
    pub(super) fn place(&self, from: &Path, name: FileName, length: u64) -> io::Result<()> {
        let path = self.folder.path(name);
        let Some(parent) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
        match make_folder(parent) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made?;
                parent.parent().map_or(Ok(()), sync_folder)?;
            }
        }
        {
            // Under the lock: two threads can store one blob at once, and the replaced file must be subtracted from the
            // sums.
            let mut taken = self.taken.lock();
            let replaced = fs::metadata(&path).ok().map(|metadata| metadata.len());
            fs::rename(from, &path)?;
            replaced.into_iter().for_each(|length| taken.remove(name, length));
            taken.add(name, length);
            if name.kind == FileKind::Blob {
                taken.verified.insert(name.digest);
            }
        }
        sync_folder(parent)
    }

    /// Returns a blob, in use, that is about to be placed. `file` is open for writing, but only reads follow.
    pub(super) fn placed_blob(self: &Arc<Self>, digest: Digest, file: Arc<File>, length: u64) -> StoredBlob {
        StoredBlob { file, length, in_use: Arc::new(self.in_use(digest, in_blocks(length))) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::BLOCK;
    use super::super::limits::DiskShare;
    use super::*;

    #[test]
    fn what_was_written_since_the_disk_was_measured_gets_no_room_twice() {
        let limits = StoreLimits { quota: DiskShare::Bytes(1000), min_free: DiskShare::Bytes(10) };
        let measured = MeasuredDisk { disk: Disk { total: 1000, free: 50 }, written: 7, changes: 0 };
        let enough = |taken: &TakenSpace, bytes| matches!(room(limits, taken, &measured, bytes), Room::Enough);
        // A file of 20 bytes is reserved. After the disk was measured, 0, 10 or 20 bytes of it are written.
        for (unwritten, written) in [(20, 7), (10, 17), (0, 27)] {
            let taken = TakenSpace { reserved: 20, unwritten, written, ..TakenSpace::default() };
            assert!(enough(&taken, 20) && !enough(&taken, 21), "{unwritten} {written}");
        }
        // The bytes of this file were written before the disk was measured, so they are not in its free room.
        let taken = TakenSpace { reserved: 20, written: 7, ..TakenSpace::default() };
        assert!(enough(&taken, 40) && !enough(&taken, 41));
    }

    #[test]
    fn a_full_disk_is_measured_again_if_files_went_meanwhile() {
        let limits = StoreLimits { quota: DiskShare::Bytes(10 * BLOCK), min_free: DiskShare::Bytes(0) };
        let measured = MeasuredDisk { disk: Disk { total: 10 * BLOCK, free: 0 }, written: 0, changes: 3 };
        let mut taken = TakenSpace { stored: BLOCK, changes: 3, ..TakenSpace::default() };
        assert!(matches!(room(limits, &taken, &measured, BLOCK), Room::AfterEviction));
        assert!(matches!(room(limits, &taken, &measured, BLOCK + 1), Room::Never));
        assert!(!measured.is_outdated(&taken));
        taken.remove(FileName { kind: FileKind::Blob, digest: Digest::of(b"x") }, BLOCK);
        assert!(measured.is_outdated(&taken));
    }

    #[test]
    fn what_was_reserved_is_given_back_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = StoreFolder::new(root.path());
        folder.create().unwrap();
        let limits = StoreLimits { quota: DiskShare::Bytes(10 * BLOCK), min_free: DiskShare::Bytes(0) };
        let space = Space::open(folder, limits).unwrap();
        space.reserve(4 * BLOCK).unwrap();
        space.reserve(2 * BLOCK).unwrap();
        space.wrote(BLOCK);
        let sums = || {
            let taken = space.taken.lock();
            (taken.reserved, taken.unwritten)
        };
        assert_eq!(sums(), (6 * BLOCK, 5 * BLOCK));
        space.release(4 * BLOCK, BLOCK);
        assert_eq!(sums(), (2 * BLOCK, 2 * BLOCK));
        space.release(2 * BLOCK, 0);
        assert_eq!(sums(), (0, 0));
    }
}
