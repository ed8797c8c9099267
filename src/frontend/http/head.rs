//! The head of a request as the hot path reads it (RFC 9112, sections 2 to 5).
//!
//! It knows announces and scrapes as clients send them: GET or HEAD, without a body, the whole head in one piece. What is
//! unusual is not refused here: it is left, byte for byte, to the parser under actix-web, which knows everything.

use smallvec::SmallVec;

use super::headers::Headers;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Announce,
    Scrape,
}

/// A request that the hot path answers.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) resource: Resource,
    /// What follows the first `?` of the target, as it was sent: bytes that belong escaped are let through.
    pub(super) query: &'a [u8],
    /// Whether it is HEAD: the reply has no body.
    pub(super) bodiless: bool,
    /// Whether the client may ask more on this connection.
    pub(super) persistent: bool,
    /// Whether it speaks HTTP/1.0, and has to be told when the connection persists.
    pub(super) old: bool,
    lines: Lines<'a>,
}

/// Names and values of the header lines. As many as clients and proxies send stay on the stack.
type Lines<'a> = SmallVec<[(&'a [u8], &'a [u8]); 16]>;

/// More header lines than any client sends.
const MAX_LINES: usize = 64;

impl<'a> Head<'a> {
    /// Reads the head at the beginning of these bytes, and tells how long it is. None if it is not all there, or is not
    /// one for the hot path.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let (line, mut rest) = line(bytes)?;
        let (bodiless, line) = match line.strip_prefix(b"GET ") {
            Some(line) => (false, line),
            None => (true, line.strip_prefix(b"HEAD ")?),
        };
        let (target, version) = line.split_at(memchr::memchr(b' ', line)?);
        let old = match version {
            b" HTTP/1.1" => false,
            b" HTTP/1.0" => true,
            _ => return None,
        };
        let path_end = memchr::memchr(b'?', target).unwrap_or(target.len());
        let (path, query) = target.split_at(path_end);
        let resource = match path {
            b"/announce" | b"/announce.php" => Resource::Announce,
            b"/scrape" | b"/scrape.php" => Resource::Scrape,
            _ => return None,
        };
        if !query.iter().all(|&byte| is_visible(byte)) {
            return None;
        }
        let mut head = Self {
            resource,
            query: query.get(1..).unwrap_or_default(),
            bodiless,
            persistent: !old,
            old,
            lines: Lines::new(),
        };
        loop {
            let (line, after) = self::line(rest)?;
            rest = after;
            if line.is_empty() {
                return Some((head, bytes.len() - rest.len()));
            }
            head.take(line)?;
        }
    }

    /// Takes a header line in, unless it, or a request that has it, is not for the hot path.
    fn take(&mut self, line: &'a [u8]) -> Option<()> {
        let (name, value) = line.split_at(memchr::memchr(b':', line)?);
        let value = value.get(1..)?.trim_ascii();
        let legal =
            !name.is_empty() && name.iter().all(|&byte| is_token(byte)) && value.iter().all(|&byte| is_text(byte));
        if !legal || self.lines.len() == MAX_LINES {
            return None;
        }
        match name.len() {
            // Two of them may contradict each other.
            10 if name.eq_ignore_ascii_case(b"connection") && self.first("connection").is_none() => {
                self.persistent = match value {
                    _ if value.eq_ignore_ascii_case(b"close") => false,
                    _ if value.eq_ignore_ascii_case(b"keep-alive") => true,
                    _ => return None,
                };
            }
            10 if name.eq_ignore_ascii_case(b"connection") => return None,
            // `Content-Length: 0`, which some clients send with every GET, is no body.
            14 if name.eq_ignore_ascii_case(b"content-length") && value != b"0" => return None,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return None,
            7 if name.eq_ignore_ascii_case(b"upgrade") => return None,
            6 if name.eq_ignore_ascii_case(b"expect") => return None,
            _ => {}
        }
        self.lines.push((name, value));
        Some(())
    }
}

impl Headers for Head<'_> {
    fn all<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let named =
            move |line: &&(&[u8], &'a [u8])| line.0.len() == name.len() && line.0.eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).map(|&(_, value)| value)
    }
}

/// The first line without its CRLF, and what follows it. None if it is not all there, or ends otherwise.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at(memchr::memchr(b'\n', bytes)? + 1);
    Some((line.strip_suffix(b"\r\n")?, rest))
}

/// A byte of a target: no white space and no control character.
fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// A byte of a header's value (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// A byte of a header's name (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
