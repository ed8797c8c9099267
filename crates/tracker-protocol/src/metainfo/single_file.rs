//! Torrent files of one file (BEP 3), which hosts that share blobs exchange. They are read strictly, and written in
//! exactly one form.

use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::InfoHash;
use crate::bencode::{BencodeError, Reader, Value, put_bytes, put_length};

/// The most bytes of a torrent file. They hold the hashes of 52,000 pieces: 25 GiB in pieces of 512 KiB.
pub const MAX_METAINFO: usize = 1024 * 1024;

/// The smallest piece length, in bytes. It is also the length of a block: peers request a piece in blocks (BEP 3).
pub const MIN_PIECE_LENGTH: u32 = 16 * 1024;

/// The largest piece length, in bytes.
pub const MAX_PIECE_LENGTH: u32 = 16 * 1024 * 1024;

/// The most bytes of a name, as in file systems.
const MAX_NAME: usize = 255;

/// The most bytes of [`MetainfoParts::source`].
const MAX_SOURCE: usize = 255;

/// The parts of a torrent file that describes a single file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetainfoParts {
    /// The name of the file: text without slashes and control characters, at most 255 bytes.
    pub name: String,
    /// The length of the file in bytes; at least 1.
    pub length: u64,
    /// The length of each piece but the last, in bytes: a power of two from [`MIN_PIECE_LENGTH`] to
    /// [`MAX_PIECE_LENGTH`].
    pub piece_length: u32,
    /// The SHA-1 of each piece, in order.
    pub piece_hashes: Vec<[u8; 20]>,
    /// Whether clients may get peers from trackers only (BEP 27).
    pub private: bool,
    /// 1 to 255 bytes that have no meaning but change the info-hash. If they are random, or a MAC with a secret
    /// key, a host that does not know them cannot compute the info-hash from the content.
    pub source: Option<Vec<u8>>,
}

/// A valid torrent file that describes a single file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo(MetainfoParts);

/// Why bytes are no torrent file, or parts do not make one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetainfoError {
    /// The file has more than [`MAX_METAINFO`] bytes.
    #[error("it has more than {MAX_METAINFO} bytes")]
    TooLong,
    /// The file is not bencode.
    #[error("{0}")]
    Bencode(#[from] BencodeError),
    /// The file is not one dictionary, or bytes follow the dictionary.
    #[error("it is not one dictionary")]
    NotADictionary,
    /// The file has no `info` dictionary, or has two of them.
    #[error("it does not have exactly one info dictionary")]
    NotOneInfo,
    /// `info` lists several files.
    #[error("it has a list of files, expected one file")]
    SeveralFiles,
    /// `info` has a key whose meaning is unknown here. [`Metainfo::encode`] could not write this key again.
    #[error("the info dictionary has the key \"{}\", expected length, name, piece length, pieces, private and source", .0.escape_default())]
    UnknownKey(String),
    /// A key in `info` is missing, or its value has the wrong type or is out of range.
    #[error("{key} is missing or wrong, expected {expected}")]
    Wrong {
        /// The key.
        key: &'static str,
        /// What the value must be.
        expected: &'static str,
    },
    /// There are more or fewer hashes than pieces.
    #[error("it has {found} piece hashes, expected {expected}")]
    HashCount {
        /// The number of hashes.
        found: u64,
        /// The number of pieces.
        expected: u64,
    },
    /// The keys of `info` are not sorted or not unique, or a number has leading zeros.
    #[error("the info dictionary is not in canonical form")]
    NotCanonical,
}

impl Metainfo {
    /// Makes the torrent file of these parts.
    ///
    /// # Errors
    /// A part is out of range, or the parts contradict each other.
    pub fn new(parts: MetainfoParts) -> Result<Self, MetainfoError> {
        let wrong = |key, expected| Err(MetainfoError::Wrong { key, expected });
        if !is_name(&parts.name) {
            return wrong("name", NAME);
        }
        if parts.length == 0 || i64::try_from(parts.length).is_err() {
            return wrong("length", LENGTH);
        }
        if !parts.piece_length.is_power_of_two() || !(MIN_PIECE_LENGTH..=MAX_PIECE_LENGTH).contains(&parts.piece_length)
        {
            return wrong("piece length", PIECE_LENGTH);
        }
        if parts.source.as_ref().is_some_and(|source| !(1..=MAX_SOURCE).contains(&source.len())) {
            return wrong("source", SOURCE);
        }
        let expected = parts.length.div_ceil(parts.piece_length.into());
        let found = parts.piece_hashes.len() as u64;
        if found != expected {
            return Err(MetainfoError::HashCount { found, expected });
        }
        let metainfo = Self(parts);
        if metainfo.encode().len() > MAX_METAINFO { Err(MetainfoError::TooLong) } else { Ok(metainfo) }
    }

    /// Reads a torrent file. Keys beside `info`, such as `announce`, are ignored.
    ///
    /// # Errors
    /// The bytes are not a torrent file that describes a single file, or `info` is not exactly what [`Self::encode`]
    /// writes. So every reader of the file computes the same info-hash.
    pub fn decode(file: &[u8]) -> Result<Self, MetainfoError> {
        if file.len() > MAX_METAINFO {
            return Err(MetainfoError::TooLong);
        }
        let info = only_info(file)?;
        let metainfo = Self::new(parts(info)?)?;
        if metainfo.info() == info { Ok(metainfo) } else { Err(MetainfoError::NotCanonical) }
    }

    /// Returns the torrent file: a dictionary with nothing but `info`.
    pub fn encode(&self) -> Vec<u8> {
        [&b"d4:info"[..], &self.info(), b"e"].concat()
    }

    /// Returns the info-hash: the SHA-1 of the `info` dictionary.
    pub fn info_hash(&self) -> InfoHash {
        InfoHash(Sha1::digest(self.info()).into())
    }

    /// Returns the parts of the file.
    pub fn parts(&self) -> &MetainfoParts {
        &self.0
    }

    /// Returns the parts of the file.
    pub fn into_parts(self) -> MetainfoParts {
        self.0
    }

    /// Returns the `info` dictionary in canonical form: the keys are sorted.
    fn info(&self) -> Vec<u8> {
        let MetainfoParts { name, length, piece_length, piece_hashes, private, source } = &self.0;
        let hashes = piece_hashes.as_flattened();
        let mut out = Vec::with_capacity(hashes.len() + name.len() + 128);
        out.extend_from_slice(b"d6:lengthi");
        out.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
        out.extend_from_slice(b"e4:name");
        put_bytes(&mut out, name.as_bytes());
        out.extend_from_slice(b"12:piece lengthi");
        out.extend_from_slice(itoa::Buffer::new().format(*piece_length).as_bytes());
        out.extend_from_slice(b"e6:pieces");
        put_length(&mut out, hashes.len());
        out.extend_from_slice(hashes);
        if *private {
            out.extend_from_slice(b"7:privatei1e");
        }
        if let Some(source) = source {
            out.extend_from_slice(b"6:source");
            put_bytes(&mut out, source);
        }
        out.push(b'e');
        out
    }
}

const NAME: &str = "text of 1 to 255 bytes without slashes and control characters, and not . or ..";
const LENGTH: &str = "a whole number from 1 on";
const PIECE_LENGTH: &str = "a power of two from 16384 to 16777216";
const PIECES: &str = "a string of 20 bytes for each piece";
const PRIVATE: &str = "1";
const SOURCE: &str = "a string of 1 to 255 bytes";

fn is_name(name: &str) -> bool {
    let is_legal = |c: char| !c.is_control() && c != '/' && c != '\\';
    (1..=MAX_NAME).contains(&name.len()) && ![".", ".."].contains(&name) && name.chars().all(is_legal)
}

/// Returns the bytes of the only `info` dictionary of a file.
fn only_info(file: &[u8]) -> Result<&[u8], MetainfoError> {
    let mut reader = Reader::new(file);
    let Value::Dict = reader.value()? else { return Err(MetainfoError::NotADictionary) };
    let mut found = None;
    while let Some(key) = reader.key()? {
        let before = reader.rest();
        let value = reader.value()?;
        reader.skip(value)?;
        let length = before.len() - reader.rest().len();
        let is_first = key != b"info" || value == Value::Dict && found.is_none();
        if !is_first {
            return Err(MetainfoError::NotOneInfo);
        }
        if key == b"info" {
            found = before.get(..length);
        }
    }
    if !reader.rest().is_empty() {
        return Err(MetainfoError::NotADictionary);
    }
    found.ok_or(MetainfoError::NotOneInfo)
}

/// Reads an `info` dictionary. Does not check whether the dictionary is in canonical form.
fn parts(info: &[u8]) -> Result<MetainfoParts, MetainfoError> {
    let mut reader = Reader::new(info);
    reader.value()?;
    let (mut name, mut length, mut piece_length, mut hashes) = (None, None, None, None);
    let (mut private, mut source) = (false, None);
    while let Some(key) = reader.key()? {
        let value = reader.value()?;
        match (key, value) {
            (b"name", Value::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok(),
            (b"length", Value::Int(int)) => length = u64::try_from(int).ok(),
            (b"piece length", Value::Int(int)) => piece_length = u32::try_from(int).ok(),
            (b"pieces", Value::Bytes(bytes)) => {
                hashes = Some(bytes.as_chunks::<20>()).filter(|(_, rest)| rest.is_empty());
            }
            (b"private", Value::Int(1)) => private = true,
            (b"private", _) => return Err(MetainfoError::Wrong { key: "private", expected: PRIVATE }),
            (b"source", Value::Bytes(bytes)) => source = Some(bytes.to_vec()),
            (b"source", _) => return Err(MetainfoError::Wrong { key: "source", expected: SOURCE }),
            (b"files", _) => return Err(MetainfoError::SeveralFiles),
            (b"name" | b"length" | b"piece length" | b"pieces", _) => reader.skip(value)?,
            (unknown, _) => {
                let shown = unknown.get(..MAX_SHOWN).unwrap_or(unknown);
                return Err(MetainfoError::UnknownKey(String::from_utf8_lossy(shown).into_owned()));
            }
        }
    }
    let missing = |key, expected| MetainfoError::Wrong { key, expected };
    Ok(MetainfoParts {
        name: name.ok_or(missing("name", NAME))?.to_owned(),
        length: length.ok_or(missing("length", LENGTH))?,
        piece_length: piece_length.ok_or(missing("piece length", PIECE_LENGTH))?,
        piece_hashes: hashes.ok_or(missing("pieces", PIECES))?.0.to_vec(),
        private,
        source,
    })
}

/// How many bytes of an unknown key an error shows.
const MAX_SHOWN: usize = 40;

#[cfg(test)]
mod tests;
