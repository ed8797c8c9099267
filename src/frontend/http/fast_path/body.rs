//! Reads the body of a request. Only requests about shared blobs have one.

use std::future::poll_fn;
use std::io;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::time::timeout;

use super::{BUFFERS, Buffers, HttpConnection};
use crate::clock;
use crate::frontend::connections::Idle;
use crate::frontend::torrents::request::Upload;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Tells the client to send the body (RFC 9110, section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl HttpConnection<'_> {
    /// Reads the body of the request whose head was read last. The body counts as part of an unfinished request, so the
    /// size of all bodies together is bounded.
    ///
    /// # Errors
    /// The client is gone or too slow, or the connection was closed to make room.
    pub(super) async fn read_body(&mut self, Upload { length, expects_continue }: Upload) -> io::Result<Vec<u8>> {
        let mut body = std::mem::take(&mut self.unread);
        if body.len() < length {
            if expects_continue {
                self.unsent.extend_from_slice(CONTINUE);
                self.flush().await?;
            }
            let since = clock::coarse();
            let rest = poll_fn(|cx| self.poll_body(&mut body, length, since, cx));
            timeout(BODY_TIMEOUT, rest).await??;
        }
        self.unread = body.split_off(length.min(body.len()));
        // Only bytes of a further request can be unread now.
        self.may_send = !self.unread.is_empty();
        Ok(body)
    }

    fn poll_body(
        &mut self,
        body: &mut Vec<u8>,
        length: usize,
        since: Duration,
        cx: &mut Task<'_>,
    ) -> Poll<io::Result<()>> {
        BUFFERS.with_borrow_mut(|Buffers { read, .. }| {
            while body.len() < length {
                match self.socket.poll_read(cx, &mut **read) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(Ok(count)) => body.extend_from_slice(read.get(..count).unwrap_or_default()),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.open.buffers(body.len());
                        let open = self.open.idle(self.holder, Idle::Waiting, Some(since), cx);
                        let closed = |_| Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                        return open.map_or_else(closed, |()| Poll::Pending);
                    }
                }
            }
            self.open.buffers(0);
            Poll::Ready(Ok(()))
        })
    }
}
