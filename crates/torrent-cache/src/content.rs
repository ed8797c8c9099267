//! The names of content, and the check that bytes are what a name says.

use std::fmt;

use thiserror::Error;

use crate::digest::{Digest, DigestHasher};
use crate::ostree::filez::{FilezFault, FilezVerifier};
use crate::ostree::path::ObjectChecksum;

/// The name of what a client asks for. The name decides which bytes are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentName {
    /// The blob with this digest.
    Blob(Digest),
    /// The file of an OSTree file object (`.filez`). Servers can compress the same object differently, so the digest of
    /// the file is known only once all its bytes are there.
    FileObject(ObjectChecksum),
}

impl ContentName {
    /// Returns the digest that the bytes will have, if the name tells it.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Blob(digest) => Some(*digest),
            Self::FileObject(_) => None,
        }
    }

    /// Returns a SHA-256 that differs from that of any other content: the digest of the blob, or the checksum of the
    /// object.
    pub fn identity(&self) -> Digest {
        match self {
            Self::Blob(digest) => *digest,
            Self::FileObject(checksum) => Digest(checksum.0),
        }
    }
}

impl From<Digest> for ContentName {
    fn from(digest: Digest) -> Self {
        Self::Blob(digest)
    }
}

impl fmt::Display for ContentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => digest.fmt(f),
            Self::FileObject(checksum) => write!(f, "the file object {checksum}"),
        }
    }
}

/// The bytes are not what their name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WrongContent {
    /// The bytes have another digest.
    #[error("the bytes have the digest {got}, not {expected}")]
    Digest {
        /// The digest by which the blob was asked for.
        expected: Digest,
        /// The digest of the bytes.
        got: Digest,
    },
    /// The bytes are not this file object.
    #[error("the bytes are not the file object {checksum}: {fault}")]
    Object {
        /// The checksum by which the object was asked for.
        checksum: ObjectChecksum,
        /// What is wrong with the file.
        fault: FilezFault,
    },
}

/// Verifies content while its bytes arrive. A clone has the same bytes so far.
#[derive(Clone, Debug)]
pub struct ContentVerifier {
    name: ContentName,
    /// Hashes the file, because the store keeps every file under its digest.
    hasher: DigestHasher,
    object: Option<FilezVerifier>,
}

impl ContentVerifier {
    /// Returns a verifier that has no bytes yet.
    pub fn new(name: &ContentName) -> Self {
        let object = match name {
            ContentName::Blob(_) => None,
            ContentName::FileObject(checksum) => Some(FilezVerifier::new(*checksum)),
        };
        Self { name: *name, hasher: DigestHasher::default(), object }
    }

    /// Hashes the next bytes, and inflates those of a file object. Large inputs take long, so async code calls this
    /// function in `spawn_blocking`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(object) = &mut self.object {
            // `finish` reports the fault.
            let _ = object.update(bytes);
        }
    }

    /// Returns the digest of the content, which must be complete now. Fails if the bytes are not what the name says.
    pub fn finish(self) -> Result<Digest, WrongContent> {
        let got = self.hasher.finish();
        match (self.name, self.object) {
            (ContentName::Blob(expected), _) if expected != got => Err(WrongContent::Digest { expected, got }),
            (ContentName::FileObject(checksum), Some(object)) => match object.finish() {
                Ok(()) => Ok(got),
                Err(fault) => Err(WrongContent::Object { checksum, fault }),
            },
            _ => Ok(got),
        }
    }
}
