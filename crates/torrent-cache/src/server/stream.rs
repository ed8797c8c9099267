//! A connection as actix-http reads and writes it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::file_sender::FileSender;

/// The replies under way on a connection, and when a reply last made progress.
#[derive(Clone)]
pub(super) struct ConnectionActivity(Rc<Activity>);

struct Activity {
    replies: Cell<usize>,
    /// When a reply last made progress, or when the connection began.
    last: Cell<Instant>,
}

/// Counts a request as being answered until this value is dropped.
pub(super) struct ReplyUnderWay(Rc<Activity>);

impl ConnectionActivity {
    fn new() -> Self {
        Self(Rc::new(Activity { replies: Cell::new(0), last: Cell::new(Instant::now()) }))
    }

    /// Notes that a request has come and is being answered.
    pub(super) fn reply(&self) -> ReplyUnderWay {
        self.0.replies.set(self.0.replies.get() + 1);
        ReplyUnderWay(Rc::clone(&self.0))
    }

    fn note(&self) {
        self.0.last.set(Instant::now());
    }

    /// Returns the time by which the next request must have come.
    fn deadline(&self, limit: Duration) -> Instant {
        if self.0.replies.get() > 0 {
            self.note();
        }
        self.0.last.get() + limit
    }
}

impl Drop for ReplyUnderWay {
    fn drop(&mut self) {
        self.0.replies.set(self.0.replies.get().saturating_sub(1));
        self.0.last.set(Instant::now());
    }
}

/// A client's connection, with or without TLS. Between replies, a read fails if the next request is late; actix-http
/// limits only the wait for the first request. A write fails if it makes no progress for too long. Otherwise a client
/// that reads nothing would hold the reply's memory for ever.
pub(super) struct ClientStream {
    socket: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    limit: Duration,
    /// The deadline of a write; set while the client takes no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
    activity: ConnectionActivity,
    files: FileSender,
    /// When to check whether the next request is late.
    late: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(super) fn new(socket: Either<TcpStream, Box<TlsStream<TcpStream>>>, limit: Duration) -> Self {
        Self {
            socket,
            limit,
            stalled: None,
            activity: ConnectionActivity::new(),
            files: FileSender::default(),
            late: None,
        }
    }

    /// Returns the activity of this connection.
    pub(super) fn activity(&self) -> ConnectionActivity {
        self.activity.clone()
    }

    /// Returns the sender for parts of files. `None` with TLS, because TLS has to read and encrypt the bytes.
    pub(super) fn files(&self) -> Option<FileSender> {
        matches!(self.socket, Either::Left(_)).then(|| self.files.clone())
    }

    /// Returns `Ready` once the next request is late.
    fn late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.activity.deadline(self.limit);
            let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(late.as_mut().poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            late.as_mut().reset(deadline);
        }
    }

    /// Notes whether a write made progress. Returns an error if there was none for too long.
    fn progress<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            self.activity.note();
            return poll;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.socket).poll_read(cx, into);
        if poll.is_pending() {
            ready!(self.late(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        poll
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.progress(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.files.is_waiting()
            && let Either::Left(socket) = &self.socket
        {
            let sent = self.files.poll_send(socket, cx);
            ready!(self.progress(cx, sent))?;
        }
        let poll = Pin::new(&mut self.socket).poll_flush(cx);
        self.progress(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.progress(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = ClientStream::new(Either::Left(socket), Duration::from_millis(1));
        let error = stream.write_all(&vec![0; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    const LIMIT: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_request_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = ClientStream::new(Either::Left(socket), LIMIT);
        let reply = stream.activity().reply();
        client.write_all(b"G").await.unwrap();
        stream.read_u8().await.unwrap();
        // While a request is being answered, the client may be silent.
        timeout(LIMIT * 10, stream.read_u8()).await.unwrap_err();
        drop(reply);
        let ended = Instant::now();
        // One byte is no request, so the deadline stays.
        timeout(LIMIT / 2, stream.read_u8()).await.unwrap_err();
        client.write_all(b"E").await.unwrap();
        stream.read_u8().await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(ended.elapsed() < LIMIT + Duration::from_secs(1), "{:?}", ended.elapsed());
    }
}
