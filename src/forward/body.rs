//! The body of a reply as it was meant: inflated, if it is compressed.
//!
//! We ask for gzip. Some trackers send `deflate` unasked, in either of the two forms that the name is used for (RFC 9110,
//! section 8.4.1.2); some write bytes behind the end of the compressed data, or several gzip members one after the other
//! (RFC 1952, section 2.2). What can be read of all these is read, up to a bound.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};

/// Gzip members that are read of one body. Each costs a decoder of its own, however little is in it.
const MAX_MEMBERS: usize = 16;

/// How each gzip member begins.
const GZIP: &[u8] = b"\x1f\x8b";

/// A body, and whether all of it is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// False when the compressed data end early.
    pub(super) is_whole: bool,
}

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It inflates to more than is read.
    TooLarge,
    /// What is wrong with it.
    Junk(String),
}

/// Reads a body of at most `most` bytes, inflated. `encoding` is the value of `Content-Encoding`, if there is one.
pub(super) fn decode<'a>(encoding: Option<&[u8]>, raw: &'a [u8], most: usize) -> Result<Decoded<'a>, BodyError> {
    let encoding = encoding.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match encoding.as_slice() {
        b"gzip" | b"x-gzip" => gzip(raw, most),
        // No bencode begins so: a server in front compressed it and did not say so.
        b"" | b"identity" if raw.starts_with(GZIP) => gzip(raw, most),
        b"" | b"identity" => Ok(Decoded { bytes: Cow::Borrowed(raw), is_whole: true }),
        b"deflate" if is_zlib(raw) => inflated(ZlibDecoder::new(raw), most),
        b"deflate" => inflated(DeflateDecoder::new(raw), most),
        other => Err(BodyError::Junk(format!("its encoding is {}, which was not asked for", other.escape_ascii()))),
    }
}

/// Whether data begin with the head of RFC 1950: method 8, and a sum that is a multiple of 31.
fn is_zlib(raw: &[u8]) -> bool {
    matches!(raw, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31))
}

fn gzip(raw: &[u8], most: usize) -> Result<Decoded<'_>, BodyError> {
    let mut bytes = Vec::new();
    let mut rest = raw;
    for member in 0..MAX_MEMBERS {
        let begins = rest.starts_with(GZIP) || member == 0 && GZIP.starts_with(rest);
        if !begins && member == 0 {
            return Err(BodyError::Junk("it is no gzip".to_owned()));
        }
        if !begins {
            break;
        }
        let mut decoder = GzDecoder::new(rest);
        match read_into(&mut bytes, &mut decoder, most)? {
            End::Whole => rest = decoder.into_inner(),
            End::Junk(what) if member == 0 => return Err(BodyError::Junk(what)),
            // What follows a member and is none itself may be of no interest.
            End::Early | End::Junk(_) => return Ok(Decoded { bytes: bytes.into(), is_whole: false }),
        }
    }
    Ok(Decoded { bytes: bytes.into(), is_whole: true })
}

fn inflated<'a>(mut decoder: impl Read, most: usize) -> Result<Decoded<'a>, BodyError> {
    let mut bytes = Vec::new();
    match read_into(&mut bytes, &mut decoder, most)? {
        End::Whole => Ok(Decoded { bytes: bytes.into(), is_whole: true }),
        End::Early => Ok(Decoded { bytes: bytes.into(), is_whole: false }),
        End::Junk(what) => Err(BodyError::Junk(what)),
    }
}

/// How compressed data end.
enum End {
    Whole,
    Early,
    Junk(String),
}

/// Appends what a decoder gives.
fn read_into(bytes: &mut Vec<u8>, decoder: &mut impl Read, most: usize) -> Result<End, BodyError> {
    let room = most.saturating_sub(bytes.len());
    let read = decoder.take(u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(bytes);
    if bytes.len() > most {
        return Err(BodyError::TooLarge);
    }
    Ok(match read {
        Ok(_) => End::Whole,
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

    fn whole(bytes: &[u8]) -> Decoded<'_> {
        Decoded { bytes: bytes.into(), is_whole: true }
    }

    proptest! {
        #[test]
        fn every_form_is_inflated_whatever_follows(
            body in proptest::collection::vec(any::<u8>(), 1..MOST), cut in any::<prop::sample::Index>(),
            behind in "(x|\r\n|de)?",
        ) {
            let behind = behind.as_bytes();
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
                let raw = [&bytes, behind].concat();
                prop_assert_eq!(decode(encoding, &raw, MOST), Ok(whole(&body)));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(raw in any::<Vec<u8>>()) {
            for encoding in [None, Some(&b"gzip"[..]), Some(b"deflate"), Some(b"br")] {
                if let Ok(decoded) = decode(encoding, &raw, MOST) {
                    prop_assert!(decoded.bytes.len() <= MOST.max(raw.len()));
                }
            }
        }
    }

    #[test]
    fn what_ends_early_is_read_as_far_as_it_goes() {
        let body = b"d8:intervali1800e5:peers0:e";
        let gzip = gzipped(body);
        let decoded = decode(Some(b"gzip"), &gzip[..gzip.len() - 9], MOST).unwrap();
        assert!(!decoded.is_whole && body.starts_with(&decoded.bytes), "{decoded:?}");
        assert!(!decode(Some(b"gzip"), &gzip[..5], MOST).unwrap().is_whole);
        assert!(!decode(Some(b"gzip"), b"", MOST).unwrap().is_whole);
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
