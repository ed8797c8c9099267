//! What content is named by, and whether bytes are what a name says.

use std::fmt;

use thiserror::Error;

use crate::digest::{Digest, DigestHasher};
use crate::ostree::filez::{FilezFault, FilezVerifier};
use crate::ostree::path::ObjectChecksum;

/// What a client asks for, by a name that decides which bytes are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentName {
    /// The blob of this digest.
    Blob(Digest),
    /// The file of a file object of OSTree (`.filez`). Servers may compress an object in different ways, so the digest of
    /// the file is known only when all of it is there.
    FileObject(ObjectChecksum),
}

impl ContentName {
    /// The digest that the bytes will have, if the name tells it.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Blob(digest) => Some(*digest),
            Self::FileObject(_) => None,
        }
    }

    /// A SHA-256 that tells this content from any other: of the blob, or of the object in the file.
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

/// Bytes are not what their name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WrongContent {
    /// Their digest is another one.
    #[error("the bytes have the digest {got}, not {expected}")]
    Digest {
        /// By which digest the blob was asked for.
        expected: Digest,
        /// What the bytes have.
        got: Digest,
    },
    /// They are not this file object.
    #[error("the bytes are not the file object {checksum}: {fault}")]
    Object {
        /// By which name the object was asked for.
        checksum: ObjectChecksum,
        /// What is wrong with the file.
        fault: FilezFault,
    },
}

/// Verifies content while its bytes arrive. A clone goes on from the same place.
#[derive(Clone, Debug)]
pub struct ContentVerifier {
    name: ContentName,
    /// Of the file, as it is stored by its digest.
    hasher: DigestHasher,
    object: Option<FilezVerifier>,
}

impl ContentVerifier {
    /// Knows no bytes yet.
    pub fn new(name: &ContentName) -> Self {
        let object = match name {
            ContentName::Blob(_) => None,
            ContentName::FileObject(checksum) => Some(FilezVerifier::new(*checksum)),
        };
        Self { name: *name, hasher: DigestHasher::default(), object }
    }

    /// Takes the next bytes. Takes as long as it takes to hash them, and to inflate those of a file object.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(object) = &mut self.object {
            // The fault comes again at the end.
            let _ = object.update(bytes);
        }
    }

    /// The content is complete: its digest, if it is what its name says.
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
