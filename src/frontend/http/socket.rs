//! A TCP connection that the event loop hears of only when there is something to wait for.
//!
//! Most clients announce on a connection of their own, and have sent their request by the time that it is accepted. Such
//! a connection is four system calls: accept, receive, send, close. To register it with the event loop and to take it
//! off again would be two more.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Accepts connections.
#[derive(Debug)]
pub struct Listener(AsyncFd<std::net::TcpListener>);

impl Listener {
    /// Takes over a listener that does not block.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        // SAFETY: the listener owns its descriptor, and keeps it open and the same for as long as it is registered.
        #[allow(unsafe_code, reason = "tokio's own listener registers what it accepts, which is to be avoided here")]
        Ok(Self(unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE)? }))
    }

    /// The next connection, and who is at its other end.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |listener: &std::net::TcpListener| Ok(rustix::net::acceptfrom_with(listener, flags)?);
        let (fd, address) = self.0.async_io(Interest::READABLE, accept).await?;
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        // Who is gone already has no address.
        let address = address.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((Socket::Fresh(Some(fd)), address))
    }
}

/// One connection.
#[derive(Debug)]
pub enum Socket {
    /// The event loop has not heard of it. None only while it is being registered.
    Fresh(Option<OwnedFd>),
    /// It has.
    Registered(TcpStream),
}

impl Socket {
    /// Reads what is there. Whoever calls this is woken when more comes.
    ///
    /// A fresh connection is read once without the event loop, which hears of it afterwards.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Self::Fresh(Some(fd)) = self {
            match rustix::net::recv(fd, &mut *buf, RecvFlags::DONTWAIT) {
                Ok((_, read)) => return Poll::Ready(Ok(read)),
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let mut buf = ReadBuf::new(buf);
        let stream = self.registered()?;
        Pin::new(stream).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
    }

    /// Sends as much as the system takes at once, and tells how much that was.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match rustix::net::send(self.fd()?, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends all of it, however long the other end takes.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.registered()?.write_all(bytes).await
    }

    /// The connection for others than the hot path.
    pub fn into_stream(mut self) -> io::Result<TcpStream> {
        self.registered()?;
        match self {
            Self::Registered(stream) => Ok(stream),
            Self::Fresh(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Has the event loop hear of it.
    pub fn registered(&mut self) -> io::Result<&mut TcpStream> {
        if let Self::Fresh(fd) = self {
            let fd = fd.take().ok_or(io::ErrorKind::NotConnected)?;
            *self = Self::Registered(TcpStream::from_std(fd.into())?);
        }
        match self {
            Self::Registered(stream) => Ok(stream),
            Self::Fresh(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Fresh(Some(fd)) => Ok(fd.as_fd()),
            Self::Fresh(None) => Err(io::ErrorKind::NotConnected.into()),
            Self::Registered(stream) => Ok(stream.as_fd()),
        }
    }
}
