//! The head of a request (RFC 9112, sections 2 to 5). No other module parses HTTP requests.
//!
//! Only a complete head is parsed, so that the reply does not depend on TCP's segmentation. Faults that do not matter
//! for the reply are ignored. After a body or a malformed header line, a proxy and this tracker could disagree about
//! where the next request begins. So the reply to such a request ends the connection.

use smallvec::SmallVec;

use crate::frontend::headers::{Headers, is_token};
use tracker_protocol::route;

/// The longest head, in bytes. Tokens in the query take up to 8 KiB.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// The most header lines: more than a client and all proxies on the way add.
pub(super) const MAX_LINES: usize = 256;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    Get,
    Head,
    Other(&'a [u8]),
}

impl<'a> Method<'a> {
    /// The method as a client sends it.
    pub(super) fn name(self) -> &'a [u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Other(name) => name,
        }
    }
}

/// The result of reading a head.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// The head is incomplete.
    Part,
    /// A head and its length.
    Whole(Head<'a>, usize),
    /// A head of this length with folded lines, to be [`unfold`]ed and read again.
    Folded(usize),
    /// A head that is too long, with the part that has been read.
    TooLong(Head<'a>),
    /// The bytes are not HTTP.
    Junk,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Method<'a>,
    pub(super) path: &'a [u8],
    /// The target after the first `?`, as sent: bytes that should be escaped are accepted.
    pub(super) query: &'a [u8],
    /// Whether the client may send more requests on this connection.
    pub(super) persistent: bool,
    /// Whether the version is not HTTP/1.1. The reply must then say whether the connection persists.
    pub(super) http_1_0: bool,
    /// Whether a body may follow: bytes that are not a request.
    pub(super) body: bool,
    lines: Lines<'a>,
}

/// Names and values of the header lines. As many lines as usual fit on the stack.
type Lines<'a> = SmallVec<[(&'a [u8], &'a [u8]); 16]>;

/// What the header lines say about the connection.
#[derive(Default)]
struct BodyFraming {
    close: bool,
    keep_alive: bool,
    /// Whether a line is malformed. A proxy may have read such a line differently.
    doubtful: bool,
}

impl<'a> Head<'a> {
    /// Reads a head from the beginning of these bytes. The caller skips empty lines first, with [`skip_empty_lines`].
    pub(super) fn read(bytes: &'a [u8]) -> Read<'a> {
        // No method begins with this byte: the bytes belong to another protocol, such as TLS or BitTorrent's peer
        // protocol.
        if bytes.first().is_some_and(|&byte| !is_token(byte) && !matches!(byte, b' ' | b'\t')) {
            return Read::Junk;
        }
        let within = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        let (first, rest) = match line(within) {
            Some(read) => read,
            None if bytes.len() < MAX_HEAD => return Read::Part,
            None => (within, &[][..]),
        };
        let Some(mut head) = Self::begin(first) else { return Read::Junk };
        let mut framing = BodyFraming::default();
        match head.take_lines(rest, &mut framing) {
            Some((behind, folded)) => {
                let length = within.len() - behind.len();
                if folded {
                    return Read::Folded(length);
                }
                let wished = framing.keep_alive || !head.http_1_0;
                head.persistent = wished && !framing.close && !framing.doubtful && !head.body;
                Read::Whole(head, length)
            }
            None if bytes.len() < MAX_HEAD && head.lines.len() < MAX_LINES => Read::Part,
            None => Read::TooLong(head),
        }
    }

    /// Reads the request line. `None` if it lacks a method or a target.
    fn begin(line: &'a [u8]) -> Option<Self> {
        let (method, rest) = match line.strip_prefix(b"GET ") {
            Some(rest) => (Method::Get, rest),
            None => method(line)?,
        };
        let (target, http_1_0) = match rest.strip_suffix(b" HTTP/1.1") {
            Some(target) => (target, false),
            None => target(rest),
        };
        let target = target.trim_ascii_start();
        if target.is_empty() {
            return None;
        }
        let (path, query) = route::split(target);
        Some(Self { method, path, query, persistent: false, http_1_0, body: false, lines: Lines::new() })
    }

    /// Reads the header lines. Returns the bytes after the head, and whether a line is folded. `None` if the head is
    /// incomplete or has too many lines.
    fn take_lines(&mut self, mut rest: &'a [u8], framing: &mut BodyFraming) -> Option<(&'a [u8], bool)> {
        let mut folded = false;
        loop {
            let (line, behind) = line(rest)?;
            rest = behind;
            if line.is_empty() {
                return Some((rest, folded));
            }
            if self.lines.len() == MAX_LINES {
                return None;
            }
            // A line that begins with a space continues the header line before it, but not the request line.
            folded |= matches!(line.first(), Some(b' ' | b'\t')) && !self.lines.is_empty();
            self.take(line, framing);
        }
    }

    fn take(&mut self, line: &'a [u8], framing: &mut BodyFraming) {
        let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is_legal = !name.is_empty() && name.len() < line.len() && all(name, is_token) && all(value, is_text);
        if !is_legal {
            framing.doubtful = true;
            // The line counts towards the limit. It has no name that could be used.
            return self.lines.push((b"", line));
        }
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    framing.close |= word.eq_ignore_ascii_case(b"close");
                    framing.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            // Some clients send `Content-Length: 0` with every GET. It means no body, even if it is repeated.
            14 if name.eq_ignore_ascii_case(b"content-length") => self.body |= !is_zero(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.body = true,
            _ => {}
        }
        self.lines.push((name, value));
    }
}

impl Headers for Head<'_> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // Lines without a name are malformed.
        self.lines.iter().copied().filter(|(name, _)| !name.is_empty())
    }
}

/// The length of the empty lines before a request, which are ignored (RFC 9112, section 2.2).
pub(super) fn skip_empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Replaces the line end of each fold by spaces (RFC 9112, section 5.2). The length stays the same.
pub(super) fn unfold(head: &[u8]) -> Vec<u8> {
    let mut unfolded = head.to_vec();
    // The request line cannot be folded.
    let mut from = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    while let Some(end) = memchr::memchr(b'\n', head.get(from..).unwrap_or_default()).map(|end| from + end) {
        if matches!(head.get(end + 1), Some(b' ' | b'\t')) {
            // A line ends with LF or CR LF.
            let begin = if end > 0 && head.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
            unfolded.get_mut(begin..=end).unwrap_or_default().fill(b' ');
        }
        from = end + 1;
    }
    unfolded
}

/// Splits off the first line, without its end. `None` if the line is incomplete. A bare line feed ends a line, too.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at(memchr::memchr(b'\n', bytes)? + 1);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

/// Splits off the method of a request line that does not begin with exactly `GET `.
fn method(line: &[u8]) -> Option<(Method<'_>, &[u8])> {
    let line = line.trim_ascii_start();
    let (method, rest) = line.split_at(memchr::memchr2(b' ', b'\t', line)?);
    if !all(method, is_token) {
        return None;
    }
    Some(match method {
        _ if method.eq_ignore_ascii_case(b"GET") => (Method::Get, rest),
        _ if method.eq_ignore_ascii_case(b"HEAD") => (Method::Head, rest),
        _ => (Method::Other(method), rest),
    })
}

/// Splits off the version of a request line that does not end with exactly ` HTTP/1.1`. Returns the target, and whether
/// the version is another. Spaces inside the target belong to it: some clients do not escape them.
fn target(rest: &[u8]) -> (&[u8], bool) {
    let rest = rest.trim_ascii();
    let (target, last) = rest.split_at(memchr::memrchr2(b' ', b'\t', rest).map_or(0, |space| space + 1));
    match last.get(..5) {
        Some(http) if http.eq_ignore_ascii_case(b"HTTP/") => {
            (target.strip_suffix(b" ").unwrap_or(target), last.get(5..) != Some(b"1.1"))
        }
        // The line has no version, as in HTTP/0.9.
        _ => (rest, true),
    }
}

/// Whether a `Content-Length` is zero. Of a list, all lengths must be zero.
fn is_zero(length: &[u8]) -> bool {
    length.contains(&b'0') && length.iter().all(|byte| matches!(byte, b'0' | b',' | b' ' | b'\t'))
}

/// Whether all bytes are legal. An illegal byte does not end the check, so the compiled code checks sixteen bytes at a
/// time.
fn all(bytes: &[u8], is_legal: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |legal, &byte| legal & is_legal(byte))
}

/// Whether the byte may occur in a header's value (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

#[cfg(test)]
mod tests;
