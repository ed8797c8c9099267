//! Connections over TCP and Unix sockets. A connection is registered with the event loop only when it has to wait.
//!
//! Most clients open a connection for each announce, and their request is there when it is accepted. That takes four
//! system calls: accept, receive, send, close. Registering and deregistering would take two more.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::consume_budget;
use tokio_rustls::server::TlsStream;

/// Accepts connections.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
    kind: ListenerKind,
}

/// The kind of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenerKind {
    Tcp,
    Unix,
}

impl Listener {
    /// Takes over a TCP listener, which must be non-blocking.
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        Self::new(listener.into(), ListenerKind::Tcp)
    }

    /// Takes over a Unix listener, which must be non-blocking.
    pub fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Self::new(listener.into(), ListenerKind::Unix)
    }

    fn new(fd: OwnedFd, kind: ListenerKind) -> io::Result<Self> {
        // SAFETY: `AsyncFd` owns the descriptor, so the descriptor stays open while it is registered.
        #[allow(unsafe_code, reason = "tokio's own listeners register the connections that they accept")]
        Ok(Self { fd: unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? }, kind })
    }

    /// Waits for a connection. Returns it with the address of its other end; a Unix socket has none.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        loop {
            let mut readable = self.fd.readable().await?;
            match self.accept_now() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                accepted => return accepted,
            }
            // A Unix socket that a worker has shut down stays readable, so this loop may never pause. Other tasks must
            // run.
            consume_budget().await;
        }
    }

    /// Accepts a connection that is waiting. [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn accept_now(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, address) = rustix::net::acceptfrom_with(self.fd.get_ref(), flags)?;
        let address = match self.kind {
            ListenerKind::Unix => None,
            ListenerKind::Tcp => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                // If the client has already gone, the system gives no address.
                Some(address.ok_or(io::ErrorKind::ConnectionAborted)?)
            }
        };
        Ok((Socket(SocketState::Fresh(Some(fd), self.kind)), address))
    }

    /// Stops the system from opening connections here. Open connections can still be accepted.
    pub fn stop_opening(&self) {
        let refused = match self.kind {
            ListenerKind::Tcp => refuse_handshakes(self.fd.get_ref()),
            ListenerKind::Unix => rustix::net::shutdown(self.fd.get_ref(), Shutdown::Read).map_err(io::Error::from),
        };
        if let Err(error) = refused {
            log::debug!("connections may still be opened while the listener closes: {error}");
        }
    }
}

/// Makes the system drop TCP segments that begin a connection, but not those that complete one. The client sends a
/// dropped segment again after a second. It then reaches the next process or is refused.
///
/// Emptying the queue before closing is not enough: a connection may arrive in between, and closing the listener resets
/// connections that are not accepted yet.
#[cfg(target_os = "linux")]
fn refuse_handshakes(listener: &OwnedFd) -> io::Result<()> {
    use socket2::SockFilter;
    // Classic BPF gets the segment from the TCP header on. In byte 13, SYN is 0x02 and ACK is 0x10.
    let filter = [
        SockFilter::new(0x30, 0, 0, 13),       // load that byte
        SockFilter::new(0x54, 0, 0, 0x12),     // keep the SYN and ACK bits
        SockFilter::new(0x15, 0, 1, 0x02),     // only SYN?
        SockFilter::new(0x06, 0, 0, 0),        // then drop it
        SockFilter::new(0x06, 0, 0, u32::MAX), // else take it whole
    ];
    socket2::SockRef::from(listener).attach_filter(&filter)
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn refuse_handshakes(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}

/// One connection.
#[derive(Debug)]
pub struct Socket(SocketState);

#[derive(Debug)]
enum SocketState {
    /// Not registered with the event loop. The descriptor is `None` only while it is being registered.
    Fresh(Option<OwnedFd>, ListenerKind),
    /// Registered.
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Registered, after the handshake. Boxed: the stream is large, and most connections have no TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Evaluates an expression with the registered stream, whichever type the stream has.
macro_rules! of_registered {
    ($inner:expr, $stream:ident => $ask:expr) => {
        match $inner {
            SocketState::Fresh(..) => Err(io::ErrorKind::NotConnected.into()),
            SocketState::Tcp($stream) => $ask,
            SocketState::Unix($stream) => $ask,
            SocketState::Tls($stream) => $ask,
        }
    };
}

impl Socket {
    /// Reads the bytes that have arrived. The calling task is woken when more arrive.
    ///
    /// A new connection is registered with the event loop only if nothing has arrived.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let SocketState::Fresh(Some(fd), _) = &self.0 {
            match rustix::net::recv(fd, &mut *buf, RecvFlags::DONTWAIT) {
                Ok((_, read)) => return Poll::Ready(Ok(read)),
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let mut buf = ReadBuf::new(buf);
        let inner = self.registered()?;
        let read = match inner {
            SocketState::Fresh(..) => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            SocketState::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            SocketState::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            SocketState::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        };
        read.map_ok(|()| buf.filled().len())
    }

    /// Sends as many bytes as the system takes at once, and returns their number. Over TLS, sends nothing and returns
    /// 0: the system might take only a part of the encrypted bytes, and the task would have to wait.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_tls() {
            return Ok(0);
        }
        match rustix::net::send(self.fd()?, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends all bytes, however long the other end takes.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        of_registered!(self.registered()?, stream => {
            stream.write_all(bytes).await?;
            stream.flush().await
        })
    }

    /// Closes the sending direction: the other end learns that no more bytes follow. Over TLS this sends a last
    /// message, and waits for a slow other end.
    pub async fn finish(&mut self) -> io::Result<()> {
        match &mut self.0 {
            SocketState::Tls(stream) => stream.shutdown().await,
            _ => Ok(rustix::net::shutdown(self.fd()?, Shutdown::Write)?),
        }
    }

    /// Whether the connection uses TLS. Then [`Self::finish`] must come before closing. Otherwise the other end cannot
    /// know whether an attacker cut bytes off (RFC 8446, section 6.1).
    pub fn is_tls(&self) -> bool {
        matches!(self.0, SocketState::Tls(_))
    }

    /// Registers a new connection with the event loop, and returns its TCP stream for a handshake.
    pub fn into_tcp(mut self) -> io::Result<TcpStream> {
        self.registered()?;
        match self.0 {
            SocketState::Tcp(stream) => Ok(stream),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Registers the connection with the event loop, if it is not registered yet.
    fn registered(&mut self) -> io::Result<&mut SocketState> {
        if let SocketState::Fresh(fd, kind) = &mut self.0 {
            let fd = fd.take().ok_or(io::ErrorKind::NotConnected)?;
            self.0 = match kind {
                ListenerKind::Tcp => SocketState::Tcp(TcpStream::from_std(fd.into())?),
                ListenerKind::Unix => SocketState::Unix(UnixStream::from_std(fd.into())?),
            };
        }
        Ok(&mut self.0)
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.0 {
            SocketState::Fresh(Some(fd), _) => Ok(fd.as_fd()),
            SocketState::Fresh(None, _) => Err(io::ErrorKind::NotConnected.into()),
            SocketState::Tcp(stream) => Ok(stream.as_fd()),
            SocketState::Unix(stream) => Ok(stream.as_fd()),
            SocketState::Tls(stream) => Ok(stream.get_ref().0.as_fd()),
        }
    }
}

/// The PROXY protocol's header is read through this trait.
impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Socket::poll_read(self.get_mut(), cx, buf.initialize_unfilled());
        read.map_ok(|count| buf.advance(count))
    }
}

/// Takes over a TLS stream whose handshake is complete.
impl From<TlsStream<TcpStream>> for Socket {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self(SocketState::Tls(Box::new(stream)))
    }
}

/// Takes over one end of a socket pair, which must be non-blocking.
impl From<std::os::unix::net::UnixStream> for Socket {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self(SocketState::Fresh(Some(stream.into()), ListenerKind::Unix))
    }
}
