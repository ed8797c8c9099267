//! Torrent files (BEP 3, BEP 52). [`info`] finds the part of any torrent file from which the info-hash is computed.
//! [`Metainfo`] is a torrent file that describes a single file, read and written strictly.

mod single_file;

pub use self::single_file::{MAX_METAINFO, MAX_PIECE_LENGTH, MIN_PIECE_LENGTH, Metainfo, MetainfoError, MetainfoParts};

use crate::bencode::{BencodeError, Reader, Value};

/// Finds the `info` dictionary of a torrent file, whose hash is the info-hash. `None` if the file has no `info`.
///
/// # Errors
/// The file is not bencode.
pub fn info(torrent: &[u8]) -> Result<Option<Info<'_>>, BencodeError> {
    let mut reader = Reader::new(torrent);
    let Value::Dict = reader.value()? else { return Ok(None) };
    while let Some(key) = reader.key()? {
        let before = reader.rest();
        let value = reader.value()?;
        if key != b"info" {
            reader.skip(value)?;
            continue;
        }
        let Value::Dict = value else { return Ok(None) };
        let mut is_v1 = false;
        while let Some(key) = reader.key()? {
            is_v1 |= key == b"pieces";
            let value = reader.value()?;
            reader.skip(value)?;
        }
        let length = before.len() - reader.rest().len();
        return Ok(before.get(..length).map(|bytes| Info { bytes, is_v1 }));
    }
    Ok(None)
}

/// The `info` dictionary of a torrent file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info<'a> {
    /// The bytes of the dictionary, as they are in the file.
    pub bytes: &'a [u8],
    /// Whether the info-hash is the SHA-1 of the bytes. Otherwise the info-hash is the first 20 bytes of the SHA-256 of
    /// the bytes (BEP 52).
    pub is_v1: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_info_dictionary_is_found_wherever_it_is() {
        let v1 = b"d4:name1:a6:pieces0:e";
        for torrent in [
            [&b"d4:info"[..], v1, b"e"].concat(),
            [&b"d8:announce3:url4:listl1:ae4:info"[..], v1, b"5:otherd1:ai1eee"].concat(),
        ] {
            assert_eq!(info(&torrent), Ok(Some(Info { bytes: v1, is_v1: true })));
        }
        let v2 = b"d9:file treede12:meta versioni2ee";
        let torrent = [&b"d4:info"[..], v2, b"e"].concat();
        assert_eq!(info(&torrent), Ok(Some(Info { bytes: v2, is_v1: false })));
        for other in [&b"de"[..], b"le", b"i1e", b"d4:info1:ae"] {
            assert_eq!(info(other), Ok(None), "{other:?}");
        }
        assert!(info(b"").is_err() && info(b"d4:infod").is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = info(&bytes);
            let _ = info(&[b"d4:info", &bytes[..], b"e"].concat());
        }
    }
}
