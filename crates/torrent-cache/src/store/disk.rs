//! A file system, and what files take of it.

use std::io;
use std::path::Path;

/// Files take whole blocks of the disk.
pub(super) const BLOCK: u64 = 4096;

/// What a file of `length` bytes takes.
pub(super) fn in_blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// A file system, in bytes.
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
