//! The reader through which one client gets the bytes of a flight.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::CHUNK;
use super::pass_through::PassThrough;
use super::resuming::ResumingBody;
use super::source::{BlobSource, FlightFault};
use super::state::{Flight, FlightState, ReaderStep, UncachedBlob};

/// The part of a file whose bytes are next in a reply.
pub struct FilePart {
    /// The file.
    pub file: Arc<File>,
    /// The place of the part's first byte in the file.
    pub from: u64,
    /// How many bytes the part has.
    pub length: u64,
}

/// The bytes of one reply, as they come.
pub struct FlightReader<S: BlobSource> {
    flight: Arc<Flight<S::Error>>,
    changes: watch::Receiver<FlightState<S::Error>>,
    position: u64,
    end: Option<u64>,
    /// The client's own source, until [`Self::leave`] takes it.
    source: Option<S>,
    pass_through: Option<PassThrough<S>>,
}

impl<S: BlobSource> FlightReader<S> {
    /// Makes a reader of the bytes from `start` to before `end`, or to the blob's end if that comes first. Opens
    /// `source` only if the flight turns out to be uncached.
    pub fn new(flight: &Arc<Flight<S::Error>>, start: u64, end: Option<u64>, source: S) -> Self {
        Self {
            flight: Arc::clone(flight),
            changes: flight.state.subscribe(),
            position: start,
            end,
            source: Some(source),
            pass_through: None,
        }
    }

    /// Returns the next bytes: at least one, and at most 1 MiB if they are from the disk. `None`: the reply is complete
    /// and the whole blob is verified. After an error the reply must be cut off. If the future is dropped early, bytes
    /// may be lost, so the reader must not be used any more.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Arc<FlightFault<S::Error>>> {
        if let Some(pass_through) = &mut self.pass_through {
            return pass_through.next().await.map_err(Arc::new);
        }
        match self.step().await? {
            ReaderStep::Read { file, to } => match read(file, self.position, to).await {
                Ok(bytes) => {
                    self.position += bytes.len() as u64;
                    Ok(Some(bytes))
                }
                Err(error) => {
                    self.discard().await;
                    Err(FlightFault::Disk(error).into())
                }
            },
            ReaderStep::End => Ok(None),
            ReaderStep::Fail(fault) => Err(fault),
            ReaderStep::PassThrough(blob) => {
                let mut pass_through = self.leave(&blob).await?;
                let next = pass_through.next().await;
                self.pass_through = Some(pass_through);
                next.map_err(Arc::new)
            }
        }
    }

    /// Returns the part of the file that [`next`](Self::next) would read, if it can be read now from the page cache.
    /// The caller sends bytes of it, and tells [`skip`](Self::skip) how many.
    pub fn in_memory(&mut self) -> Option<FilePart> {
        if self.pass_through.is_some() {
            return None;
        }
        let step = self.changes.borrow_and_update().step(self.position, self.end);
        let Some(ReaderStep::Read { file, to }) = step else { return None };
        let length = (to - self.position).min(u64::from(CHUNK));
        // The system reads ahead. So if the first and the last byte are in the page cache, the others most likely are
        // too.
        let is_there = is_in_memory(&file, self.position) && is_in_memory(&file, self.position + length - 1);
        is_there.then_some(FilePart { file, from: self.position, length })
    }

    /// Moves on by the number of bytes of [`in_memory`](Self::in_memory) that the caller has sent.
    pub fn skip(&mut self, sent: u64) {
        self.position += sent;
    }

    /// Removes a blob that cannot be read, so that the next request fetches the blob.
    async fn discard(&self) {
        if let Some(stored) = self.flight.stored.get().cloned() {
            let _ = spawn_blocking(move || stored.discard()).await;
        }
    }

    async fn step(&mut self) -> Result<ReaderStep<S::Error>, FlightFault<S::Error>> {
        loop {
            let step = self.changes.borrow_and_update().step(self.position, self.end);
            match step {
                Some(step) => return Ok(step),
                // This does not fail, because the sender lives as long as the flight.
                None => self.changes.changed().await.map_err(|_| FlightFault::Abandoned)?,
            }
        }
    }

    /// Goes on without the flight, from the client's own source.
    async fn leave(&mut self, blob: &UncachedBlob) -> Result<PassThrough<S>, FlightFault<S::Error>> {
        let UncachedBlob { spool, from, verifier } = blob;
        let source = self.source.take().ok_or(FlightFault::Abandoned)?;
        let body = ResumingBody::new(source, *from, self.flight.length());
        let wanted = self.position..self.end.unwrap_or(u64::MAX);
        // The byte of the spool that the reader kept back.
        let rest = wanted.end.min(*from);
        let held_back = match spool {
            Some(spool) if self.position < rest => read(Arc::clone(spool), self.position, rest).await?,
            _ => Bytes::new(),
        };
        Ok(PassThrough::new(body, verifier.clone(), wanted, held_back))
    }
}

/// Reads bytes between two places: at least one, and at most [`CHUNK`].
///
/// The buffer is allocated here and not on the thread that reads: allocators keep freed memory for the thread that
/// allocated it, and many threads read.
async fn read(file: Arc<File>, from: u64, to: u64) -> io::Result<Bytes> {
    let wanted = usize::try_from((to - from).min(u64::from(CHUNK))).map_err(io::Error::other)?;
    let mut buffer = Vec::with_capacity(wanted);
    let read = move || read_into(&file, &mut buffer, from).map(|()| Bytes::from(buffer));
    spawn_blocking(read).await.map_err(io::Error::other)?
}

/// Returns whether this byte is in the page cache. If the file system cannot tell, returns `false`.
fn is_in_memory(file: &File, at: u64) -> bool {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
}

/// Reads from this place into the spare room of the buffer: at least one byte.
pub(super) fn read_into(file: &File, buffer: &mut Vec<u8>, from: u64) -> io::Result<()> {
    match rustix::io::pread(file, spare_capacity(buffer), from)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
