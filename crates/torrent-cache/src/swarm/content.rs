//! The content of a torrent while it is put together: a file, and which of its pieces are there.
//!
//! Two sides put pieces into it. Peers deliver whole pieces in any order, which are checked by their SHA-1. The upstream
//! delivers bytes in order; it claims each piece before it begins it, so that no peer is asked for that piece too.
//!
//! What is in the file without a gap from the first byte on is the *prefix*. The owner reads and hashes the prefix while it
//! grows, so no byte of the prefix ever changes: a piece that is there is never written again, and one that the upstream
//! has begun keeps these bytes, also if a peer delivers the rest.

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
    /// Held while bytes are written, so that two sides do not write the same piece at once. Only threads that may block
    /// take it.
    writing: Mutex<()>,
    progress: watch::Sender<ContentProgress>,
    _keeps: Box<dyn Any + Send + Sync>,
}

/// How a blob is divided into pieces. All have the same length, but for the last one, which may be shorter.
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
    /// The piece that the upstream delivers now.
    claimed: Option<u32>,
    /// Pieces of which the upstream has delivered the beginning.
    begun: HashMap<u32, BegunPiece>,
    progress: ContentProgress,
    sources: ContentSources,
}

#[derive(Debug, Default)]
struct BegunPiece {
    /// So many bytes of it are in the file.
    written: u32,
    /// Of these bytes.
    hasher: Sha1,
}

/// How far the content is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentProgress {
    /// Bytes from the first one on that are in the file without a gap.
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

/// A piece was not taken.
#[derive(Debug, Error)]
pub enum PieceFault {
    /// Its bytes are not those of its hash.
    #[error("the bytes of piece {0} do not have its hash")]
    WrongHash(u32),
    /// It begins with other bytes than the upstream has sent for this piece before.
    #[error("piece {0} differs from what the upstream has sent of it")]
    Differs(u32),
    /// The file could not be written or read.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl PieceShape {
    /// The shape of a blob of this length, in pieces of `piece_length` bytes, which is not zero. `None` if there would be
    /// more pieces than messages between peers can number.
    pub fn new(length: u64, piece_length: u32) -> Option<Self> {
        let count = u32::try_from(length.checked_add(u64::from(piece_length) - 1)?.checked_div(piece_length.into())?);
        Some(Self { length, piece_length, count: count.ok()? })
    }

    /// Where a piece begins.
    pub fn start(&self, piece: u32) -> u64 {
        u64::from(piece) * u64::from(self.piece_length)
    }

    /// Bytes of a piece; 0 if there is no such piece.
    pub fn length_of(&self, piece: u32) -> u32 {
        let rest = self.length.saturating_sub(self.start(piece));
        u32::try_from(rest.min(self.piece_length.into())).unwrap_or(self.piece_length)
    }

    /// The piece in which this byte is.
    pub fn piece_at(&self, offset: u64) -> u32 {
        u32::try_from(offset / u64::from(self.piece_length)).unwrap_or(self.count)
    }
}

impl SharedContent {
    /// Nothing is there yet. `hashes` are known already, or come one by one.
    pub fn new(file: Arc<File>, shape: PieceShape, hashes: Vec<PieceHash>) -> Self {
        let mut known: Vec<_> = hashes.into_iter().take(shape.count as usize).map(Some).collect();
        let progress = ContentProgress { hashes: number(known.len()), ..ContentProgress::default() };
        known.resize(shape.count as usize, None);
        Self::with(file, shape, PieceSet::empty(shape.count), known, progress)
    }

    /// Everything is there, and right. `keeps` is kept as long as the content: it makes the file stay.
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

    /// The length and the pieces.
    pub fn shape(&self) -> PieceShape {
        self.shape
    }

    /// The file. It has the bytes of the prefix, and of each piece that is there.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How far it is, and when that changes.
    pub fn progress(&self) -> watch::Receiver<ContentProgress> {
        self.progress.subscribe()
    }

    /// How far it is now.
    pub fn progress_now(&self) -> ContentProgress {
        *self.progress.borrow()
    }

    /// Where its bytes came from.
    pub fn sources(&self) -> ContentSources {
        self.state.lock().sources
    }

    /// Whether all pieces are there.
    pub fn is_complete(&self) -> bool {
        self.progress.borrow().pieces == self.shape.count
    }

    /// Whether this piece is there.
    pub fn has(&self, piece: u32) -> bool {
        self.state.lock().have.contains(piece)
    }

    /// The pieces that are there now, and how many of [`Self::since`] they make.
    pub fn have(&self) -> (PieceSet, usize) {
        let state = self.state.lock();
        (state.have.clone(), state.log.len())
    }

    /// The pieces that came after the first `seen` ones, with their hashes.
    pub fn since(&self, seen: usize) -> Vec<(u32, Option<PieceHash>)> {
        let state = self.state.lock();
        let new = state.log.get(seen..).unwrap_or_default();
        new.iter().map(|&piece| (piece, state.hash_of(piece))).collect()
    }

    /// Each piece with its hash, if that is known.
    pub fn known_hashes(&self) -> Vec<(u32, Option<PieceHash>)> {
        (0..).zip(self.state.lock().hashes.iter().copied()).collect()
    }

    /// All hashes, once all are known.
    pub fn hashes(&self) -> Option<Vec<PieceHash>> {
        self.state.lock().hashes.iter().copied().collect()
    }

    /// Learns hashes of pieces. A piece that is there keeps its hash.
    pub fn learn(&self, hashes: impl Iterator<Item = (u32, PieceHash)>) {
        let mut state = self.state.lock();
        for (piece, hash) in hashes {
            if !state.have.contains(piece) {
                state.set_hash(piece, hash);
            }
        }
        self.report(&state);
    }

    /// Forgets the hash of a piece, so that no peer is asked for it: the upstream has sent something else.
    pub fn distrust(&self, piece: u32) {
        let mut state = self.state.lock();
        if let Some(hash) = state.hashes.get_mut(piece as usize)
            && hash.take().is_some()
        {
            state.progress.hashes -= 1;
        }
        self.report(&state);
    }

    /// Notes that the file cannot be written, so nothing more will come.
    pub fn fail(&self) {
        let mut state = self.state.lock();
        state.progress.has_failed = true;
        self.report(&state);
    }

    /// Calls `choose` with a test of whether a piece may be asked of peers: it is not there, its hash is known, and the
    /// upstream does not deliver it now. Also tells whether the upstream delivers a piece now.
    pub fn choose<T>(&self, choose: impl FnOnce(&dyn Fn(u32) -> bool, bool) -> T) -> T {
        let state = self.state.lock();
        let may = |piece| !state.have.contains(piece) && state.claimed != Some(piece) && state.hash_of(piece).is_some();
        choose(&may, state.claimed.is_some())
    }

    /// Takes a whole piece from a peer. Returns whether it is new. Blocks.
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

    /// Claims a piece for the upstream, and gives up the claim of another. Returns where the first byte is that is not
    /// there; `None` if the piece is there.
    pub fn claim(&self, piece: u32) -> Option<u64> {
        let mut state = self.state.lock();
        if state.have.contains(piece) {
            return None;
        }
        state.claimed = Some(piece);
        let written = state.begun.get(&piece).map_or(0, |begun| begun.written);
        Some(self.shape.start(piece) + u64::from(written))
    }

    /// Gives up the claim, because the upstream delivers no more. Peers are asked for the piece now.
    pub fn give_up_claim(&self) {
        self.state.lock().claimed = None;
    }

    /// Takes bytes of the claimed piece from the upstream. `offset` is the place of the first one in the blob. Bytes beyond the
    /// piece's end are not taken, and those that are there already are not written again. Returns how many of the bytes are
    /// there now: none if no piece is claimed, if bytes before them are missing, or if a peer has delivered the piece. Blocks.
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

    /// Reads bytes of pieces that are there. Blocks.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// Notes that a piece is in the file.
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

    /// Lets the prefix grow over what has come.
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
