//! Replies to requests that are not carried out.

use super::answer::refuse;
use super::framing::ReplyFraming;
use super::head::{Head, MAX_HEAD, MAX_LINES};
use crate::frontend::client_address::Remote;
use crate::frontend::context::Context;
use tracker_protocol::Refusal;
use tracker_protocol::route::{Route, route};

/// The sender of a refused request, and the worker's buffers for the reply.
pub(super) struct Refused<'a> {
    pub(super) context: &'a Context,
    pub(super) source: Remote,
    pub(super) body: &'a mut Vec<u8>,
    pub(super) replies: &'a mut Vec<u8>,
}

impl Refused<'_> {
    /// Refuses an announce or a scrape whose method is neither GET nor HEAD.
    pub(super) fn method(mut self, framing: ReplyFraming) {
        self.encode(&Refusal::Method);
        framing.put(
            "405 Method Not Allowed",
            "content-type: text/plain\r\nx-content-type-options: nosniff\r\nallow: GET, HEAD\r\n",
            self.body,
            self.replies,
        );
    }

    /// Refuses a head that is too long. The rest of it is not read, so the connection ends.
    pub(super) fn too_long(mut self, head: &Head<'_>) {
        let framing = ReplyFraming::new(head).close_if(true);
        if route(head.path) == Route::Other {
            let text = format!("A request may have at most {MAX_HEAD} bytes and {MAX_LINES} header lines.\n");
            framing.put_plain("431 Request Header Fields Too Large", "", text.as_bytes(), self.replies);
        } else {
            self.encode(&Refusal::TooLong { bytes: MAX_HEAD, lines: MAX_LINES });
            framing.put_bencode(self.body, self.replies);
        }
    }

    fn encode(&mut self, refusal: &Refusal) {
        log::debug!("request from {} refused: {refusal}", self.source.ip());
        refuse(self.context, refusal, self.body);
    }
}

/// Refuses bytes that are not HTTP. The connection ends.
pub(super) fn not_http(replies: &mut Vec<u8>) {
    ReplyFraming::last().put_plain("400 Bad Request", "", b"This is not an HTTP request.\n", replies);
}
