//! Binds TCP and Unix sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::binder::BindOptions;

/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

pub(super) fn bind_tcp(
    address: SocketAddr,
    options: BindOptions,
    workers: usize,
) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let first = tcp_socket(address, options)?;
    // `SO_REUSEPORT` is set after binding. So binding fails if another process has the port, even with `SO_REUSEPORT`.
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = vec![TcpListener::from(first)];
    for _ in 1..workers {
        let next = tcp_socket(bound, options)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        next.listen(BACKLOG)?;
        listeners.push(next.into());
    }
    Ok((listeners, bound))
}

fn tcp_socket(address: SocketAddr, options: BindOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a previous run may linger. They must not block the port.
    socket.set_reuse_address(true)?;
    options.apply(&socket, address)?;
    // Accepted connections inherit this. A reply is one write, so the system need not wait for more.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) fn bind_unix(path: &Path, workers: usize) -> io::Result<Vec<(UnixListener, Arc<SocketFile>)>> {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        // An earlier process ended before it could remove the file.
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = Arc::new(SocketFile(path.to_owned(), Once::new()));
    // Every user may connect: web servers run as another user. The folder's permissions can restrict this.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from(socket);
    (0..workers).map(|_| Ok((listener.try_clone()?, Arc::clone(&file)))).collect()
}

/// The file of a Unix socket. The file is removed when the last listener is dropped.
#[derive(Debug)]
pub struct SocketFile(pub(super) PathBuf, Once);

impl SocketFile {
    /// Removes the file, so that no new client finds it.
    pub fn remove(&self) {
        self.1.call_once(|| self.remove_now());
    }

    fn remove_now(&self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            log::warn!("cannot remove the socket file {}: {error}", self.0.display());
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}
