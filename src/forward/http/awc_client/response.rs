//! Rewrites the head of a reply where awc would misread it, and checks that the body is complete.

use tokio::io::ReadBuf;

use super::stream_error::StreamError;

/// The longest head of a reply, in bytes, with the interim replies before it.
const MAX_HEAD: usize = 64 * 1024;

/// The most bytes that awc gets at once.
pub(super) const MAX_READ: usize = 16 * 1024;

/// How many bytes one read requests while the head is incomplete. Most replies fit into one read.
pub(super) const HEAD_READ: usize = 4096;

/// How far a reply has been read.
#[derive(Debug)]
pub(super) enum UpstreamResponse {
    /// The head is incomplete.
    Head {
        /// The bytes of the head that have arrived. The head does not end before position `searched`.
        bytes: Vec<u8>,
        searched: usize,
        /// The length of the interim replies before this head.
        interim: usize,
    },
    /// The head is complete.
    Body {
        /// The head, and what was read together with it. awc has got the first `taken` bytes.
        bytes: Vec<u8>,
        taken: usize,
        /// How many bytes of `Content-Length` have still to be read from the socket.
        missing: Option<u64>,
    },
}

impl Default for UpstreamResponse {
    fn default() -> Self {
        Self::Head { bytes: Vec::new(), searched: 0, interim: 0 }
    }
}

impl UpstreamResponse {
    pub(super) fn in_head(&self) -> bool {
        matches!(self, Self::Head { .. })
    }

    /// Adds bytes read while the head was incomplete. An empty `chunk` is the end of the connection.
    pub(super) fn head_bytes(&mut self, chunk: &[u8]) -> Result<(), StreamError> {
        let Self::Head { bytes, searched, interim } = self else { return Ok(()) };
        if chunk.is_empty() && !bytes.is_empty() {
            return Err(StreamError::Truncated);
        }
        bytes.extend_from_slice(chunk);
        let missing = loop {
            // awc reports bytes that are not HTTP, and the end of the connection.
            if chunk.is_empty() || !may_be_http(bytes) {
                break None;
            }
            let Some(length) = head_length(bytes, searched) else {
                if *interim + bytes.len() > MAX_HEAD {
                    return Err(StreamError::HeadTooLarge);
                }
                return Ok(());
            };
            if *interim + length > MAX_HEAD {
                return Err(StreamError::HeadTooLarge);
            }
            match rewrite(bytes.get_mut(..length).unwrap_or_default()) {
                HeadKind::Interim => {
                    bytes.drain(..length);
                    *interim += length;
                    *searched = 0;
                }
                HeadKind::Final { content_length } => {
                    let read = u64::try_from(bytes.len() - length).unwrap_or(u64::MAX);
                    break content_length.map(|length| length.saturating_sub(read));
                }
            }
        };
        *self = Self::Body { bytes: std::mem::take(bytes), taken: 0, missing };
        Ok(())
    }

    /// Gives awc bytes that were read together with the head. Returns false if none are left.
    pub(super) fn take(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Self::Body { bytes, taken, .. } = self else { return false };
        let rest = bytes.get(*taken..).unwrap_or_default();
        let part = rest.get(..buf.remaining().min(MAX_READ)).unwrap_or(rest);
        buf.put_slice(part);
        *taken += part.len();
        !part.is_empty()
    }

    /// Counts bytes that were read after the head. `read` is 0 at the end of the connection.
    pub(super) fn body_bytes(&mut self, read: usize) -> Result<(), StreamError> {
        if let Self::Body { missing: Some(missing), .. } = self {
            if read == 0 && *missing > 0 {
                return Err(StreamError::Truncated);
            }
            *missing = missing.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

/// Returns whether the first bytes are, or may become, a status line.
fn may_be_http(bytes: &[u8]) -> bool {
    let line = status_line(bytes);
    HTTP_1.iter().zip(line).all(|(a, b)| a == b)
}

const HTTP_1: &[u8] = b"HTTP/1.";

/// Returns the bytes from the status line on. awc skips empty lines before it, and so do we.
fn status_line(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    bytes.get(blank..).unwrap_or_default()
}

/// Returns the length of the head, with the empty line that ends it; `None` if the head is incomplete. `searched` keeps
/// the position for the next call.
fn head_length(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    let blank = bytes.len() - status_line(bytes).len();
    let mut at = blank.max(*searched);
    while let Some(feed) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        let line = at + feed + 1;
        match bytes.get(line..)? {
            [b'\n', ..] => return Some(line + 1),
            [b'\r', b'\n', ..] => return Some(line + 2),
            // The next byte decides whether the head ends here, so the next search begins here.
            [] | [b'\r'] => {
                *searched = at + feed;
                return None;
            }
            _ => at = line,
        }
    }
    *searched = bytes.len();
    None
}

/// The kind of reply that a complete head belongs to.
#[derive(Debug, PartialEq, Eq)]
enum HeadKind {
    /// An interim reply. Another head follows.
    Interim,
    /// The final reply. The length of its body is known if `Content-Length` determines it.
    Final { content_length: Option<u64> },
}

/// Finds the length of the body in a complete head. A body without a length ends when the connection ends. awc reads
/// such a body only in HTTP/1.0, so the head becomes HTTP/1.0. A malformed head stays as it is, and awc refuses it.
fn rewrite(head: &mut [u8]) -> HeadKind {
    const UNTOUCHED: HeadKind = HeadKind::Final { content_length: None };
    let blank = head.len() - status_line(head).len();
    let mut lines = head.get(blank..).unwrap_or_default().split(|&byte| byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let Some((&minor, rest)) = line.strip_prefix(HTTP_1).and_then(<[u8]>::split_first) else { return UNTOUCHED };
    let Some(&[b' ', status @ ..]) = rest.first_chunk::<4>() else { return UNTOUCHED };
    match status {
        [a, b, c] if ![a, b, c].iter().all(u8::is_ascii_digit) => return UNTOUCHED,
        // We never request 101, and no HTTP follows it. 204 and 304 have no body, whatever the head says.
        [b'1', b'0', b'1'] | [b'2' | b'3', b'0', b'4'] => return UNTOUCHED,
        [b'1', ..] => return HeadKind::Interim,
        _ => {}
    }
    let mut content_length = None;
    let mut encoded = false;
    for line in lines {
        let (name, value) = header(line);
        if name.eq_ignore_ascii_case(b"content-length") {
            match (one_length(value), content_length) {
                (Some(length), None) => content_length = Some(length),
                (Some(length), Some(other)) if length == other => {}
                _ => return UNTOUCHED,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // `identity` means no encoding (RFC 2616, section 3.6). HTTP/1.0 has no transfer encodings.
            encoded = minor == b'1' && !value.eq_ignore_ascii_case(b"identity");
        }
    }
    if content_length.is_some() {
        keep_one_length(head);
    }
    match content_length {
        // `Transfer-Encoding` takes precedence over `Content-Length` (RFC 9112, section 6.3).
        _ if encoded => UNTOUCHED,
        Some(_) => HeadKind::Final { content_length },
        None => {
            if let Some(minor) = head.get_mut(blank + HTTP_1.len()) {
                *minor = b'0';
            }
            UNTOUCHED
        }
    }
}

/// Returns the name and the value of a header line.
fn header(line: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default().trim_ascii_end();
    (name, parts.next().unwrap_or_default().trim_ascii())
}

/// Returns the length in the value of a `Content-Length`, which may be a list of equal lengths. `None` if a length is
/// malformed, or if the lengths differ.
fn one_length(value: &[u8]) -> Option<u64> {
    let mut lengths = value.split(|&byte| byte == b',').map(|length| {
        let length = length.trim_ascii();
        let length = length.iter().all(u8::is_ascii_digit).then_some(length)?;
        std::str::from_utf8(length).ok()?.parse().ok()
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// Keeps the first of several equal `Content-Length` headers, and the first value of a list. Later headers get a name
/// without meaning, so that the head keeps its length.
fn keep_one_length(head: &mut [u8]) {
    let mut is_later = false;
    for line in head.split_mut(|&byte| byte == b'\n') {
        if !header(line).0.eq_ignore_ascii_case(b"content-length") {
            continue;
        }
        if is_later {
            line.iter_mut().take_while(|byte| **byte != b':').for_each(|byte| *byte = b'x');
        } else if let Some(comma) = line.iter().position(|&byte| byte == b',') {
            let (length, rest) = line.split_at_mut(comma);
            let blanks = rest.len() - usize::from(rest.ends_with(b"\r"));
            rest.get_mut(..blanks).unwrap_or_default().fill(b' ');
            // The blanks that replace the later values move to before the number, where awc skips blanks.
            if let Some(colon) = length.iter().position(|&byte| byte == b':') {
                let end = comma + blanks;
                line.get_mut(colon + 1..end).unwrap_or_default().rotate_right(blanks);
            }
        }
        is_later = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what awc would read of a reply that arrives in pieces of this many bytes.
    fn shown(reply: &[u8], piece: usize) -> Result<Vec<u8>, StreamError> {
        let mut state = UpstreamResponse::default();
        for chunk in reply.chunks(piece) {
            if state.in_head() {
                state.head_bytes(chunk)?;
            } else if let UpstreamResponse::Body { bytes, .. } = &mut state {
                bytes.extend_from_slice(chunk);
                state.body_bytes(chunk.len())?;
            }
        }
        if state.in_head() {
            state.head_bytes(b"")?;
        }
        state.body_bytes(0)?;
        let mut space = [0; MAX_READ];
        let mut buf = ReadBuf::new(&mut space);
        state.take(&mut buf);
        Ok(buf.filled().to_vec())
    }

    #[test]
    fn heads_are_rewritten_however_they_arrive() {
        for (sent, seen) in [
            ("HTTP/1.1 200 OK\r\nServer: x\r\n\r\nde", "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nde"),
            ("\r\nHTTP/1.1 200\n\nde", "\r\nHTTP/1.0 200\n\nde"),
            ("HTTP/1.1 200 OK\r\n\nde", "HTTP/1.0 200 OK\r\n\nde"),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 404 x\r\n\r\n",
                "HTTP/1.0 404 x\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\ncontent-length:2\r\n\r\nde",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\nxxxxxxxxxxxxxx:2\r\n\r\nde",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2, 2,02\r\n\r\nde",
                "HTTP/1.1 200 OK\r\nContent-Length:       2\r\n\r\nde",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Identity\r\n\r\n",
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: Identity\r\n\r\n",
            ),
        ] {
            for piece in 1..=sent.len() {
                assert_eq!(shown(sent.as_bytes(), piece), Ok(seen.as_bytes().to_vec()), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn heads_that_are_unambiguous_or_malformed_pass_unchanged() {
        for reply in [
            "HTTP/1.1 200 OK\r\nCONTENT-length : 2\r\n\r\nde",
            "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nde",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nde",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nde",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nde",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nde",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 2 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "d8:intervali1800ee",
            "",
        ] {
            for piece in 1..=reply.len().max(1) {
                assert_eq!(shown(reply.as_bytes(), piece), Ok(reply.as_bytes().to_vec()), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn replies_that_end_early_or_never_are_errors() {
        for reply in ["HTTP/1.1 200 OK\r\nA: b\r\n", "HT", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nde"] {
            for piece in 1..=reply.len() {
                assert_eq!(shown(reply.as_bytes(), piece), Err(StreamError::Truncated), "{reply:?} by {piece}");
            }
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(shown(endless.as_bytes(), HEAD_READ), Err(StreamError::HeadTooLarge));
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 20);
        assert_eq!(shown(interim.as_bytes(), HEAD_READ), Err(StreamError::HeadTooLarge));
    }
}
