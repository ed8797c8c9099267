//! Decodes the body of an HTTP reply.
//!
//! We ask for gzip, but some trackers send `deflate`, in either of the two forms that have this name (RFC 9110, section
//! 8.4.1.2). Some send junk after the compressed data, or several gzip members (RFC 1952, section 2.2).

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

/// The most gzip members that are read of one body. Even an empty member takes a new decoder.
const MAX_MEMBERS: usize = 16;

/// The first bytes of a gzip member.
const GZIP: &[u8] = b"\x1f\x8b";

/// A decoded body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// False if the compressed data end early.
    pub(super) is_complete: bool,
}

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The body inflates to more than the bound.
    TooLarge,
    /// The body is malformed. The text names the defect.
    Junk(String),
}

/// Decodes a body to at most `most` bytes. `encoding` is its `Content-Encoding`, if any.
pub(super) fn decode<'a>(encoding: Option<&[u8]>, raw: &'a [u8], most: usize) -> Result<Decoded<'a>, BodyError> {
    let encoding = encoding.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match encoding.as_slice() {
        b"gzip" | b"x-gzip" => gzip(raw, most),
        // Bencode never starts with these bytes. A server in between compressed the body without `Content-Encoding`.
        b"" | b"identity" if raw.starts_with(GZIP) => gzip(raw, most),
        b"" | b"identity" => Ok(Decoded { bytes: Cow::Borrowed(raw), is_complete: true }),
        b"deflate" if is_zlib(raw) => inflate(ZlibDecoder::new(raw), most),
        b"deflate" => inflate(DeflateDecoder::new(raw), most),
        other => Err(BodyError::Junk(format!("its encoding is {}, which was not asked for", other.escape_ascii()))),
    }
}

/// Returns whether data begin with a zlib header (RFC 1950): method 8, and a 16-bit number that is a multiple of 31.
fn is_zlib(raw: &[u8]) -> bool {
    matches!(raw, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

fn gzip(raw: &[u8], most: usize) -> Result<Decoded<'_>, BodyError> {
    let mut bytes = Vec::new();
    let mut rest = raw;
    for member in 0..MAX_MEMBERS {
        let is_gzip = rest.starts_with(GZIP) || member == 0 && GZIP.starts_with(rest);
        if !is_gzip && member == 0 {
            return Err(BodyError::Junk("it is not gzip".to_owned()));
        }
        if !is_gzip {
            break;
        }
        let mut decoder = GzDecoder::new(rest);
        match read_into(&mut bytes, &mut decoder, most)? {
            End::Complete => rest = decoder.into_inner(),
            End::Junk(what) if member == 0 => return Err(BodyError::Junk(what)),
            // What was decoded before the early end, or before the junk, may still be the whole reply.
            End::Early | End::Junk(_) => return Ok(Decoded { bytes: bytes.into(), is_complete: false }),
        }
    }
    Ok(Decoded { bytes: bytes.into(), is_complete: true })
}

fn inflate<'a>(mut decoder: impl Read, most: usize) -> Result<Decoded<'a>, BodyError> {
    let mut bytes = Vec::new();
    match read_into(&mut bytes, &mut decoder, most)? {
        End::Complete => Ok(Decoded { bytes: bytes.into(), is_complete: true }),
        End::Early => Ok(Decoded { bytes: bytes.into(), is_complete: false }),
        End::Junk(what) => Err(BodyError::Junk(what)),
    }
}

/// How compressed data end.
enum End {
    Complete,
    Early,
    Junk(String),
}

/// Appends the output of a decoder.
fn read_into(bytes: &mut Vec<u8>, decoder: &mut impl Read, most: usize) -> Result<End, BodyError> {
    let room = most.saturating_sub(bytes.len());
    let read = decoder.take(u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(bytes);
    if bytes.len() > most {
        return Err(BodyError::TooLarge);
    }
    Ok(match read {
        Ok(_) => End::Complete,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => End::Early,
        Err(error) => End::Junk(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write as _;

    const MOST: usize = 1024;

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn complete(bytes: &[u8]) -> Decoded<'_> {
        Decoded { bytes: bytes.into(), is_complete: true }
    }

    proptest! {
        #[test]
        fn every_encoding_is_decoded_whatever_follows(
            body in proptest::collection::vec(any::<u8>(), 1..MOST), cut in any::<prop::sample::Index>(),
            trailing in "(x|\r\n|de)?",
        ) {
            let trailing = trailing.as_bytes();
            let cut = cut.index(body.len());
            let two = [gzipped(&body[..cut]), gzipped(&body[cut..])].concat();
            let forms: [(Option<&[u8]>, Vec<u8>); 5] = [
                (Some(b"gzip"), gzipped(&body)),
                (None, gzipped(&body)),
                (Some(b" X-Gzip "), two),
                (Some(b"deflate"), zlib(&body)),
                (Some(b"Deflate"), deflated(&body)),
            ];
            for (encoding, bytes) in forms {
                let raw = [&bytes, trailing].concat();
                prop_assert_eq!(decode(encoding, &raw, MOST), Ok(complete(&body)));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(raw in any::<Vec<u8>>()) {
            for encoding in [None, Some(&b"gzip"[..]), Some(b"deflate"), Some(b"br")] {
                if let Ok(decoded) = decode(encoding, &raw, MOST) {
                    prop_assert!(decoded.bytes.len() <= MOST.max(raw.len()));
                }
            }
        }
    }

    #[test]
    fn truncated_data_are_decoded_as_far_as_they_go() {
        let body = b"d8:intervali1800e5:peers0:e";
        let gzip = gzipped(body);
        let decoded = decode(Some(b"gzip"), &gzip[..gzip.len() - 9], MOST).unwrap();
        assert!(!decoded.is_complete && body.starts_with(&decoded.bytes), "{decoded:?}");
        assert!(!decode(Some(b"gzip"), &gzip[..5], MOST).unwrap().is_complete);
        assert!(!decode(Some(b"gzip"), b"", MOST).unwrap().is_complete);
    }

    #[test]
    fn bombs_and_junk_are_refused() {
        let bomb = gzipped(&[0; MOST + 1]);
        assert_eq!(decode(Some(b"gzip"), &bomb, MOST), Err(BodyError::TooLarge));
        let half = gzipped(&[0; MOST / 2 + 1]);
        assert_eq!(decode(Some(b"gzip"), &[&half[..], &half].concat(), MOST), Err(BodyError::TooLarge));
        assert!(decode(Some(b"gzip"), &gzipped(b"").repeat(10_000), MOST).unwrap().bytes.is_empty());
        assert!(matches!(decode(Some(b"gzip"), b"<html>", MOST), Err(BodyError::Junk(_))));
        assert!(matches!(decode(Some(b"br"), b"de", MOST), Err(BodyError::Junk(_))));
    }
}
