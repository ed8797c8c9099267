//! The stream between awc and the socket. It shows awc a reply that awc understands.

use std::io;
use std::pin::Pin;
use std::task::{self, Context, Poll};

use actix_web::rt::net::{ActixStream, Ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::response::{HEAD_READ, MAX_READ, UpstreamResponse};
use super::stream_error::StreamError;

/// The most bytes that are read from a connection, including TLS records, heads and the framing of chunks.
pub(in super::super) const MAX_RAW: usize = 3 * 1024 * 1024;

/// A connection that fails after [`MAX_RAW`] bytes have been read.
#[derive(Debug)]
pub(super) struct Counted {
    tcp: TcpStream,
    left: usize,
}

impl Counted {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, left: MAX_RAW }
    }
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, left } = self.get_mut();
        let before = buf.filled().len();
        task::ready!(Pin::new(tcp).poll_read(cx, buf))?;
        match left.checked_sub(buf.filled().len() - before) {
            Some(rest) => *left = rest,
            None => return Poll::Ready(Err(StreamError::TooMuch.into())),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// A connection for one exchange.
#[derive(Debug)]
pub(super) struct UpstreamStream {
    io: Io,
    /// The start that replaces awc's start of the request, if the request goes to a proxy without a tunnel.
    start: Option<RequestStart>,
    response: UpstreamResponse,
}

/// The first bytes of a request to a proxy, in place of [`METHOD`]. A proxy needs a whole URL, but awc writes a path.
#[derive(Debug)]
struct RequestStart {
    bytes: Vec<u8>,
    written: usize,
}

const METHOD: &[u8] = b"GET ";

impl UpstreamStream {
    /// Returns a stream without TLS. `absolute` goes before the path in the request line.
    pub(super) fn plain(tcp: Counted, absolute: Option<&str>) -> Self {
        let start = absolute.map(|absolute| RequestStart { bytes: format!("GET {absolute}").into_bytes(), written: 0 });
        Self { io: Io::Plain(tcp), start, response: UpstreamResponse::default() }
    }

    pub(super) fn tls(tls: TlsStream<Counted>) -> Self {
        Self { io: Io::Tls(Box::new(tls)), start: None, response: UpstreamResponse::default() }
    }
}

#[derive(Debug)]
enum Io {
    Plain(Counted),
    Tls(Box<TlsStream<Counted>>),
}

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(io) => &io.tcp,
            Self::Tls(io) => &io.get_ref().0.tcp,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, response, .. } = self.get_mut();
        while response.in_head() {
            let mut space = [0; HEAD_READ];
            let mut chunk = ReadBuf::new(&mut space);
            task::ready!(poll_read_or_end(io, cx, &mut chunk))?;
            response.head_bytes(chunk.filled())?;
        }
        if buf.remaining() == 0 || response.take(buf) {
            return Poll::Ready(Ok(()));
        }
        let room = buf.remaining().min(MAX_READ);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        task::ready!(poll_read_or_end(io, cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(response.body_bytes(read).map_err(io::Error::from))
    }
}

/// Reads from the connection. A reset, or an end without TLS `close_notify`, counts as a normal end of the connection:
/// the reply itself shows whether it is complete.
fn poll_read_or_end(io: &mut Io, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let read = match io {
        Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
        Io::Tls(io) => Pin::new(io).poll_read(cx, buf),
    };
    match task::ready!(read) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
            ) =>
        {
            Poll::Ready(Ok(()))
        }
        other => Poll::Ready(other),
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, start, .. } = self.get_mut();
        if let Some(RequestStart { bytes, written }) = start.as_mut().filter(|_| buf.starts_with(METHOD)) {
            while let Some(rest @ [_, ..]) = bytes.get(*written..) {
                match task::ready!(io.poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    length => *written += length,
                }
            }
            *start = None;
            return Poll::Ready(Ok(METHOD.len()));
        }
        io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

impl ActixStream for UpstreamStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.io.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.io.tcp(), cx)
    }
}
