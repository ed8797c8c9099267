//! Sends replies to clients that read slowly, and ends connections.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::time::timeout;

use super::{BUFFERS, Buffers, HttpConnection, LINGER};
use crate::clock;
use crate::frontend::connections::Idle;

/// A slow client gets replies in chunks of this many bytes. Each chunk has its own timeout.
const SEND_CHUNK: usize = 64 * 1024;

/// The most bytes that are discarded while a connection is half open.
const MAX_DISCARDED: usize = 256 * 1024;

impl HttpConnection<'_> {
    /// Sends the rest of the replies, as fast as the client reads them.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let sent = self.socket.send(&unsent)?;
        match unsent.get(sent..).unwrap_or_default() {
            [] => Ok(()),
            rest => Box::pin(self.send_slowly(rest)).await,
        }
    }

    async fn send_slowly(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(SEND_CHUNK) {
            let sending = timeout(self.open.limits().timeouts.send, self.socket.send_all(part));
            let sent = self.open.while_idle(self.holder, Idle::Waiting, sending).await?;
            sent??;
        }
        Ok(())
    }

    /// Closes this side of the connection, and discards what the client still sends. See [`LINGER`].
    pub(super) async fn linger(&mut self) -> io::Result<()> {
        let _late = timeout(LINGER, self.socket.finish()).await;
        let mut discarded = 0;
        let since = clock::coarse();
        let discard = poll_fn(|cx| {
            BUFFERS.with_borrow_mut(|Buffers { read, .. }| {
                while discarded < MAX_DISCARDED {
                    match self.socket.poll_read(cx, &mut **read) {
                        Poll::Ready(Ok(count)) if count > 0 => discarded += count,
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => {
                            let open = self.open.idle(self.holder, Idle::Finished, Some(since), cx);
                            return if open.is_err() { Poll::Ready(()) } else { Poll::Pending };
                        }
                    }
                }
                Poll::Ready(())
            })
        });
        let _late = timeout(LINGER, discard).await;
        Ok(())
    }
}
