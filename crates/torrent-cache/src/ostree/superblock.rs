//! Reads the superblock of a static delta: which parts the delta has, and which objects clients must fetch separately.
//!
//! A superblock has the type `(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))`: metadata, time, the two commits,
//! the new commit object, the deltas to apply first, parts, fallback objects.

use thiserror::Error;

use super::gvariant::{TupleMembers, elements, string, variant};
use super::path::ObjectChecksum;
use crate::digest::Digest;

/// The largest superblock that is read, in bytes. Each object takes 33 bytes. A superblock can also contain parts.
pub const MAX_SUPERBLOCK: usize = 16 << 20;

/// The first bytes of a signed superblock. Its type is `(taya{sv})`: these bytes, the superblock, the signatures.
const SIGNED_MAGIC: [u8; 8] = *b"OSTSGNDT";

/// What a superblock says about the files beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaSuperblock {
    /// The parts. The part with index N is the file `N` beside the superblock.
    pub parts: Vec<DeltaPart>,
    /// Objects that are not in the parts, usually large files. Clients fetch these objects from the repository.
    pub fallbacks: Vec<FallbackObject>,
}

/// A part of a static delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaPart {
    /// The SHA-256 of the part's file.
    pub digest: Digest,
    /// The length of the part's file in bytes. `None` if the superblock does not say its numbers' byte order.
    pub length: Option<u64>,
    /// Whether the superblock contains the part. Clients then do not ask for the part's file.
    pub is_inline: bool,
}

/// An object that a delta leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackObject {
    /// The object's name.
    pub checksum: ObjectChecksum,
    /// The length of the object's file in bytes. `None` if the superblock does not say its numbers' byte order.
    pub length: Option<u64>,
}

/// The bytes are not a superblock that this reader understands. The delta's parts can be passed on, but not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the superblock of a static delta in GVariant's normal form, of at most 16 MiB")]
pub struct NotASuperblock;

impl DeltaSuperblock {
    /// Reads a superblock, signed or not. Signatures are not checked, because clients check them.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotASuperblock> {
        if bytes.len() > MAX_SUPERBLOCK {
            return Err(NotASuperblock);
        }
        let unsigned = if bytes.starts_with(&SIGNED_MAGIC) { signed_content(bytes) } else { Some(bytes) };
        unsigned.and_then(Self::read).ok_or(NotASuperblock)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut members = TupleMembers::new(bytes);
        let metadata = DeltaMetadata::read(members.variable(8)?)?;
        let _time: [u8; 8] = members.fixed()?;
        let (_from, _to) = (members.variable(1)?, members.variable(1)?);
        let (_commit, _dependencies) = (members.variable(8)?, members.variable(1)?);
        let parts = elements(members.variable(8)?, 8)?;
        let fallbacks = elements(members.last(8)?, 8)?;
        Some(Self {
            parts: (0_u32..).zip(parts).map(|(index, part)| metadata.read_part(index, part?)).collect::<Option<_>>()?,
            fallbacks: fallbacks.map(|object| metadata.read_fallback(object?)).collect::<Option<_>>()?,
        })
    }
}

fn signed_content(bytes: &[u8]) -> Option<&[u8]> {
    let mut members = TupleMembers::new(bytes);
    let _magic: [u8; 8] = members.fixed()?;
    let content = members.variable(1)?;
    members.last(8)?;
    Some(content)
}

/// The byte order of a superblock's numbers. By an old mistake, OSTree uses the byte order of the machine that writes
/// the superblock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
    Unknown,
}

/// What the metadata (`a{sv}`) says about the rest of the superblock.
struct DeltaMetadata {
    order: ByteOrder,
    /// The indices of the parts that the superblock contains, in order.
    inline: Vec<u32>,
}

impl DeltaMetadata {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut metadata = Self { order: ByteOrder::Unknown, inline: Vec::new() };
        for entry in elements(bytes, 8)? {
            let mut members = TupleMembers::new(entry?);
            let key = string(members.variable(1)?)?;
            let value = variant(members.last(8)?)?;
            match (key, value) {
                (b"ostree.endianness", (b"y", b"l")) => metadata.order = ByteOrder::Little,
                (b"ostree.endianness", (b"y", b"B")) => metadata.order = ByteOrder::Big,
                (_, (b"(yay)", _)) => metadata.inline.extend(inline_part(key)),
                _ => (),
            }
        }
        metadata.inline.sort_unstable();
        Some(metadata)
    }

    /// Reads `(uayttay)`: version, SHA-256, length, length of its objects, their names.
    fn read_part(&self, index: u32, bytes: &[u8]) -> Option<DeltaPart> {
        let mut members = TupleMembers::new(bytes);
        let _version: [u8; 4] = members.fixed()?;
        let digest = Digest(members.variable(1)?.try_into().ok()?);
        let length = self.number(members.fixed()?);
        let _length_of_objects: [u8; 8] = members.fixed()?;
        members.last(1)?;
        Some(DeltaPart { digest, length, is_inline: self.inline.binary_search(&index).is_ok() })
    }

    /// Reads `(yaytt)`: type, SHA-256, length, length of its content.
    fn read_fallback(&self, bytes: &[u8]) -> Option<FallbackObject> {
        let mut members = TupleMembers::new(bytes);
        let _kind: [u8; 1] = members.fixed()?;
        let checksum = ObjectChecksum(members.variable(1)?.try_into().ok()?);
        let length = self.number(members.fixed()?);
        let _length_of_content: [u8; 8] = members.fixed()?;
        members.finish()?;
        Some(FallbackObject { checksum, length })
    }

    fn number(&self, bytes: [u8; 8]) -> Option<u64> {
        match self.order {
            ByteOrder::Little => Some(u64::from_le_bytes(bytes)),
            ByteOrder::Big => Some(u64::from_be_bytes(bytes)),
            ByteOrder::Unknown => None,
        }
    }
}

/// Reads a part's index from a key of the metadata. The key is the part's path, `deltas/…/N`.
fn inline_part(key: &[u8]) -> Option<u32> {
    let path = std::str::from_utf8(key).ok()?.strip_prefix("deltas/")?;
    path.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests;
