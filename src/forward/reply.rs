//! An HTTP reply as it comes from the socket, mended where awc misreads it.
//!
//! What is mended (awc 3.11 with actix-http 3.20):
//! - A reply of HTTP/1.1 with neither `Content-Length` nor `Transfer-Encoding` ends when the connection closes (RFC
//!   9112, section 6.3). awc takes its body for empty and reports no error. Many trackers send such replies. Told
//!   that it is HTTP/1.0, awc reads it to its end.
//! - The end of a connection before `Content-Length` is reached is no error to awc.
//! - An interim reply (1xx) is the final one to awc.
//! - Two equal `Content-Length`, or one that says the same twice, are an error to awc. They say one thing (RFC 9110, section
//!   8.6).
//! - awc reads chunk extensions, trailers and interim replies without a bound. The stream under it ends a reply after
//!   [`MAX_RAW`] bytes of whatever kind.
//! - A header name of 65,536 bytes or more makes awc panic. A head may be [`MAX_HEAD`] bytes long altogether.

use std::io;

use thiserror::Error;
use tokio::io::ReadBuf;

/// The longest head of a reply, interim replies included.
const MAX_HEAD: usize = 64 * 1024;

/// The most that is read of a connection, everything included: TLS, heads, chunks and what belongs to them.
pub(super) const MAX_RAW: usize = 3 * 1024 * 1024;

/// The most that one read hands on.
pub(super) const MAX_READ: usize = 16 * 1024;

/// What one read asks of the socket while the head is incomplete: most replies fit as a whole.
pub(super) const HEAD_READ: usize = 4096;

/// What this module adds to the reasons why a connection fails. Travels through awc inside an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum StreamError {
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(String),
    /// The proxy failed.
    #[error("{0}")]
    Proxy(String),
    /// This host lacks what a connection takes.
    #[error("{0}")]
    Local(String),
    /// More was read than [`MAX_RAW`].
    #[error("the reply is too large")]
    TooMuch,
    /// The head of the reply is longer than [`MAX_HEAD`].
    #[error("the head of the reply is too large")]
    HeadTooLarge,
    /// The connection closed in the middle of the head, or before `Content-Length` was reached.
    #[error("the reply is incomplete")]
    Truncated,
}

impl StreamError {
    /// Finds what travelled through awc. TLS errors of later than the handshake are found too.
    pub(super) fn find(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        inner
            .downcast_ref::<Self>()
            .cloned()
            .or_else(|| inner.downcast_ref::<rustls::Error>().map(|error| Self::Tls(error.to_string())))
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::other(error)
    }
}

/// How far a reply has been read.
#[derive(Debug)]
pub(super) enum UpstreamResponse {
    /// The head is incomplete.
    HeadProgress {
        /// What there is of it. No line feed before `searched` ends it.
        bytes: Vec<u8>,
        searched: usize,
        /// The length of interim replies before it.
        interim: usize,
    },
    /// The head is complete.
    Body {
        /// The head and what was read with it; `taken` of it is handed on.
        bytes: Vec<u8>,
        taken: usize,
        /// What `Content-Length` says is still to be read from the socket.
        missing: Option<u64>,
    },
}

impl Default for UpstreamResponse {
    fn default() -> Self {
        Self::HeadProgress { bytes: Vec::new(), searched: 0, interim: 0 }
    }
}

impl UpstreamResponse {
    pub(super) fn in_head(&self) -> bool {
        matches!(self, Self::HeadProgress { .. })
    }

    /// Takes in what was read while the head was incomplete. No bytes mean the end of the connection.
    pub(super) fn head_bytes(&mut self, chunk: &[u8]) -> Result<(), StreamError> {
        let Self::HeadProgress { bytes, searched, interim } = self else { return Ok(()) };
        if chunk.is_empty() && !bytes.is_empty() {
            return Err(StreamError::Truncated);
        }
        bytes.extend_from_slice(chunk);
        let missing = loop {
            // awc says best what is wrong with something that is no HTTP; the end of the connection it sees as well.
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
            match mend(bytes.get_mut(..length).unwrap_or_default()) {
                HeadProgress::Interim => {
                    bytes.drain(..length);
                    *interim += length;
                    *searched = 0;
                }
                HeadProgress::Final { content_length } => {
                    let read = u64::try_from(bytes.len() - length).unwrap_or(u64::MAX);
                    break content_length.map(|length| length.saturating_sub(read));
                }
            }
        };
        *self = Self::Body { bytes: std::mem::take(bytes), taken: 0, missing };
        Ok(())
    }

    /// Hands on some of what was read with the head. False when there is nothing left of it.
    pub(super) fn take(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Self::Body { bytes, taken, .. } = self else { return false };
        let rest = bytes.get(*taken..).unwrap_or_default();
        let part = rest.get(..buf.remaining().min(MAX_READ)).unwrap_or(rest);
        buf.put_slice(part);
        *taken += part.len();
        !part.is_empty()
    }

    /// Takes note of so many bytes read after the head. None mean the end of the connection.
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

/// Whether the first bytes are, or may become, a status line.
fn may_be_http(bytes: &[u8]) -> bool {
    let line = status_line(bytes);
    HTTP_1.iter().zip(line).all(|(a, b)| a == b)
}

const HTTP_1: &[u8] = b"HTTP/1.";

/// Empty lines before the status line are passed over, as awc does.
fn status_line(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    bytes.get(blank..).unwrap_or_default()
}

/// Where the head ends: behind the empty line. Remembers how far it looked.
fn head_length(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    let blank = bytes.len() - status_line(bytes).len();
    let mut at = blank.max(*searched);
    while let Some(feed) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        let line = at + feed + 1;
        match bytes.get(line..)? {
            [b'\n', ..] => return Some(line + 1),
            [b'\r', b'\n', ..] => return Some(line + 2),
            // The byte that decides is not here yet: this line feed is looked at again.
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

/// What a complete head announces.
#[derive(Debug, PartialEq, Eq)]
enum HeadProgress {
    /// An interim reply, which another one follows.
    Interim,
    /// The reply, and how long its body will be when that says `Content-Length`.
    Final { content_length: Option<u64> },
}

/// Reads a complete head as far as the length of the body depends on it, and makes it HTTP/1.0 when the end of the
/// connection is the end of the body. What it does not understand it leaves as it is, for awc to refuse.
fn mend(head: &mut [u8]) -> HeadProgress {
    const UNTOUCHED: HeadProgress = HeadProgress::Final { content_length: None };
    let blank = head.len() - status_line(head).len();
    let mut lines = head.get(blank..).unwrap_or_default().split(|&byte| byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let Some((&minor, rest)) = line.strip_prefix(HTTP_1).and_then(<[u8]>::split_first) else { return UNTOUCHED };
    let Some(&[b' ', status @ ..]) = rest.first_chunk::<4>() else { return UNTOUCHED };
    match status {
        [a, b, c] if ![a, b, c].iter().all(u8::is_ascii_digit) => return UNTOUCHED,
        // The first was not asked for, and is not HTTP from here on. The others have no body, whatever their head says.
        [b'1', b'0', b'1'] | [b'2' | b'3', b'0', b'4'] => return UNTOUCHED,
        [b'1', ..] => return HeadProgress::Interim,
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
            // `identity` is no encoding (RFC 2616, section 3.6), and HTTP/1.0 has none.
            encoded = minor == b'1' && !value.eq_ignore_ascii_case(b"identity");
        }
    }
    if content_length.is_some() {
        say_lengths_once(head);
    }
    match content_length {
        // `Transfer-Encoding` wins (RFC 9112, section 6.3).
        _ if encoded => UNTOUCHED,
        Some(_) => HeadProgress::Final { content_length },
        None => {
            if let Some(minor) = head.get_mut(blank + HTTP_1.len()) {
                *minor = b'0';
            }
            UNTOUCHED
        }
    }
}

/// The name and the value of a header line.
fn header(line: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default().trim_ascii_end();
    (name, parts.next().unwrap_or_default().trim_ascii())
}

/// The length that a `Content-Length` says, be it several times.
fn one_length(value: &[u8]) -> Option<u64> {
    let mut lengths = value.split(|&byte| byte == b',').map(|length| {
        let length = length.trim_ascii();
        let length = length.iter().all(u8::is_ascii_digit).then_some(length)?;
        std::str::from_utf8(length).ok()?.parse().ok()
    });
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// Leaves one of several `Content-Length` that are all the same: the others become headers of no meaning, and a list becomes
/// its first element. Nothing changes its place.
fn say_lengths_once(head: &mut [u8]) {
    let mut said = false;
    for line in head.split_mut(|&byte| byte == b'\n') {
        if !header(line).0.eq_ignore_ascii_case(b"content-length") {
            continue;
        }
        if said {
            line.iter_mut().take_while(|byte| **byte != b':').for_each(|byte| *byte = b'x');
        } else if let Some(comma) = line.iter().position(|&byte| byte == b',') {
            let (length, rest) = line.split_at_mut(comma);
            let blanks = rest.len() - usize::from(rest.ends_with(b"\r"));
            rest.get_mut(..blanks).unwrap_or_default().fill(b' ');
            // The blanks go before the number, where no reader minds them.
            if let Some(colon) = length.iter().position(|&byte| byte == b':') {
                let end = comma + blanks;
                line.get_mut(colon + 1..end).unwrap_or_default().rotate_right(blanks);
            }
        }
        said = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What awc would read of a reply that arrives in pieces of that many bytes.
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
    fn heads_are_mended_however_they_arrive() {
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
    fn heads_that_are_well_or_beyond_help_pass_unchanged() {
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
    fn what_ends_early_or_never_is_an_error() {
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
