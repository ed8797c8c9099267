//! Verifies a file object of a repository in archive mode (`.filez`). The object is inflated while its bytes arrive.
//!
//! The file consists of the header's size as a big-endian u32, four zeros, the header, and, for a regular file, the
//! content as a raw deflate stream. The header has the type `(tuuuusa(ayay))`: the content's length, owner, group,
//! mode, device, target of a symbolic link, extended attributes. The name of the object is the SHA-256 of the form that
//! repositories of other modes store. In that form, the header has no length, and the content is not compressed.

use std::fmt;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use thiserror::Error;

use super::gvariant::{TupleMembers, push_offset, string};
use super::path::ObjectChecksum;
use crate::digest::DigestHasher;

/// The largest header that is read, in bytes. Only extended attributes can make a header large.
const MAX_HEADER: usize = 1 << 20;

/// The number of bytes before the header.
const PREFIX: usize = 8;

/// How many bytes are inflated at once.
const BUFFER: usize = 16 << 10;

/// The bits of a mode that say which kind a file has, followed by two kinds.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Why a file is not the object that its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FilezFault {
    /// The header is not valid, or is larger than 1 MiB.
    #[error("the header of the object is wrong")]
    Header,
    /// The content cannot be inflated.
    #[error("the content of the object is not a deflate stream")]
    Deflate,
    /// The content is longer or shorter than the header says.
    #[error("the content of the object is longer or shorter than its header says")]
    Length,
    /// Bytes follow the end of the content.
    #[error("bytes follow the end of the object")]
    Trailing,
    /// The file ends before its content is complete.
    #[error("the object ends too early")]
    Truncated,
    /// The SHA-256 is not the object's name.
    #[error("the checksum of the object differs from its name")]
    Checksum,
}

/// Verifies one object. The verifier holds at most one header, or one inflater with its buffer. A clone continues at
/// the same byte.
#[derive(Clone, Debug)]
pub struct FilezVerifier {
    expected: ObjectChecksum,
    state: FilezState,
}

#[derive(Clone, Debug)]
enum FilezState {
    /// The bytes that have come while the header is not complete.
    Header(Vec<u8>),
    Content(Box<InflatedContent>),
    /// A symbolic link has no content.
    Link(DigestHasher),
    Failed(FilezFault),
}

impl FilezVerifier {
    /// Begins to verify that a file is the object of this name.
    pub fn new(expected: ObjectChecksum) -> Self {
        Self { expected, state: FilezState::Header(Vec::new()) }
    }

    /// Takes the next bytes of the file. After an error, each call returns it again.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), FilezFault> {
        let updated = match &mut self.state {
            FilezState::Header(so_far) => match take_header(so_far, bytes) {
                Ok(None) => return Ok(()),
                Ok(Some((state, rest))) => {
                    self.state = state;
                    return if rest.is_empty() { Ok(()) } else { self.update(rest) };
                }
                Err(fault) => Err(fault),
            },
            FilezState::Content(content) => content.update(bytes),
            FilezState::Link(_) if bytes.is_empty() => Ok(()),
            FilezState::Link(_) => Err(FilezFault::Trailing),
            FilezState::Failed(fault) => Err(*fault),
        };
        if let Err(fault) = updated {
            self.state = FilezState::Failed(fault);
        }
        updated
    }

    /// Ends the verification after the last byte. Returns an error if the file is not the object.
    pub fn finish(self) -> Result<(), FilezFault> {
        let hasher = match self.state {
            FilezState::Header(_) => return Err(FilezFault::Truncated),
            FilezState::Content(content) => content.finish()?,
            FilezState::Link(hasher) => hasher,
            FilezState::Failed(fault) => return Err(fault),
        };
        if ObjectChecksum(hasher.finish().0) == self.expected { Ok(()) } else { Err(FilezFault::Checksum) }
    }
}

/// Adds bytes to the header. Once the header is complete, returns the next state and the bytes after the header.
fn take_header<'a>(so_far: &mut Vec<u8>, mut bytes: &'a [u8]) -> Result<Option<(FilezState, &'a [u8])>, FilezFault> {
    let mut take_until = |length: usize| {
        let (taken, rest) = bytes.split_at(bytes.len().min(length.saturating_sub(so_far.len())));
        so_far.extend_from_slice(taken);
        bytes = rest;
        so_far.get(..length).map(<[u8]>::to_vec)
    };
    let Some(prefix) = take_until(PREFIX) else { return Ok(None) };
    let [a, b, c, d, 0, 0, 0, 0] = *prefix else { return Err(FilezFault::Header) };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if size > MAX_HEADER {
        return Err(FilezFault::Header);
    }
    let Some(header) = take_until(PREFIX + size) else { return Ok(None) };
    let header = FileHeader::read(header.get(PREFIX..).unwrap_or_default()).ok_or(FilezFault::Header)?;
    Ok(Some((header.state(), bytes)))
}

/// The content of a header.
struct FileHeader {
    /// The content's length in bytes; `None` for a symbolic link.
    length: Option<u64>,
    /// The header in the form that is hashed, preceded by its size.
    hashed: Vec<u8>,
}

impl FileHeader {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut members = TupleMembers::new(bytes);
        let length = u64::from_be_bytes(members.fixed()?);
        let (owner, group, mode, device): ([u8; 4], [u8; 4], [u8; 4], [u8; 4]) =
            (members.fixed()?, members.fixed()?, members.fixed()?, members.fixed()?);
        let target = members.variable(1)?;
        let target_length = string(target)?.len() as u64;
        let attributes = members.last(1)?;
        let length = match u32::from_be_bytes(mode) & KIND {
            REGULAR if target_length == 0 => Some(length),
            // The length of a link is not hashed: repositories write 0 or the length of the target.
            SYMLINK if length == 0 || length == target_length => None,
            _ => return None,
        };
        if device != [0; 4] {
            return None;
        }
        let mut header = [&owner[..], &group, &mode, &device, target].concat();
        let target_end = header.len();
        header.extend_from_slice(attributes);
        push_offset(&mut header, target_end);
        let mut hashed = u32::try_from(header.len()).ok()?.to_be_bytes().to_vec();
        hashed.extend([0; 4]);
        hashed.extend(header);
        Some(Self { length, hashed })
    }

    /// Returns the state after the header.
    fn state(&self) -> FilezState {
        let mut hasher = DigestHasher::default();
        hasher.update(&self.hashed);
        match self.length {
            Some(length) => FilezState::Content(Box::new(InflatedContent::new(hasher, length))),
            None => FilezState::Link(hasher),
        }
    }
}

/// Inflates and hashes the content of a regular file.
#[derive(Clone)]
struct InflatedContent {
    hasher: DigestHasher,
    inflater: Box<InflateState>,
    buffer: Vec<u8>,
    /// How many bytes of the content are still to come.
    left: u64,
    has_ended: bool,
}

impl InflatedContent {
    fn new(hasher: DigestHasher, length: u64) -> Self {
        Self {
            hasher,
            inflater: InflateState::new_boxed(DataFormat::Raw),
            buffer: vec![0; BUFFER],
            left: length,
            has_ended: false,
        }
    }

    fn update(&mut self, mut bytes: &[u8]) -> Result<(), FilezFault> {
        loop {
            if self.has_ended {
                return if bytes.is_empty() { Ok(()) } else { Err(FilezFault::Trailing) };
            }
            let (taken, is_full) = self.inflate(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            // While the buffer is full, the inflater can hold back more content.
            if bytes.is_empty() && !is_full {
                return Ok(());
            }
        }
    }

    /// Inflates into the buffer once. Returns how many input bytes were taken, and whether the buffer became full.
    fn inflate(&mut self, bytes: &[u8]) -> Result<(usize, bool), FilezFault> {
        let result = inflate(&mut self.inflater, bytes, &mut self.buffer, MZFlush::None);
        let taken = result.bytes_consumed;
        let inflated = self.buffer.get(..result.bytes_written).unwrap_or_default();
        self.has_ended = match result.status {
            Ok(MZStatus::StreamEnd) => true,
            Ok(MZStatus::Ok) => false,
            // Without input bytes, the inflater cannot make progress, and this is not an error.
            Err(MZError::Buf) if bytes.is_empty() => false,
            _ => return Err(FilezFault::Deflate),
        };
        self.left = self.left.checked_sub(inflated.len() as u64).ok_or(FilezFault::Length)?;
        self.hasher.update(inflated);
        if taken == 0 && inflated.is_empty() && !self.has_ended && !bytes.is_empty() {
            return Err(FilezFault::Deflate);
        }
        Ok((taken, inflated.len() == self.buffer.len()))
    }

    fn finish(self) -> Result<DigestHasher, FilezFault> {
        match (self.has_ended, self.left) {
            (false, _) => Err(FilezFault::Truncated),
            (true, 0) => Ok(self.hasher),
            (true, _) => Err(FilezFault::Length),
        }
    }
}

impl fmt::Debug for InflatedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InflatedContent").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
