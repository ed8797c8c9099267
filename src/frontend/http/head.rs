//! The head of a request (RFC 9112, sections 2 to 5): the one place where bytes of HTTP are judged.
//!
//! A head is judged once it is whole, so the answer does not depend on how the network cuts it. It is judged leniently: what
//! no reply depends on makes no difference. Where a proxy could disagree about where the next request begins (a body, a
//! malformed header line), the connection ends behind the reply.

use smallvec::SmallVec;

use crate::frontend::headers::{Headers, is_token};
use crate::wire::route;

/// The longest head, in bytes. Tokens in the query take up to 8 KiB.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// More header lines than any client and all proxies on the way send.
pub(super) const MAX_LINES: usize = 256;

/// What the client wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    Get,
    Head,
    Other(&'a [u8]),
}

/// What some bytes begin with.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// Less than a head.
    Part,
    /// A head, and how long it is.
    Whole(Head<'a>, usize),
    /// A head of that length with folded lines: it is to be read again as [`unfold`] gives it.
    Folded(usize),
    /// A head that is longer than any may be, as far as it has been read.
    TooLong(Head<'a>),
    /// No HTTP.
    Junk,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Method<'a>,
    pub(super) path: &'a [u8],
    /// What follows the first `?` of the target, as it was sent: bytes that belong escaped are let through.
    pub(super) query: &'a [u8],
    /// Whether the client may ask more on this connection.
    pub(super) persistent: bool,
    /// Whether it does not speak HTTP/1.1, and has to be told when the connection persists.
    pub(super) old: bool,
    /// Whether bytes may follow that are no request.
    pub(super) body: bool,
    lines: Lines<'a>,
}

/// Names and values of the header lines. As many as clients and proxies send stay on the stack.
type Lines<'a> = SmallVec<[(&'a [u8], &'a [u8]); 16]>;

/// What the header lines say of the connection.
#[derive(Default)]
struct Framing {
    close: bool,
    keep_alive: bool,
    /// A line is malformed, and a proxy may have read it differently.
    doubtful: bool,
}

impl<'a> Head<'a> {
    /// Reads what these bytes begin with. They begin with no empty line: see [`skip_empty_lines`].
    pub(super) fn read(bytes: &'a [u8]) -> Read<'a> {
        // Another protocol: a TLS handshake, or a peer's.
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
        let mut framing = Framing::default();
        match head.take_lines(rest, &mut framing) {
            Some((behind, folded)) => {
                let length = within.len() - behind.len();
                if folded {
                    return Read::Folded(length);
                }
                let wished = framing.keep_alive || !head.old;
                head.persistent = wished && !framing.close && !framing.doubtful && !head.body;
                Read::Whole(head, length)
            }
            None if bytes.len() < MAX_HEAD && head.lines.len() < MAX_LINES => Read::Part,
            None => Read::TooLong(head),
        }
    }

    /// Reads the request line. None when it is none: there must be a method and a target.
    fn begin(line: &'a [u8]) -> Option<Self> {
        let (method, rest) = match line.strip_prefix(b"GET ") {
            Some(rest) => (Method::Get, rest),
            None => method(line)?,
        };
        let (target, old) = match rest.strip_suffix(b" HTTP/1.1") {
            Some(target) => (target, false),
            None => target(rest),
        };
        let target = target.trim_ascii_start();
        if target.is_empty() {
            return None;
        }
        let (path, query) = route::split(target);
        Some(Self { method, path, query, persistent: false, old, body: false, lines: Lines::new() })
    }

    /// Reads the header lines. Gives what follows the empty line behind them, and whether one of them is folded. None if
    /// that empty line is not there, or if there are too many.
    fn take_lines(&mut self, mut rest: &'a [u8], framing: &mut Framing) -> Option<(&'a [u8], bool)> {
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
            // The line before goes on here, unless that is the request line.
            folded |= matches!(line.first(), Some(b' ' | b'\t')) && !self.lines.is_empty();
            self.take(line, framing);
        }
    }

    fn take(&mut self, line: &'a [u8], framing: &mut Framing) {
        let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is_legal = !name.is_empty() && name.len() < line.len() && all(name, is_token) && all(value, is_text);
        if !is_legal {
            framing.doubtful = true;
            // Kept without a name, as it counts towards the limit.
            return self.lines.push((b"", line));
        }
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    framing.close |= word.eq_ignore_ascii_case(b"close");
                    framing.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            // `Content-Length: 0`, which some clients send with every GET, is no body, however often it is said.
            14 if name.eq_ignore_ascii_case(b"content-length") => self.body |= !is_zero(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.body = true,
            _ => {}
        }
        self.lines.push((name, value));
    }
}

impl Headers for Head<'_> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // One without a name is none.
        self.lines.iter().copied().filter(|(name, _)| !name.is_empty())
    }
}

/// Bytes of empty lines before a request, which are ignored (RFC 9112, section 2.2).
pub(super) fn skip_empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// A head without folds: each is replaced by spaces (RFC 9112, section 5.2), which leaves the length as it is.
pub(super) fn unfold(head: &[u8]) -> Vec<u8> {
    let mut unfolded = head.to_vec();
    // The request line cannot be folded.
    let mut from = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    while let Some(end) = memchr::memchr(b'\n', head.get(from..).unwrap_or_default()).map(|end| from + end) {
        if matches!(head.get(end + 1), Some(b' ' | b'\t')) {
            // The line end has one byte or two.
            let begin = if end > 0 && head.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
            unfolded.get_mut(begin..=end).unwrap_or_default().fill(b' ');
        }
        from = end + 1;
    }
    unfolded
}

/// The first line without its end, and what follows it. None if it is not all there. A line feed alone ends a line, too.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at(memchr::memchr(b'\n', bytes)? + 1);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

/// A method that is not GET as most write it, and what follows it.
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

/// Splits the target from a version that is not ` HTTP/1.1` to the letter, and tells whether it is another version. Spaces
/// inside the target belong to it: some clients do not escape them.
fn target(rest: &[u8]) -> (&[u8], bool) {
    let rest = rest.trim_ascii();
    let (target, last) = rest.split_at(memchr::memrchr2(b' ', b'\t', rest).map_or(0, |space| space + 1));
    match last.get(..5) {
        Some(http) if http.eq_ignore_ascii_case(b"HTTP/") => {
            (target.strip_suffix(b" ").unwrap_or(target), last.get(5..) != Some(b"1.1"))
        }
        // As HTTP/0.9 has it.
        _ => (rest, true),
    }
}

/// Whether a length, or a list of lengths, is zero.
fn is_zero(length: &[u8]) -> bool {
    length.contains(&b'0') && length.iter().all(|byte| matches!(byte, b'0' | b',' | b' ' | b'\t'))
}

/// Whether all bytes are like that. Looks at each even after one that is not, which a compiler does sixteen at a time.
fn all(bytes: &[u8], is_legal: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |legal, &byte| legal & is_legal(byte))
}

/// A byte of a header's value (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(request: &[u8]) -> (Head<'_>, usize) {
        match Head::read(request) {
            Read::Whole(head, length) => (head, length),
            other => panic!("{}: {other:?}", request.escape_ascii()),
        }
    }

    fn lines<'a>(head: &'a Head<'_>) -> Vec<(&'a [u8], &'a [u8])> {
        head.lines().collect()
    }

    #[test]
    fn announces_and_scrapes_as_clients_send_them() {
        let announce = "GET /announce?a=1?b HTTP/1.1\r\nHost: x\r\nUser-Agent:  x y \r\nConnection: close\r\n\r\n";
        let more = format!("{announce}GET /");
        let (head, length) = whole(more.as_bytes());
        assert_eq!(
            (head.method, head.path, head.query, length),
            (Method::Get, &b"/announce"[..], &b"a=1?b"[..], announce.len())
        );
        assert_eq!(
            (head.persistent, head.old, head.body, head.first("user-agent")),
            (false, false, false, Some(&b"x y"[..]))
        );
        let scrape = b"HEAD /scrape.php HTTP/1.0\r\ncontent-length: 0\r\n\r\n";
        let (head, length) = whole(scrape);
        assert_eq!(
            (head.method, head.path, head.query, length),
            (Method::Head, &b"/scrape.php"[..], &b""[..], scrape.len())
        );
    }

    #[test]
    fn whether_a_connection_persists() {
        for (version, lines, persistent) in [
            ("HTTP/1.1", "", true),
            ("http/1.1", "", true),
            ("HTTP/1.1 ", "", true),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "connection: Keep-Alive\r\n", true),
            ("HTTP/1.0", "connection: keep-alive, TE\r\n", true),
            ("HTTP/1.0", "proxy-connection: keep-alive\r\n", false),
            ("HTTP/9.9", "", false),
            ("", "", false),
            ("HTTP/1.1", "CONNECTION: CLOSE\r\n", false),
            ("HTTP/1.1", "Connection: close, TE\r\n", false),
            ("HTTP/1.1", "Connection: TE ,close\r\n", false),
            ("HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
            ("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
            ("HTTP/1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", true),
            ("HTTP/1.1", "Expect: 100-continue\r\n", true),
            ("HTTP/1.1", "Host: x\r\nHost: y\r\n", true),
            ("HTTP/1.1", "Content-Length: 0\r\nContent-Length: 0\r\n", true),
            ("HTTP/1.1", "Content-Length: 00\r\n", true),
            ("HTTP/1.1", "Content-Length: 0, 0\r\n", true),
            ("HTTP/1.1", "Content-Length: 5\r\n", false),
            ("HTTP/1.1", "Content-Length: 0\r\nContent-Length: 5\r\n", false),
            ("HTTP/1.1", "Content-Length:\r\n", false),
            ("HTTP/1.1", "Content-Length: +0\r\n", false),
            ("HTTP/1.1", "Transfer-Encoding: identity\r\n", false),
            // What somebody on the way may have taken for one that counts.
            ("HTTP/1.1", "Content-Length : 5\r\n", false),
            ("HTTP/1.1", "Transfer-Encoding\0: chunked\r\n", false),
            ("HTTP/1.1", "no header\r\n", false),
            ("HTTP/1.1", ": x\r\n", false),
            ("HTTP/1.1", "Name: a\0b\r\n", false),
            ("HTTP/1.1", "Name: a\rTransfer-Encoding: chunked\r\n", false),
            ("HTTP/1.1", " behind the request line\r\n", false),
        ] {
            let request = format!("GET /announce?a {version}\r\n{lines}\r\n");
            let (head, length) = whole(request.as_bytes());
            assert_eq!((head.persistent, length), (persistent, request.len()), "{request:?}");
            assert_eq!((head.path, head.query), (&b"/announce"[..], &b"a"[..]), "{request:?}");
        }
    }

    #[test]
    fn request_lines_of_every_style() {
        for (line, method, path, query) in [
            ("get /announce?a HTTP/1.1", Method::Get, "/announce", "a"),
            ("  GET   /announce?a HTTP/1.1  ", Method::Get, "/announce", "a"),
            ("GET\t/announce?a HTTP/1.1", Method::Get, "/announce", "a"),
            // Raw spaces at the end may be those of an identifier.
            ("GET /announce?a  HTTP/1.1", Method::Get, "/announce", "a "),
            ("GET /announce?a  HTTP/1.0", Method::Get, "/announce", "a "),
            ("GET /announce?a b  c HTTP/1.1", Method::Get, "/announce", "a b  c"),
            ("GET /announce?a\tb\u{1}c HTTP/1.1", Method::Get, "/announce", "a\tb\u{1}c"),
            ("GET /announce?a b", Method::Get, "/announce", "a b"),
            ("GET http://x/announce?a HTTP/1.1", Method::Get, "/announce", "a"),
            ("GET /announce?a#b HTTP/1.1", Method::Get, "/announce", "a"),
            ("POST /announce?a HTTP/1.1", Method::Other(b"POST"), "/announce", "a"),
            ("OPTIONS * HTTP/1.1", Method::Other(b"OPTIONS"), "*", ""),
        ] {
            let request = format!("{line}\r\n\r\n");
            let (head, _) = whole(request.as_bytes());
            assert_eq!((head.method, head.path, head.query), (method, path.as_bytes(), query.as_bytes()), "{line}");
        }
        for junk in
            ["GET", "GET ", "GET HTTP/1.1", " /announce HTTP/1.1", "\u{16}\u{3}\u{1} x", "SSH-2.0-OpenSSH_9.2", "x"]
        {
            assert!(matches!(Head::read(format!("{junk}\r\n").as_bytes()), Read::Junk), "{junk}");
        }
    }

    #[test]
    fn line_feeds_alone_and_headers_by_name() {
        let request = b"GET /announce HTTP/1.1\nVIA: 1.1 a\nVia:1.1 b\r\nVi: c\n\nGET";
        let (head, length) = whole(request);
        assert_eq!((head.all("via").collect::<Vec<_>>(), length), (vec![&b"1.1 a"[..], b"1.1 b"], request.len() - 3));
        assert_eq!(head.first("user-agent"), None);
    }

    #[test]
    fn folds_become_spaces() {
        let request = b"GET /announce HTTP/1.1\r\nX: a\r\n b\n\tc\r\nY: d\r\n\r\nGET / HTTP/1.1\r\n e\r\n\r\n";
        let Read::Folded(length) = Head::read(request) else { panic!() };
        let unfolded = unfold(&request[..length]);
        let (head, again) = whole(&unfolded);
        assert_eq!(
            (lines(&head), head.persistent, again),
            (vec![(&b"X"[..], &b"a   b \tc"[..]), (b"Y", b"d")], true, length)
        );
    }

    #[test]
    fn what_is_too_long_is_known_by_its_beginning() {
        let announce = b"GET /announce?info_hash=x";
        for (rest, fits) in [
            ([b" HTTP/1.1\r\nX: ", &vec![b'x'; MAX_HEAD - 43][..], b"\r\n\r\n"].concat(), true),
            ([b" HTTP/1.1\r\nX: ", &vec![b'x'; MAX_HEAD - 42][..], b"\r\n\r\n"].concat(), false),
            (vec![b'x'; 2 * MAX_HEAD], false),
            ([b" HTTP/1.1\r\n", &b"X: y\r\n".repeat(MAX_LINES)[..], b"\r\n"].concat(), true),
            ([b" HTTP/1.1\r\n", &b"X: y\r\n".repeat(MAX_LINES + 1)[..], b"\r\n"].concat(), false),
            ([b" HTTP/1.1\r\n", &b"\0\r\n".repeat(MAX_LINES + 1)[..], b"\r\n"].concat(), false),
        ] {
            let request = [announce, &rest[..]].concat();
            match Head::read(&request) {
                Read::Whole(_, length) => assert!(fits && length == request.len()),
                Read::TooLong(head) => {
                    assert!(!fits && head.path == b"/announce" && head.query.starts_with(b"info_hash"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(Head::read("x".repeat(MAX_HEAD).as_bytes()), Read::Junk));
        assert!(matches!(Head::read(b"\x16\x03\x01"), Read::Junk));
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
        /// Where it takes a request, we read the same request.
        #[test]
        fn a_strict_parser_reads_the_same(head in any_head()) {
            let mut lines = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut lines);
            let Ok(httparse::Status::Complete(length)) = request.parse(&head) else { return Ok(()) };
            prop_assume!(skip_empty_lines(&head) == 0);
            let (read, our_length) = whole(&head);
            prop_assert_eq!(our_length, length);
            let method = match read.method { Method::Get => "GET", Method::Head => "HEAD", Method::Other(name) => std::str::from_utf8(name).unwrap() };
            // Case means nothing to us.
            prop_assert!(request.method.unwrap().eq_ignore_ascii_case(method));
            prop_assert_eq!(request.version == Some(0), read.old);
            prop_assert_eq!(route::split(request.path.unwrap().as_bytes()), (read.path, read.query));
            let lines: Vec<_> = request.headers.iter().map(|line| (line.name.as_bytes(), line.value.trim_ascii())).collect();
            prop_assert_eq!(lines, self::lines(&read));
        }

        #[test]
        fn a_head_is_whole_at_its_last_byte_and_not_before(head in any_head(), behind in any::<Vec<u8>>()) {
            let all = [&head[..], &behind].concat();
            if let Read::Whole(_, length) | Read::Folded(length) = Head::read(&all) {
                for end in 0..length {
                    prop_assert!(matches!(Head::read(&all[..end]), Read::Part), "{} of {}", end, length);
                }
                prop_assert!(matches!(Head::read(&all[..length]), Read::Whole(..) | Read::Folded(_)));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
            if let Read::Folded(length) = Head::read(&bytes) {
                let unfolded = unfold(&bytes[..length]);
                prop_assert!(matches!(Head::read(&unfolded), Read::Whole(_, same) if same == length));
            }
        }
    }
}
