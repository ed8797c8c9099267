//! The content of a torrent while it is put together: a file, and which of its pieces are there.
//!
//! Peers and the upstream put pieces into the file. Peers deliver whole pieces in any order, and each piece is checked
//! by its SHA-1. The upstream delivers bytes in order. A piece is claimed for the upstream before its first byte comes,
//! so that no peer is asked for it.
//!
//! The *prefix* is the file up to the first gap. The owner reads and hashes the prefix while it grows, so its bytes
//! must not change. Therefore a piece that is there is never written again. A piece that the upstream has begun keeps
//! the upstream's bytes, even if a peer delivers the rest.

use std::any::Any;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;
use sha1::{Digest as _, Sha1};
use thiserror::Error;
use tokio::sync::watch;

use crate::peer_wire::PieceSet;

/// The SHA-1 of a piece (BEP 3, `pieces`).
pub type PieceHash = [u8; 20];

/// A file, and which of its pieces are there.
#[derive(Debug)]
pub struct SharedContent {
    file: Arc<File>,
    shape: PieceShape,
    state: Mutex<ContentState>,
    /// Held while bytes are written: a piece of a peer and bytes of the upstream must not mix. Only threads that may
    /// block take this lock.
    writing: Mutex<()>,
    progress: watch::Sender<ContentProgress>,
    _keeps: Box<dyn Any + Send + Sync>,
}

/// How a blob is divided into pieces. All pieces have the same length, but the last one may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceShape {
    /// Bytes of the blob.
    pub length: u64,
    /// Bytes of a piece.
    pub piece_length: u32,
    /// How many pieces there are.
    pub count: u32,
}

#[derive(Debug)]
struct ContentState {
    have: PieceSet,
    /// The pieces that are there, in the order in which they came.
    log: Vec<u32>,
    hashes: Vec<Option<PieceHash>>,
    /// The piece that the upstream delivers now, if any.
    claimed: Option<u32>,
    /// Pieces of which the upstream has delivered the beginning.
    begun: HashMap<u32, BegunPiece>,
    progress: ContentProgress,
    sources: ContentSources,
}

#[derive(Debug, Default)]
struct BegunPiece {
    /// How many bytes of the piece are in the file.
    written: u32,
    /// The SHA-1 of these bytes.
    hasher: Sha1,
}

/// How much of the content is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentProgress {
    /// The length of the prefix in bytes.
    pub prefix: u64,
    /// How many pieces are there.
    pub pieces: u32,
    /// How many hashes of pieces are known.
    pub hashes: u32,
    /// Whether the file could not be written.
    pub has_failed: bool,
}

/// Where the bytes in the file came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSources {
    /// Bytes from other hosts.
    pub from_peers: u64,
    /// Bytes from the upstream.
    pub from_upstream: u64,
}

/// Why a piece was not taken.
#[derive(Debug, Error)]
pub enum PieceFault {
    /// The bytes do not match the piece's hash, or the hash is not known.
    #[error("the bytes of piece {0} do not match the piece's hash")]
    WrongHash(u32),
    /// The piece begins with other bytes than the upstream has sent for it.
    #[error("piece {0} differs from the bytes that the upstream sent for it")]
    Differs(u32),
    /// The file could not be written or read.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl PieceShape {
    /// Divides a blob of `length` bytes into pieces of `piece_length` bytes, which must not be 0. Returns `None` if
    /// there are more pieces than the 32-bit indices of the protocol can number.
    pub fn new(length: u64, piece_length: u32) -> Option<Self> {
        let count = u32::try_from(length.checked_add(u64::from(piece_length) - 1)?.checked_div(piece_length.into())?);
        Some(Self { length, piece_length, count: count.ok()? })
    }

    /// Returns the offset in the blob at which a piece begins.
    pub fn start(&self, piece: u32) -> u64 {
        u64::from(piece) * u64::from(self.piece_length)
    }

    /// Returns how many bytes a piece has, or 0 if there is no such piece.
    pub fn length_of(&self, piece: u32) -> u32 {
        let rest = self.length.saturating_sub(self.start(piece));
        u32::try_from(rest.min(self.piece_length.into())).unwrap_or(self.piece_length)
    }

    /// Returns the piece that contains the byte at this offset.
    pub fn piece_at(&self, offset: u64) -> u32 {
        u32::try_from(offset / u64::from(self.piece_length)).unwrap_or(self.count)
    }
}

impl SharedContent {
    /// Makes a content without pieces. `hashes` holds the known piece hashes, from the first piece on.
    pub fn new(file: Arc<File>, shape: PieceShape, hashes: Vec<PieceHash>) -> Self {
        let mut known: Vec<_> = hashes.into_iter().take(shape.count as usize).map(Some).collect();
        let progress = ContentProgress { hashes: number(known.len()), ..ContentProgress::default() };
        known.resize(shape.count as usize, None);
        Self::with(file, shape, PieceSet::empty(shape.count), known, progress)
    }

    /// Makes the content of a complete, verified file. The content holds `keeps`, which keeps the file on disk.
    pub fn complete(file: Arc<File>, shape: PieceShape, keeps: impl Send + Sync + 'static) -> Self {
        let progress = ContentProgress { prefix: shape.length, pieces: shape.count, ..ContentProgress::default() };
        Self { _keeps: Box::new(keeps), ..Self::with(file, shape, PieceSet::full(shape.count), Vec::new(), progress) }
    }

    fn with(
        file: Arc<File>,
        shape: PieceShape,
        have: PieceSet,
        hashes: Vec<Option<PieceHash>>,
        progress: ContentProgress,
    ) -> Self {
        let state = ContentState {
            have,
            log: Vec::new(),
            hashes,
            claimed: None,
            begun: HashMap::new(),
            progress,
            sources: ContentSources::default(),
        };
        Self {
            file,
            shape,
            state: Mutex::new(state),
            writing: Mutex::new(()),
            progress: watch::Sender::new(progress),
            _keeps: Box::new(()),
        }
    }

    /// Returns the length of the blob and of its pieces.
    pub fn shape(&self) -> PieceShape {
        self.shape
    }

    /// Returns the file. Read only the prefix and the pieces that are there.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns a receiver that is told of each change of the progress.
    pub fn progress(&self) -> watch::Receiver<ContentProgress> {
        self.progress.subscribe()
    }

    /// Returns the progress now.
    pub fn progress_now(&self) -> ContentProgress {
        *self.progress.borrow()
    }

    /// Returns how many bytes came from peers and how many from the upstream.
    pub fn sources(&self) -> ContentSources {
        self.state.lock().sources
    }

    /// Returns whether all pieces are there.
    pub fn is_complete(&self) -> bool {
        self.progress.borrow().pieces == self.shape.count
    }

    /// Returns whether this piece is there.
    pub fn has(&self, piece: u32) -> bool {
        self.state.lock().have.contains(piece)
    }

    /// Returns the pieces that are there, and their number. With this number, [`Self::since`] returns the later ones.
    pub fn have(&self) -> (PieceSet, usize) {
        let state = self.state.lock();
        (state.have.clone(), state.log.len())
    }

    /// Returns the pieces that came after the first `seen` pieces, with their hashes.
    pub fn since(&self, seen: usize) -> Vec<(u32, Option<PieceHash>)> {
        let state = self.state.lock();
        let new = state.log.get(seen..).unwrap_or_default();
        new.iter().map(|&piece| (piece, state.hash_of(piece))).collect()
    }

    /// Returns each piece with its hash, or with `None` if the hash is not known.
    pub fn known_hashes(&self) -> Vec<(u32, Option<PieceHash>)> {
        (0..).zip(self.state.lock().hashes.iter().copied()).collect()
    }

    /// Returns all piece hashes, or `None` if one is not known yet.
    pub fn hashes(&self) -> Option<Vec<PieceHash>> {
        self.state.lock().hashes.iter().copied().collect()
    }

    /// Learns piece hashes. A piece that is there keeps its hash.
    pub fn learn(&self, hashes: impl Iterator<Item = (u32, PieceHash)>) {
        let mut state = self.state.lock();
        for (piece, hash) in hashes {
            if !state.have.contains(piece) {
                state.set_hash(piece, hash);
            }
        }
        self.report(&state);
    }

    /// Forgets the hash of a piece, because the upstream has sent other bytes. No peer is asked for the piece any more.
    pub fn distrust(&self, piece: u32) {
        let mut state = self.state.lock();
        if let Some(hash) = state.hashes.get_mut(piece as usize)
            && hash.take().is_some()
        {
            state.progress.hashes -= 1;
        }
        self.report(&state);
    }

    /// Records that the file cannot be written, so that no more bytes will come.
    pub fn fail(&self) {
        let mut state = self.state.lock();
        state.progress.has_failed = true;
        self.report(&state);
    }

    /// Calls `choose` with two arguments: a function that tells whether peers may be asked for a piece, and whether a
    /// piece is claimed for the upstream. Peers may be asked for a missing, unclaimed piece with a known hash.
    pub fn choose<T>(&self, choose: impl FnOnce(&dyn Fn(u32) -> bool, bool) -> T) -> T {
        let state = self.state.lock();
        let may = |piece| !state.have.contains(piece) && state.claimed != Some(piece) && state.hash_of(piece).is_some();
        choose(&may, state.claimed.is_some())
    }

    /// Verifies and writes a whole piece from a peer. Returns `false` if the piece was there. Blocks on the disk.
    pub fn put(&self, piece: u32, bytes: &[u8]) -> Result<bool, PieceFault> {
        let hash: PieceHash = Sha1::digest(bytes).into();
        let _writing = self.writing.lock();
        let written = {
            let state = self.state.lock();
            if state.have.contains(piece) {
                return Ok(false);
            }
            if state.hash_of(piece) != Some(hash) {
                return Err(PieceFault::WrongHash(piece));
            }
            state.begun.get(&piece).map_or(0, |begun| begun.written as usize)
        };
        let (begun, rest) = bytes.split_at_checked(written).ok_or(PieceFault::Differs(piece))?;
        let mut before = vec![0; written];
        self.file.read_exact_at(&mut before, self.shape.start(piece))?;
        if begun != before {
            return Err(PieceFault::Differs(piece));
        }
        self.file.write_all_at(rest, self.shape.start(piece) + begun.len() as u64)?;
        self.state.lock().sources.from_peers += rest.len() as u64;
        self.add(piece, hash);
        Ok(true)
    }

    /// Claims a piece for the upstream; an earlier claim ends. Returns the offset in the blob of the piece's first
    /// missing byte. Returns `None`, and changes no claim, if the piece is there.
    pub fn claim(&self, piece: u32) -> Option<u64> {
        let mut state = self.state.lock();
        if state.have.contains(piece) {
            return None;
        }
        state.claimed = Some(piece);
        let written = state.begun.get(&piece).map_or(0, |begun| begun.written);
        Some(self.shape.start(piece) + u64::from(written))
    }

    /// Ends the claim, because the upstream delivers no more. Peers may be asked for the piece again.
    pub fn give_up_claim(&self) {
        self.state.lock().claimed = None;
    }

    /// Writes the upstream's bytes of the claimed piece. `offset` is the place of the first byte in the blob. Bytes
    /// beyond the piece's end are not taken, and bytes that are there are not written again. Returns how many of the
    /// given bytes are there now: 0 if no piece is claimed, if earlier bytes are missing, or if a peer has delivered
    /// the piece. Blocks on the disk.
    pub fn append(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let _writing = self.writing.lock();
        let (piece, written) = {
            let state = self.state.lock();
            let Some(piece) = state.claimed.filter(|piece| !state.have.contains(*piece)) else { return Ok(0) };
            (piece, state.begun.get(&piece).map_or(0, |begun| begun.written))
        };
        let length = self.shape.length_of(piece);
        let place = self.shape.start(piece) + u64::from(written);
        let Some(known) = place.checked_sub(offset) else { return Ok(0) };
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let (_, new) = bytes.split_at(known);
        let (taken, _) = new.split_at(new.len().min((length - written) as usize));
        self.file.write_all_at(taken, place)?;
        let mut state = self.state.lock();
        state.sources.from_upstream += taken.len() as u64;
        let begun = state.begun.entry(piece).or_default();
        begun.hasher.update(taken);
        begun.written += number(taken.len());
        if begun.written < length {
            self.advance(&mut state);
            return Ok(known + taken.len());
        }
        let hash = begun.hasher.clone().finalize().into();
        drop(state);
        self.add(piece, hash);
        Ok(known + taken.len())
    }

    /// Reads bytes of pieces that are there. Blocks on the disk.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// Records that a piece is in the file.
    fn add(&self, piece: u32, hash: PieceHash) {
        let mut state = self.state.lock();
        state.begun.remove(&piece);
        if state.claimed == Some(piece) {
            state.claimed = None;
        }
        if state.have.insert(piece) {
            state.set_hash(piece, hash);
            state.log.push(piece);
            state.progress.pieces += 1;
        }
        self.advance(&mut state);
    }

    /// Extends the prefix to the first gap.
    fn advance(&self, state: &mut ContentState) {
        let mut piece = self.shape.piece_at(state.progress.prefix);
        while state.have.contains(piece) {
            piece += 1;
        }
        let begun = state.begun.get(&piece).map_or(0, |begun| begun.written.into());
        state.progress.prefix = (self.shape.start(piece) + begun).min(self.shape.length);
        self.report(state);
    }

    fn report(&self, state: &ContentState) {
        let now = state.progress;
        self.progress.send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }
}

impl ContentState {
    fn hash_of(&self, piece: u32) -> Option<PieceHash> {
        self.hashes.get(piece as usize).copied().flatten()
    }

    fn set_hash(&mut self, piece: u32, hash: PieceHash) {
        if let Some(known) = self.hashes.get_mut(piece as usize) {
            self.progress.hashes += u32::from(known.is_none());
            *known = Some(hash);
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
