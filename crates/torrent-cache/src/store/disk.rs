//! The size of a file system, the room that a file takes, and the digest of a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::digest::{Digest, DigestHasher};

/// Files take whole blocks of the disk.
pub(super) const BLOCK: u64 = 4096;

/// Returns how many bytes of the disk a file of `length` bytes takes.
pub(super) fn in_blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// The size of a file system, in bytes.
pub(super) struct Disk {
    pub(super) total: u64,
    pub(super) free: u64,
}

impl Disk {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

/// The bytes that are read at a time.
const READ: usize = 1 << 20;

/// Reads a file and returns its digest.
pub(super) fn digest_of(file: &File, length: u64) -> io::Result<Digest> {
    let (mut hasher, mut buffer, mut at) = (DigestHasher::default(), vec![0; READ], 0);
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(READ).min(READ);
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(part, at)?;
        hasher.update(part);
        at += wanted as u64;
    }
    Ok(hasher.finish())
}
