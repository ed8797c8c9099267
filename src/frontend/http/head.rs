//! The head of a request as the hot path reads it (RFC 9112, sections 2 to 5).
//!
//! It knows announces and scrapes as clients send them: GET or HEAD, without a body, the whole head in one piece. What is
//! unusual is not refused here: it is left, byte for byte, to the parser under actix-web, which knows everything.

use smallvec::SmallVec;

use crate::frontend::headers::{Headers, is_token};

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
        if !all(query, is_visible) {
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
        let legal = !name.is_empty() && all(name, is_token) && all(value, is_text);
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
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
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

/// Whether all bytes are like that. Looks at each even after one that is not, which a compiler does sixteen at a time.
fn all(bytes: &[u8], is_legal: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |legal, &byte| legal & is_legal(byte))
}

/// A byte of a target: no white space and no control character.
fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// A byte of a header's value (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(request: &str) -> Option<(Resource, String, bool, bool, usize)> {
        let (head, length) = Head::parse(request.as_bytes())?;
        Some((head.resource, String::from_utf8_lossy(head.query).into_owned(), head.bodiless, head.persistent, length))
    }

    #[test]
    fn announces_and_scrapes_as_clients_send_them() {
        let announce = "GET /announce?a=1?b HTTP/1.1\r\nHost: x\r\nUser-Agent:  x y \r\nConnection: close\r\n\r\n";
        let expected = (Resource::Announce, "a=1?b".to_owned(), false, false, announce.len());
        assert_eq!(read(&format!("{announce}GET /")), Some(expected));
        let scrape = "HEAD /scrape.php HTTP/1.0\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(read(scrape), Some((Resource::Scrape, String::new(), true, false, scrape.len())));
        for (version, connection, persistent) in [
            ("1.1", "", true),
            ("1.0", "", false),
            ("1.0", "connection: Keep-Alive\r\n", true),
            ("1.1", "CONNECTION: CLOSE\r\n", false),
        ] {
            let (.., found, _) = read(&format!("GET /announce HTTP/{version}\r\n{connection}\r\n")).unwrap();
            assert_eq!(found, persistent, "{version} {connection}");
        }
    }

    #[test]
    fn headers_by_name() {
        let request = b"GET /announce HTTP/1.1\r\nVIA: 1.1 a\r\nVia:1.1 b\r\nVi: c\r\n\r\n";
        let (head, _) = Head::parse(request).unwrap();
        assert_eq!(head.all("via").collect::<Vec<_>>(), [b"1.1 a", b"1.1 b"]);
        assert_eq!(head.first("user-agent"), None);
    }

    #[test]
    fn what_is_unusual_is_for_others() {
        let whole = "GET /announce?a HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!((0..whole.len()).all(|end| read(&whole[..end]).is_none()));
        assert!(read(whole).is_some());
        for line in [
            "POST /announce HTTP/1.1",
            "get /announce HTTP/1.1",
            "GET  /announce HTTP/1.1",
            "GET /announce?a b HTTP/1.1",
            "GET /announce?a\tb HTTP/1.1",
            "GET /announce?a\u{0} HTTP/1.1",
            "GET /announce HTTP/1.2",
            "GET /announce HTTP/1.1 ",
            "GET /announce",
            "GET /announce/ HTTP/1.1",
            "GET /announc%65 HTTP/1.1",
            "GET http://x/announce HTTP/1.1",
            "GET / HTTP/1.1",
            "\r\nGET /announce HTTP/1.1",
        ] {
            assert_eq!(read(&format!("{line}\r\nHost: x\r\n\r\n")), None, "{line}");
        }
        for header in [
            "Content-Length: 5",
            "Content-Length: 00",
            "Transfer-Encoding: chunked",
            "Upgrade: websocket",
            "Expect: 100-continue",
            "Connection: close, TE",
            "Connection: close\r\nConnection: keep-alive",
            "Name : x",
            ": x",
            "Name",
            " folded: x",
            "Name: a\u{0}b",
            "Name: a\rb",
            "Name: x\nName: y",
        ] {
            assert_eq!(read(&format!("GET /announce HTTP/1.1\r\n{header}\r\n\r\n")), None, "{header:?}");
        }
        let many = "Name: x\r\n".repeat(MAX_LINES + 1);
        assert_eq!(read(&format!("GET /announce HTTP/1.1\r\n{many}\r\n")), None);
    }

    /// Bytes of a head, now and then with one that does not belong there.
    fn any_head() -> impl Strategy<Value = Vec<u8>> {
        let line = "(GET|HEAD|POST) /(announce|scrape)(\\.php)?\\?[!-~]{0,20} HTTP/1\\.[01]";
        let header = "(Connection|content-length|Via|X-[a-z]{1,5}):[ \t]?(0|close|keep-alive|[ -~]{0,12})";
        let blemish = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), 0..0x80_u8));
        (line, proptest::collection::vec(header, 0..6), blemish).prop_map(|(line, headers, blemish)| {
            let mut head = [&[line][..], &headers, &[String::new(), String::new()]].concat().join("\r\n").into_bytes();
            if let Some((at, byte)) = blemish {
                let at = at.index(head.len());
                head[at] = byte;
            }
            head
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_parser_under_actix_reads(head in any_head()) {
            let Some((read, length)) = Head::parse(&head) else { return Ok(()) };
            let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
            let mut request = httparse::Request::new(&mut lines);
            prop_assert_eq!(request.parse(&head), Ok(httparse::Status::Complete(length)));
            prop_assert_eq!(request.method == Some("HEAD"), read.bodiless);
            prop_assert_eq!(request.version == Some(0), read.old);
            let target = request.path.unwrap().as_bytes();
            prop_assert!(target.ends_with(read.query));
            let lines: Vec<_> = request.headers.iter().map(|line| (line.name.as_bytes(), line.value)).collect();
            prop_assert_eq!(lines, read.lines.to_vec());
        }

        #[test]
        fn any_bytes_are_read_or_left(bytes in any::<Vec<u8>>()) {
            let _ = Head::parse(&bytes);
        }
    }
}
