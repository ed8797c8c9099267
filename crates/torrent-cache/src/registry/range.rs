//! Reads which bytes of a blob a request wants from `Range`, `If-Range` and `If-None-Match` (RFC 9110, sections 13 and
//! 14).

use std::fmt;

use crate::digest::Digest;

/// The `Range` header of a request, before the length of the blob is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedRange {
    /// All bytes: there is no range, several ranges, another unit than bytes, or an invalid header. A server may ignore
    /// such headers (RFC 9110, section 14.2).
    Whole,
    /// `bytes=FIRST-` or `bytes=FIRST-LAST`.
    From {
        /// The first byte, counted from 0.
        first: u64,
        /// The last byte, which is never before the first. `None` means the end of the blob.
        last: Option<u64>,
    },
    /// `bytes=-LENGTH`: this many bytes at the end.
    Suffix(u64),
}

/// The bytes of a blob of known length that a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedRange {
    /// All bytes, with status 200.
    Whole,
    /// These bytes, with status 206.
    Part(BlobPart),
    /// No bytes, with status 416 and `Content-Range: bytes */LENGTH`.
    Unsatisfiable {
        /// The length of the blob.
        length: u64,
    },
}

/// A part of a blob, never empty: first ≤ last < length. `Display` writes the value of `Content-Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobPart {
    first: u64,
    last: u64,
    length: u64,
}

impl RequestedRange {
    /// Reads a `Range` header.
    pub fn parse(header: &str) -> Self {
        Self::read(header).unwrap_or(Self::Whole)
    }

    fn read(header: &str) -> Option<Self> {
        let (unit, ranges) = header.trim_matches(OWS).split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        // Lists may have empty elements (RFC 9110, section 5.6.1).
        let mut ranges = ranges.split(',').map(|range| range.trim_matches(OWS)).filter(|range| !range.is_empty());
        let (Some(range), None) = (ranges.next(), ranges.next()) else { return None };
        let (first, last) = range.split_once('-')?;
        match (first, last) {
            ("", length) => Some(Self::Suffix(position(length)?)),
            (first, "") => Some(Self::From { first: position(first)?, last: None }),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    /// Returns the range if `If-Range` is absent or has the blob's entity tag. Otherwise returns the whole blob,
    /// because the client has a part of another blob. Dates and weak tags never match.
    #[must_use]
    pub fn if_range(self, header: Option<&str>, digest: &Digest) -> Self {
        let is_same = |header: &str| header.trim_matches(OWS) == entity_tag(digest);
        if header.is_none_or(is_same) { self } else { Self::Whole }
    }

    /// Returns the bytes of a blob of this length. An empty blob is always sent whole, because some clients send
    /// `bytes=0-` with every request.
    pub fn of(self, length: u64) -> SelectedRange {
        let Some(end) = length.checked_sub(1) else { return SelectedRange::Whole };
        let (first, last) = match self {
            Self::Whole => return SelectedRange::Whole,
            Self::Suffix(0) => return SelectedRange::Unsatisfiable { length },
            Self::Suffix(wanted) => (length.saturating_sub(wanted), end),
            Self::From { first, .. } if first > end => return SelectedRange::Unsatisfiable { length },
            Self::From { first, last } => (first, last.map_or(end, |last| last.min(end))),
        };
        SelectedRange::Part(BlobPart { first, last, length })
    }
}

impl BlobPart {
    /// Returns the first byte, counted from 0.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the last byte, counted from 0.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the number of bytes, which is the `Content-Length`.
    pub fn count(&self) -> u64 {
        // No overflow: first ≤ last < length.
        self.last - self.first + 1
    }
}

impl fmt::Display for BlobPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/{}", self.first, self.last, self.length)
    }
}

/// Optional white space (RFC 9110, section 5.6.3).
const OWS: [char; 2] = [' ', '\t'];

/// Reads digits as a position. A number that is too large becomes `u64::MAX`, which is behind the end of every blob.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Returns the entity tag of a blob or manifest: its digest in quotes, as registries send it.
pub fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether `If-None-Match` asks for 304: it is `*`, or has the entity tag of this digest, weak or strong. A digest
/// without quotes also counts, as in Docker's registry.
pub fn none_match_has(header: &str, digest: &Digest) -> bool {
    if header.trim_matches(OWS) == "*" {
        return true;
    }
    let digest = digest.to_string();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opaque = rest.strip_prefix("W/").unwrap_or(rest);
        let (tag, after) = match opaque.strip_prefix('"') {
            // A quoted tag can contain commas.
            Some(quoted) => match quoted.split_once('"') {
                Some(split) => split,
                None => return false,
            },
            None => match opaque.split_once(',') {
                Some((tag, after)) => (tag.trim_end_matches(OWS), after),
                None => (opaque.trim_end_matches(OWS), ""),
            },
        };
        if tag == digest {
            return true;
        }
        if after.is_empty() {
            return false;
        }
        rest = after;
    }
}

/// Reads the `Content-Range` of a 206. Returns the position of the first byte, and the length of the whole if the
/// header has it.
pub fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, length) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let length = if length == "*" { None } else { Some(length.parse().ok()?) };
    Some((first.trim().parse().ok()?, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(first: u64, last: u64, length: u64) -> SelectedRange {
        SelectedRange::Part(BlobPart { first, last, length })
    }

    fn select(header: &str, length: u64) -> SelectedRange {
        RequestedRange::parse(header).of(length)
    }

    #[test]
    fn one_range_selects_a_part() {
        assert_eq!(select("bytes=0-499", 10_000), part(0, 499, 10_000));
        assert_eq!(select("bytes=9500-", 10_000), part(9500, 9999, 10_000));
        assert_eq!(select("bytes=-500", 10_000), part(9500, 9999, 10_000));
        assert_eq!(select("bytes=-20000", 10_000), part(0, 9999, 10_000));
        assert_eq!(select("bytes=0-", 1), part(0, 0, 1));
        assert_eq!(select("bytes=5-5", 6), part(5, 5, 6));
        assert_eq!(select("bytes=5-99999999999999999999999", 10), part(5, 9, 10));
        assert_eq!(select("bytes=0-", u64::MAX), part(0, u64::MAX - 1, u64::MAX));
        assert_eq!(select(" Bytes= 0-4 \t,,", 10), part(0, 4, 10));
        let SelectedRange::Part(part) = select("bytes=0-499", 10_000) else { panic!() };
        assert_eq!((part.first(), part.last(), part.count()), (0, 499, 500));
        assert_eq!(part.to_string(), "bytes 0-499/10000");
    }

    #[test]
    fn a_range_outside_the_blob_is_unsatisfiable() {
        for header in
            ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=18446744073709551615-", "bytes=18446744073709551616-"]
        {
            assert_eq!(select(header, 10), SelectedRange::Unsatisfiable { length: 10 }, "{header}");
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_the_whole_blob() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "items=0-5",
            "bytes=a-b",
            "bytes=0 -5",
            "bytes=0- 5",
            "bytes=+1-2",
            "bytes=--5",
            "bytes=1-2-3",
            "bytes =0-5",
            "bytes=0x1-2",
            "bytes=١-٢",
            "bytes:0-5",
        ] {
            assert_eq!(select(header, 10), SelectedRange::Whole, "{header:?}");
        }
        for header in ["bytes=0-", "bytes=-5", "bytes=7-9"] {
            assert_eq!(select(header, 0), SelectedRange::Whole, "an empty blob");
        }
    }

    #[test]
    fn if_range_needs_the_same_strong_tag() {
        let digest = Digest::of(b"x");
        let range = RequestedRange::parse("bytes=1-2");
        assert_eq!(range.if_range(None, &digest), range);
        assert_eq!(range.if_range(Some(&format!(" \"{digest}\"")), &digest), range);
        for other in [&format!("W/\"{digest}\""), &digest.to_string(), "Wed, 21 Oct 2015 07:28:00 GMT", "", "*"] {
            assert_eq!(range.if_range(Some(other), &digest), RequestedRange::Whole, "{other}");
        }
    }

    #[test]
    fn none_match_compares_weakly() {
        let digest = Digest::of(b"x");
        for header in [
            format!("\"{digest}\""),
            format!("W/\"{digest}\""),
            "*".to_owned(),
            digest.to_string(),
            format!(" {digest} , \"b\""),
            format!("\"a,b\", W/\"{digest}\"\t"),
            format!(",, \"a\",\"{digest}\""),
            format!("a, {digest}"),
        ] {
            assert!(none_match_has(&header, &digest), "{header}");
        }
        for header in [
            String::new(),
            ",".to_owned(),
            "\"".to_owned(),
            "W/".to_owned(),
            format!("\"{digest}"),
            format!("\"a,{digest},b\""),
            format!("\"{digest}0\""),
            Digest::of(b"y").to_string(),
            format!("w/\"{digest}\"x"),
        ] {
            assert!(!none_match_has(&header, &digest), "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_inside_the_blob(header in "(bytes=)?[0-9a-z=, -]{0,24}|bytes=[0-9]{0,22}-[0-9]{0,22}", length: u64) {
            if let SelectedRange::Part(part) = select(&header, length) {
                prop_assert!(part.first() <= part.last() && part.last() < length);
                prop_assert!((1..=length).contains(&part.count()));
            }
        }

        #[test]
        fn bytes_between_two_positions_are_those(first in 0_u64..100, count in 1_u64..100, length in 1_u64..150) {
            let (text, last) = (format!("bytes={first}-{}", first + count - 1), first + count - 1);
            let expected = if first < length { part(first, last.min(length - 1), length) } else { SelectedRange::Unsatisfiable { length } };
            prop_assert_eq!(select(&text, length), expected);
        }

        #[test]
        fn any_header_is_read(header: String, length: u64) {
            let _ = select(&header, length);
            let _ = none_match_has(&header, &Digest([0; 32]));
        }
    }

    #[test]
    fn a_content_range_tells_place_and_length() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range(" bytes 5-9/*"), Some((5, None)));
        for wrong in
            ["", "bytes", "bytes 5/10", "bytes */10", "bytes 5-9", "items 5-9/10", "bytes -5-9/10", "bytes 5-9/x"]
        {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
