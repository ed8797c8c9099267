//! The torrent file of a shared blob.

use thiserror::Error;
use tracker_protocol::InfoHash;
use tracker_protocol::metainfo::{Metainfo, MetainfoError, MetainfoParts};

use super::key::ShareKey;
use super::secrets::ClusterSecret;

/// The length in bytes of each piece of a shared blob, except the last piece.
pub const SHARED_PIECE_LENGTH: u32 = 512 << 10;

/// The torrent file of a shared blob (BEP 3): its name is the key, `private` is set (BEP 27), and `source` is a MAC of
/// the key, so that only hosts with the cluster's secret know the info-hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedMetainfo(Metainfo);

/// Why a torrent file does not belong to a blob, or why parts do not make a torrent file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SharedMetainfoError {
    /// The bytes are no torrent file with a single file.
    #[error("it is no torrent file with a single file: {0}")]
    Metainfo(#[from] MetainfoError),
    /// Its name is not the key.
    #[error("its name is not {0}")]
    Name(ShareKey),
    /// `private` is missing.
    #[error("it is not private")]
    Public,
    /// Its source is not the MAC of the key.
    #[error("its source is wrong: the host that wrote the torrent file has another CLUSTER_SECRET")]
    Source,
    /// Its pieces have another length.
    #[error("its pieces have {0} bytes, expected {SHARED_PIECE_LENGTH}")]
    PieceLength(u32),
}

impl SharedMetainfo {
    /// Makes the torrent file of a blob of `length` bytes. `piece_hashes` holds the SHA-1 of each piece.
    ///
    /// # Errors
    /// The blob is empty, there are more or fewer hashes than pieces, or the file would have more than 1 MiB.
    pub fn new(
        key: &ShareKey,
        secret: Option<&ClusterSecret>,
        length: u64,
        piece_hashes: Vec<[u8; 20]>,
    ) -> Result<Self, SharedMetainfoError> {
        let parts = MetainfoParts {
            name: key.to_string(),
            length,
            piece_length: SHARED_PIECE_LENGTH,
            piece_hashes,
            private: true,
            source: Some(key.info_source(secret).into_bytes()),
        };
        Ok(Self(Metainfo::new(parts)?))
    }

    /// Reads the torrent file of a blob.
    ///
    /// # Errors
    /// A host with this secret would write another torrent file for the blob.
    pub fn read(file: &[u8], key: &ShareKey, secret: Option<&ClusterSecret>) -> Result<Self, SharedMetainfoError> {
        let metainfo = Metainfo::decode(file)?;
        let parts = metainfo.parts();
        if parts.name != key.to_string() {
            return Err(SharedMetainfoError::Name(*key));
        }
        if !parts.private {
            return Err(SharedMetainfoError::Public);
        }
        if parts.source.as_deref() != Some(key.info_source(secret).as_bytes()) {
            return Err(SharedMetainfoError::Source);
        }
        if parts.piece_length != SHARED_PIECE_LENGTH {
            return Err(SharedMetainfoError::PieceLength(parts.piece_length));
        }
        Ok(Self(metainfo))
    }

    /// Returns the bytes of the torrent file.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// Returns the info-hash: the SHA-1 of `info`.
    pub fn info_hash(&self) -> InfoHash {
        self.0.info_hash()
    }

    /// Returns the length of the blob in bytes, which is at least 1.
    pub fn length(&self) -> u64 {
        self.0.parts().length
    }

    /// Returns the SHA-1 of each piece, in order.
    pub fn piece_hashes(&self) -> &[[u8; 20]] {
        &self.0.parts().piece_hashes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn key() -> ShareKey {
        ShareKey::new("quay.io a/b", Digest::of(b"blob"))
    }

    fn secret() -> ClusterSecret {
        "0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn a_file_is_written_byte_for_byte() {
        let metainfo = SharedMetainfo::new(&key(), None, 3, vec![*b"01234567890123456789"]).unwrap();
        let expected = format!(
            "d4:infod6:lengthi3e4:name71:{}12:piece lengthi524288e6:pieces20:01234567890123456789\
             7:privatei1e6:source64:{}ee",
            key(),
            key().info_source(None)
        );
        assert_eq!(String::from_utf8(metainfo.encode()).unwrap(), expected);
    }

    #[test]
    fn files_of_others_are_refused() {
        let good = SharedMetainfo::new(&key(), Some(&secret()), 3, vec![[1; 20]]).unwrap();
        let changed = |change: fn(&mut MetainfoParts)| {
            let mut parts = good.0.clone().into_parts();
            change(&mut parts);
            let file = Metainfo::new(parts).unwrap().encode();
            SharedMetainfo::read(&file, &key(), Some(&secret())).unwrap_err()
        };
        assert_eq!(changed(|parts| parts.name = "blob".to_owned()), SharedMetainfoError::Name(key()));
        assert_eq!(changed(|parts| parts.private = false), SharedMetainfoError::Public);
        assert_eq!(changed(|parts| parts.source = None), SharedMetainfoError::Source);
        assert_eq!(changed(|parts| parts.piece_length /= 2), SharedMetainfoError::PieceLength(262_144));
        assert_eq!(SharedMetainfo::read(&good.encode(), &key(), None), Err(SharedMetainfoError::Source));
        assert!(matches!(SharedMetainfo::read(b"junk", &key(), None), Err(SharedMetainfoError::Metainfo(_))));
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        let count = |length, hashes| SharedMetainfo::new(&key(), None, length, vec![[0; 20]; hashes]).is_ok();
        assert!(count(524_288, 1) && count(524_289, 2));
        assert!(!count(0, 0) && !count(524_288, 2) && !count(524_289, 1));
    }

    proptest! {
        #[test]
        fn a_file_is_read_as_it_is_written(
            length in 1_u64..20 << 20,
            fill: u8,
            is_secret: bool,
            upstream in "[a-z0-9./: ]{1,40}",
        ) {
            let key = ShareKey::new(&upstream, Digest::of(&[fill]));
            let secret = secret();
            let secret = is_secret.then_some(&secret);
            let pieces = usize::try_from(length.div_ceil(SHARED_PIECE_LENGTH.into())).unwrap();
            let hashes: Vec<_> = (fill..=u8::MAX).cycle().take(pieces).map(|byte| [byte; 20]).collect();
            let metainfo = SharedMetainfo::new(&key, secret, length, hashes.clone()).unwrap();
            prop_assert_eq!(metainfo.length(), length);
            prop_assert_eq!(metainfo.piece_hashes(), &hashes[..]);
            let read = SharedMetainfo::read(&metainfo.encode(), &key, secret).unwrap();
            prop_assert_eq!(read.info_hash(), metainfo.info_hash());
            prop_assert_eq!(read, metainfo);
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = SharedMetainfo::read(&bytes, &key(), None);
            let _ = SharedMetainfo::read(&[b"d4:infod", &bytes[..], b"ee"].concat(), &key(), None);
        }
    }
}
