//! The status line and the headers of a reply.

use super::head::{Head, Method};

/// What the request says about the reply's framing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyFraming {
    /// Whether the reply must leave out the body.
    is_head: bool,
    /// Whether the client may send more requests on this connection.
    pub(super) persistent: bool,
    http_1_0: bool,
}

impl ReplyFraming {
    pub(super) fn new(head: &Head<'_>) -> Self {
        Self { is_head: head.method == Method::Head, persistent: head.persistent, http_1_0: head.http_1_0 }
    }

    /// The framing of the reply to bytes that are no request. The connection then ends.
    pub(super) fn last() -> Self {
        Self { is_head: false, persistent: false, http_1_0: false }
    }

    /// Makes this the last reply on the connection if `ending` is true.
    pub(super) fn close_if(self, ending: bool) -> Self {
        Self { persistent: self.persistent && !ending, ..self }
    }

    /// Appends the reply to an announce or a scrape, without `Date`: clients ignore it, and caches must not store the
    /// reply.
    pub(super) fn put_bencode(self, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Content-Type-Options: nosniff\r\n");
        self.put_rest(body, out);
    }

    /// Appends a reply with this status and these header lines. Each line ends with CRLF.
    pub(super) fn put(self, status: &str, headers: &str, body: &[u8], out: &mut Vec<u8>) {
        let head: [&[u8]; 4] = [b"HTTP/1.1 ", status.as_bytes(), b"\r\n", headers.as_bytes()];
        head.iter().for_each(|part| out.extend_from_slice(part));
        self.put_rest(body, out);
    }

    /// Appends the header lines that frame the reply, and the body.
    fn put_rest(self, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        out.extend_from_slice(match (self.persistent, self.http_1_0) {
            (false, _) => b"\r\nConnection: close\r\n\r\n",
            (true, true) => b"\r\nConnection: keep-alive\r\n\r\n",
            (true, false) => b"\r\n\r\n",
        });
        if !self.is_head {
            out.extend_from_slice(body);
        }
    }

    pub(super) fn put_plain(self, status: &str, headers: &str, body: &[u8], out: &mut Vec<u8>) {
        let headers =
            ["content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n", headers].concat();
        self.put(status, &headers, body, out);
    }
}
