//! A connection to a server, for any number of requests.

use std::io::{BufRead, BufReader, Read, Write};
#[cfg(target_os = "linux")]
use std::net::Ipv4Addr;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use super::announce::AnnounceQuery;
use super::reply::Reply;
use super::wait::DEADLINE;

/// An address with this prefix is a Unix socket whose clients first send a PROXY header with their address.
pub(super) const UNIX: &str = "proxy+unix:";

/// The PROXY header that [`TestConnection::to`] sends first at a [`UNIX`] address. It has the address of this host.
const FROM_THIS_HOST: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 80\r\n";

/// A connection for any number of requests.
pub(crate) struct TestConnection(BufReader<TestStream>);

/// The stream that carries the connection.
enum TestStream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl TestStream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for TestStream {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(space),
            Self::Tls(stream) => stream.read(space),
        }
    }
}

impl Write for TestStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl TestConnection {
    /// Connects to an address as the server logs it, such as `tls://127.0.0.1:8443`, and performs a handshake. Returns
    /// an error if the handshake fails, for example because the server's certificate is not for `localhost`.
    pub(crate) fn over_tls(address: &str, config: ClientConfig) -> std::io::Result<Self> {
        Self::to(address.strip_prefix("tls://").unwrap()).handshake(config)
    }

    /// Performs a handshake on this open connection.
    pub(crate) fn handshake(self, config: ClientConfig) -> std::io::Result<Self> {
        let TestStream::Plain(mut socket) = self.0.into_inner() else { panic!("the connection has TLS already") };
        let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self(BufReader::new(TestStream::Tls(Box::new(StreamOwned::new(session, socket))))))
    }

    /// Returns the TLS state of the connection.
    pub(crate) fn session(&self) -> &ClientConnection {
        match self.0.get_ref() {
            TestStream::Tls(stream) => &stream.conn,
            TestStream::Plain(_) => panic!("the connection has no TLS"),
        }
    }

    /// Connects to an address as the server logs it.
    pub(crate) fn to(address: &str) -> Self {
        let unix = |path| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            Self::open(socket, &SockAddr::unix(path).unwrap())
        };
        if let Some(path) = address.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(path) = address.strip_prefix(UNIX) {
            let mut connection = unix(path);
            connection.send(FROM_THIS_HOST);
            return connection;
        }
        let address: SocketAddr = address.parse().unwrap();
        Self::open(Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap(), &address.into())
    }

    /// Connects from another loopback address. Only Linux has several loopback addresses without configuration.
    #[cfg(target_os = "linux")]
    pub(crate) fn from(source: Ipv4Addr, address: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        Self::open(socket, &address.parse::<SocketAddr>().unwrap().into())
    }

    fn open(socket: Socket, address: &SockAddr) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.connect(address).unwrap();
        if !address.is_unix() {
            // Bytes that a test sends in pieces must arrive in pieces.
            socket.set_tcp_nodelay(true).unwrap();
        }
        Self(BufReader::new(TestStream::Plain(socket)))
    }

    pub(crate) fn get(&mut self, target: impl AsRef<[u8]>) -> Reply {
        self.get_with(target, &[])
    }

    /// Sends GET with `Host` and these headers.
    pub(crate) fn get_with(&mut self, target: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> Reply {
        self.send(request("GET", target, headers));
        self.reply()
    }

    /// Sends HEAD. The reply has a length but no body.
    pub(crate) fn head(&mut self, target: impl AsRef<[u8]>) -> Reply {
        self.send(request("HEAD", target, &[]));
        self.reply_head()
    }

    /// Sends an announce that must succeed.
    pub(crate) fn announce(&mut self, announce: &AnnounceQuery) -> Reply {
        self.announce_with(announce, &[])
    }

    pub(crate) fn announce_with(&mut self, announce: &AnnounceQuery, headers: &[(&str, &str)]) -> Reply {
        let reply = self.get_with(announce.target(), headers);
        assert!(reply.tree().get("failure reason").is_none(), "{}: {}", announce.target(), reply.text());
        reply
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes as [`Self::send`] does, but returns an error if the server has closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// Reads the next reply and its body.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = self.reply_head();
        match reply.header("content-length").map(|length| length.parse().unwrap()) {
            Some(length) => {
                reply.body.resize(length, 0);
                self.0.read_exact(&mut reply.body).unwrap();
            }
            None => reply.body = self.rest(),
        }
        reply
    }

    /// Reads the status and the headers of the next reply, which has no body.
    pub(crate) fn head_of_reply(&mut self) -> Reply {
        self.reply_head()
    }

    fn reply_head(&mut self) -> Reply {
        let status_line = self.line();
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let headers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()))
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Reply { version, status, headers, body: Vec::new() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the connection ends after {line:?}")).to_owned()
    }

    /// Returns whether the server has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let stream = self.0.get_mut();
        stream.socket().set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0]);
        stream.socket().set_nonblocking(false).unwrap();
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Reads everything until the server closes the connection. Over TLS, returns an error if the server closes without
    /// the TLS message `close_notify`.
    pub(crate) fn rest_until_closed(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map(|_| rest)
    }

    /// Reads everything until the server closes or resets the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the server does not close");
        }
        rest
    }

    /// Shuts down the sending side.
    pub(crate) fn half_close(&self) {
        let _ = self.0.get_ref().socket().shutdown(Shutdown::Write);
    }
}

/// Returns a request without a body, as a client sends it.
pub(crate) fn request(method: &str, target: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = [method.as_bytes(), b" ", target.as_ref(), b" HTTP/1.1\r\nHost: retracker.local\r\n"].concat();
    headers.iter().for_each(|(name, value)| write!(bytes, "{name}: {value}\r\n").unwrap());
    bytes.extend_from_slice(b"\r\n");
    bytes
}
