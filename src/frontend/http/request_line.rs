//! Request lines that an HTTP parser would refuse.
//!
//! Some clients put bytes into the query that belong escaped: bytes from 0x80, quotes, angle brackets, `#`. The
//! parser under actix-web answers those with a bare 400 before our code is asked. [`Place`] follows the stream, escapes
//! such bytes in request lines and changes nothing else.
//!
//! It also refuses header lines longer than [`MAX_HEADER_LINE`], because the parser panics on a header name of 64 KiB.

use std::io;

/// Where in the requests of a connection the reader is.
#[derive(Debug)]
pub(super) enum Place {
    RequestLine {
        /// Whether the line has more than its end. An empty line before a request is allowed, and is none.
        begun: bool,
    },
    Headers {
        /// The beginning of the line that is being read, to tell which header it is.
        line: LineStart,
        /// Whether a header has said that something else than a request follows.
        body: bool,
    },
    /// A request has a body, or the protocol may have changed: nothing is touched from here on. To look for request
    /// lines in what may be a body would let a client make one request of a proxy's into two. No client has a use for a
    /// body, so there is not much room.
    Opaque {
        /// Bytes that may still come.
        room: usize,
    },
}

/// The longest header line that is let through. The longest that any client has a use for is a cookie.
const MAX_HEADER_LINE: usize = 16 * 1024;

/// As many bytes of a line as it takes to tell `Content-Length: 0` from others.
#[derive(Debug, Default)]
pub(super) struct LineStart {
    bytes: [u8; 24],
    /// Of the whole line, as far as it has been read.
    length: usize,
}

const BODY_HEADERS: [&[u8]; 3] = [b"content-length:", b"transfer-encoding:", b"upgrade:"];

impl LineStart {
    fn extend(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *slot = *byte;
        }
        self.length += bytes.len();
    }

    fn known(&self) -> &[u8] {
        self.bytes.get(..self.length.min(self.bytes.len())).unwrap_or_default()
    }

    fn is_empty_line(&self) -> bool {
        matches!(self.known(), b"\n" | b"\r\n")
    }

    fn announces_a_body(&self) -> bool {
        let value_of = |name: &[u8]| {
            let (start, value) = self.known().split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then_some(value)
        };
        let value = BODY_HEADERS.iter().find_map(|name| value_of(name));
        // `Content-Length: 0`, which some clients send with every GET, is no body.
        value.is_some_and(|value| value.trim_ascii() != b"0")
    }
}

impl Default for Place {
    /// Before the first request.
    fn default() -> Self {
        Self::RequestLine { begun: false }
    }
}

impl Place {
    /// Follows the stream through these bytes. Returns them mended, if they needed it. An error when a header line is
    /// too long, or a body.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let too_long = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let mut mended: Option<Vec<u8>> = None;
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let line_end = memchr::memchr(b'\n', rest);
            let mut piece = rest.get(..line_end.map_or(rest.len(), |end| end + 1)).unwrap_or(rest);
            match self {
                Self::RequestLine { begun } => {
                    if mended.is_none() && piece.iter().any(|&byte| needs_escape(byte)) {
                        mended = Some(bytes.get(..done).unwrap_or_default().to_vec());
                    }
                    if let Some(mended) = &mut mended {
                        piece.iter().for_each(|&byte| put(byte, mended));
                    }
                    *begun |= piece.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
                    if line_end.is_some() && *begun {
                        *self = Self::Headers { line: LineStart::default(), body: false };
                    }
                }
                Self::Headers { line, body } => {
                    line.extend(piece);
                    if line.length > MAX_HEADER_LINE {
                        return too_long("a header line is too long");
                    }
                    if let Some(mended) = &mut mended {
                        mended.extend_from_slice(piece);
                    }
                    if line_end.is_some() {
                        if line.is_empty_line() {
                            *self = if *body { Self::Opaque { room: MAX_HEADER_LINE } } else { Self::default() };
                        } else {
                            *body |= line.announces_a_body();
                            *line = LineStart::default();
                        }
                    }
                }
                Self::Opaque { room } => {
                    piece = rest;
                    *room = match room.checked_sub(piece.len()) {
                        Some(room) => room,
                        None => return too_long("a body is too long"),
                    };
                    if let Some(mended) = &mut mended {
                        mended.extend_from_slice(piece);
                    }
                }
            }
            done += piece.len();
        }
        Ok(mended)
    }
}

fn needs_escape(byte: u8) -> bool {
    byte >= 0x80 || matches!(byte, b'"' | b'<' | b'>' | b'#')
}

fn put(byte: u8, out: &mut Vec<u8>) {
    if needs_escape(byte) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
        out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
    } else {
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Lenient;
    use super::*;
    use proptest::prelude::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

    /// What the parser sees of these bytes when they come in pieces of the given sizes, read with small buffers.
    fn seen(bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
        let mut stream = pieces_of(bytes, pieces);
        let mut out = Vec::new();
        futures::executor::block_on(async { Lenient::new(&mut stream).read_to_end(&mut out).await }).unwrap();
        out
    }

    /// Gives the bytes in pieces, without ever being pending.
    struct Pieces(Vec<Vec<u8>>);

    fn pieces_of(bytes: &[u8], pieces: &[usize]) -> Pieces {
        let mut rest = bytes;
        let mut all = Vec::new();
        for &size in pieces {
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            all.push(piece.to_vec());
            rest = tail;
        }
        all.push(rest.to_vec());
        all.retain(|piece| !piece.is_empty());
        all.reverse();
        Pieces(all)
    }

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop() {
                let fits = piece.len().min(buf.remaining());
                buf.put_slice(&piece[..fits]);
                if fits < piece.len() {
                    self.0.push(piece.split_off(fits));
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn request_lines_are_mended_and_nothing_else() {
        let request = b"GET /announce?a=\x80\xff<\"># HTTP/1.1\r\nX: \xe9\"\r\n\r\n\r\nGET /b?\xfe HTTP/1.1\r\n\r\n";
        let expected =
            b"GET /announce?a=%80%FF%3C%22%3E%23 HTTP/1.1\r\nX: \xe9\"\r\n\r\n\r\nGET /b?%FE HTTP/1.1\r\n\r\n";
        assert_eq!(seen(request, &[]).escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(seen(request, &[1; 100]), expected);
    }

    #[test]
    fn a_length_of_zero_is_no_body() {
        let request = b"GET / HTTP/1.1\r\ncontent-length:  0\r\n\r\nGET /?\xe9 HTTP/1.1\r\n\r\n";
        assert!(seen(request, &[]).ends_with(b"GET /?%E9 HTTP/1.1\r\n\r\n"));
    }

    #[test]
    fn nothing_is_touched_behind_a_body() {
        for header in [
            "Content-Length: 9",
            "Content-Length: 09999999999999999",
            "content-length:9",
            "Transfer-Encoding: chunked",
            "UPGRADE: x",
        ] {
            let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\nGET /? HTTP/1.1\r\n\r\n");
            let request = request.replace('?', "?\u{e9}").into_bytes();
            assert_eq!(seen(&request, &[]), request);
            assert_eq!(seen(&request, &[1; 200]), request);
        }
    }

    #[test]
    fn long_header_lines_end_the_connection_and_long_request_lines_do_not() {
        let read = |request: String, pieces: &[usize]| {
            let mut stream = pieces_of(request.as_bytes(), pieces);
            let mut out = Vec::new();
            futures::executor::block_on(async { Lenient::new(&mut stream).read_to_end(&mut out).await })
        };
        for pieces in [&[][..], &[100; 200]] {
            assert!(read(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(60_000)), pieces).is_ok());
            assert!(read(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(10_000)), pieces).is_ok());
            assert!(read(format!("GET / HTTP/1.1\r\n{}", "x".repeat(20_000)), pieces).is_err());
            let body = "GET / HTTP/1.1\r\nContent-Length: 9\r\n";
            assert!(read(format!("{body}{}", "x".repeat(20_000)), pieces).is_err());
            assert!(read(format!("{body}\r\n{}", "x".repeat(20_000)), pieces).is_err());
            assert!(read(format!("{body}\r\n{}", "x".repeat(10_000)), pieces).is_ok());
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'"'), any::<u8>()], 0..300),
            pieces in proptest::collection::vec(1..40_usize, 0..30),
        ) {
            prop_assert_eq!(seen(&bytes, &pieces), seen(&bytes, &[]));
        }

        #[test]
        fn clean_bytes_pass_as_they_are(text in "[ -!$-;=?-~\r\n]{0,300}", pieces in proptest::collection::vec(1..40_usize, 0..30)) {
            prop_assert_eq!(seen(text.as_bytes(), &pieces), text.as_bytes());
        }
    }
}
