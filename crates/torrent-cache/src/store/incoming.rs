//! Files that are being written.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::disk::in_blocks;
use super::layout::{FILE_MODE, FileKind, FileName};
use super::limits::STEP;
use super::space::{Space, StoredBlob};
use crate::content::{ContentName, ContentVerifier, WrongContent};
use crate::digest::Digest;

/// The bytes that are read and verified at a time.
const ADOPTED: usize = 256 * 1024;

/// A file below `incoming/`. It is removed when this value is dropped, unless [`Self::place`] has moved it.
pub(super) struct IncomingFile {
    space: Arc<Space>,
    path: PathBuf,
    file: Arc<File>,
    /// The length that the sender has announced, in blocks.
    announced: u64,
    reserved: u64,
    written: u64,
    is_placed: bool,
}

impl IncomingFile {
    /// Creates the file, and makes room for the first step of its `length` bytes. Fails if even
    /// evictions cannot make room for the whole file.
    pub(super) fn create(space: &Arc<Space>, length: u64) -> io::Result<Self> {
        let announced = in_blocks(length);
        space.check_room(announced)?;
        let reserved = announced.min(STEP);
        space.reserve(reserved)?;
        let path = space.folder.new_incoming();
        match OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path) {
            Ok(file) => {
                let space = Arc::clone(space);
                Ok(Self { space, path, file: Arc::new(file), announced, reserved, written: 0, is_placed: false })
            }
            Err(error) => {
                space.release(reserved, 0);
                Err(error)
            }
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.make_room(in_blocks(self.written + length))?;
        // Written at its position, so that the next write overwrites a write that failed midway.
        self.file.write_all_at(bytes, self.written)?;
        self.written += length;
        self.space.wrote(length);
        Ok(())
    }

    /// Makes room for all announced bytes.
    fn reserve(&mut self) -> io::Result<()> {
        self.make_room(self.announced)
    }

    /// Counts the bytes up to this place, which the caller has written to the file.
    fn adopt(&mut self, to: u64) {
        let length = to.saturating_sub(self.written);
        self.written += length;
        self.space.wrote(length);
    }

    fn make_room(&mut self, blocks: u64) -> io::Result<()> {
        let needed = blocks.saturating_sub(self.reserved);
        if needed == 0 {
            return Ok(());
        }
        self.space.check_share(blocks)?;
        let step = self.announced.saturating_sub(self.reserved).min(STEP).max(needed);
        // If there is no room for a whole step, room for the needed bytes is enough.
        let taken = match self.space.reserve(step) {
            Err(_) if step > needed => self.space.reserve(needed).map(|()| needed)?,
            reserved => reserved.map(|()| step)?,
        };
        self.reserved += taken;
        Ok(())
    }

    /// Syncs the file and renames it to its place.
    pub(super) fn place(mut self, name: FileName) -> io::Result<()> {
        self.file.sync_data()?;
        self.space.place(&self.path, name, self.written)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for IncomingFile {
    fn drop(&mut self) {
        self.space.release(self.reserved, self.written);
        // The file is gone if the rename happened and a later step failed.
        if let (false, Err(error)) = (self.is_placed, fs::remove_file(&self.path))
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("{}: not removed ({error}), the next start will remove it", self.path.display());
        }
    }
}

/// A blob that is being written. If it is dropped before it is committed, nothing stays.
pub struct IncomingBlob {
    file: IncomingFile,
    verifier: ContentVerifier,
}

impl IncomingBlob {
    /// Begins to write a blob. The sender announces `length`, which only decides how much room is made at the start.
    pub(super) fn create(space: &Arc<Space>, name: &ContentName, length: Option<u64>) -> io::Result<Self> {
        let file = IncomingFile::create(space, length.unwrap_or(0))?;
        Ok(Self { file, verifier: ContentVerifier::new(name) })
    }

    /// Writes bytes at the end, and verifies them. Makes more room if the announced length is exceeded. An error leaves
    /// the blob as it was.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.verifier.update(bytes);
        Ok(())
    }

    /// Makes room for all announced bytes, because the caller writes them in any order.
    pub fn reserve(&mut self) -> io::Result<()> {
        self.file.reserve()
    }

    /// Verifies the bytes up to this place, which the caller has written and must not change any more.
    pub fn adopt(&mut self, to: u64) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(ADOPTED);
        while self.file.written < to {
            buffer.clear();
            let length = usize::try_from(to - self.file.written).unwrap_or(ADOPTED).min(ADOPTED);
            buffer.resize(length, 0);
            self.file.file.read_exact_at(&mut buffer, self.file.written)?;
            self.verifier.update(&buffer);
            self.file.adopt(self.file.written + length as u64);
        }
        Ok(())
    }

    /// Returns the file, for reads at positions below [`Self::written`], also while it grows.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.file)
    }

    /// Returns how many bytes were appended or adopted.
    pub fn written(&self) -> u64 {
        self.file.written
    }

    /// Returns the verifier, which has read exactly the first [`Self::written`] bytes.
    pub fn verifier(&self) -> &ContentVerifier {
        &self.verifier
    }

    /// Checks that the bytes are what the name says. Then they can be served, though they are not safe on the disk yet.
    pub fn verify(self) -> Result<VerifiedBlob, WrongContent> {
        Ok(VerifiedBlob { digest: self.verifier.finish()?, file: self.file })
    }

    /// Calls [`Self::verify`], then [`VerifiedBlob::commit`].
    pub fn commit(self) -> Result<StoredBlob, CommitError> {
        Ok(self.verify()?.commit()?)
    }
}

/// A blob whose bytes are right, but whose file is not in its place yet.
pub struct VerifiedBlob {
    file: IncomingFile,
    digest: Digest,
}

impl VerifiedBlob {
    /// Returns the file, for reads at any position.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.file)
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the length of the blob in bytes.
    pub fn length(&self) -> u64 {
        self.file.written
    }

    /// Moves the blob to its place in the store. After this call the store has the blob, even after a loss of power.
    pub fn commit(self) -> io::Result<StoredBlob> {
        let (file, length) = (self.file(), self.length());
        // The blob counts as in use before it is in its place, so that it is not evicted in between.
        let stored = self.file.space.placed_blob(self.digest, file, length);
        self.file.place(FileName { kind: FileKind::Blob, digest: self.digest })?;
        Ok(stored)
    }
}

/// Why a blob was not stored. Nothing of it stays.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The bytes are not what their name says.
    #[error(transparent)]
    Wrong(#[from] WrongContent),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}
