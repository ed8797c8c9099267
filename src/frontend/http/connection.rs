//! A client's connection, as the HTTP parser is to see it: with request lines that it takes, and with an end.
//!
//! The parser watches for slowness in the first request's head only, and not at all for replies that nobody reads. One
//! client that begins requests and does not finish them could hold every descriptor.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::request_line::Place;

/// How long a client may take to send a request's head once it has begun, or to read what it was sent.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection may last after a request with a body.
const OPAQUE_PATIENCE: Duration = Duration::from_mins(2);

/// A connection whose request lines are mended as they are read.
#[derive(Debug)]
pub struct Lenient<T> {
    stream: T,
    place: Place,
    /// What was read before this took over, and has still to be followed.
    unread: Vec<u8>,
    /// Mended bytes that the reader had no room for.
    pending: Vec<u8>,
    /// When what is being read or written must be done; nothing while nothing has to.
    read_by: Deadline,
    write_by: Deadline,
}

/// How long a client may stay there; for ever between requests, where the server itself sees to it.
fn patience(place: &Place) -> Option<Duration> {
    match place {
        Place::RequestLine { begun: false } => None,
        Place::RequestLine { begun: true } | Place::Headers { .. } => Some(PATIENCE),
        Place::Opaque { .. } => Some(OPAQUE_PATIENCE),
    }
}

/// A time limit that costs nothing unless something is late.
#[derive(Debug, Default)]
struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    fn lift(&mut self) {
        self.0 = None;
    }

    /// Called when what is waited for is not there: an error once it is too late.
    fn check(&mut self, patience: Duration, cx: &mut Context<'_>) -> io::Result<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if sleep.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl<T> Lenient<T> {
    /// A connection on which nothing has been read yet.
    pub fn new(stream: T) -> Self {
        Self::resume(stream, Vec::new())
    }

    /// A connection of which this has been read already, from the beginning of a request on.
    pub fn resume(stream: T, unread: Vec<u8>) -> Self {
        Self {
            stream,
            place: Place::default(),
            unread,
            pending: Vec::new(),
            read_by: Deadline::default(),
            write_by: Deadline::default(),
        }
    }
}

/// Moves as much as there is room for.
fn give(bytes: &mut Vec<u8>, buf: &mut ReadBuf<'_>) {
    let given = bytes.len().min(buf.remaining());
    buf.put_slice(bytes.get(..given).unwrap_or_default());
    bytes.drain(..given);
}

impl<T: AsyncRead + Unpin> AsyncRead for Lenient<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.pending.is_empty() {
            give(&mut this.pending, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = if this.unread.is_empty() {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        } else {
            give(&mut this.unread, buf);
            Poll::Ready(Ok(()))
        };
        let Poll::Ready(read) = read else {
            return match patience(&this.place).map(|patience| this.read_by.check(patience, cx)) {
                Some(Err(late)) => Poll::Ready(Err(late)),
                Some(Ok(())) | None => Poll::Pending,
            };
        };
        read?;
        let followed = this.place.follow(buf.filled().get(before..).unwrap_or_default());
        if patience(&this.place).is_none() {
            this.read_by.lift();
        }
        match followed {
            Ok(None) => {}
            Ok(Some(mended)) => {
                buf.set_filled(before);
                this.pending = mended;
                give(&mut this.pending, buf);
            }
            Err(error) => {
                buf.set_filled(before);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Lenient<T> {
    /// What a write came to, unless it has waited too long.
    fn written<W>(&mut self, write: Poll<io::Result<W>>, cx: &mut Context<'_>) -> Poll<io::Result<W>> {
        if write.is_ready() {
            self.write_by.lift();
            return write;
        }
        match self.write_by.check(PATIENCE, cx) {
            Ok(()) => Poll::Pending,
            Err(late) => Poll::Ready(Err(late)),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lenient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(write, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let write = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(write, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn who_begins_a_request_must_finish_it_in_time() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = Lenient::new(server);
        let mut buf = [0; 1024];
        let start = tokio::time::Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        server.read_exact(&mut buf[..18]).await.unwrap();
        // Between requests there is no hurry.
        let idle = tokio::time::timeout(PATIENCE * 5, server.read(&mut buf)).await;
        assert!(idle.is_err());
        client.write_all(b"G").await.unwrap();
        server.read_exact(&mut buf[..1]).await.unwrap();
        let error = server.read(&mut buf).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, PATIENCE * 6));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_off() {
        let (_client, server) = tokio::io::duplex(16);
        let mut server = Lenient::new(server);
        let start = tokio::time::Instant::now();
        let error = server.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
    }
}
