//! How connections to upstream trackers are made: the connector under awc, with proxies and TLS of our own, and a stream that
//! shows awc a reply as it understands it.
//!
//! awc's own TLS would leave no place for the mending, so awc is built without it and told that everything is `http://`.
//! What else a connection needs comes with the request: the address to dial, already examined, by awc's own means, and a
//! [`ConnectRoute`] beside awc, which has no room for one.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};
use std::time::Duration;

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::rt::net::{ActixStream, Ready};
use awc::http::Uri;
use futures::future::LocalBoxFuture;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::is_shortage;
use super::proxy::{Proxy, Target};
use super::reply::{HEAD_READ, MAX_RAW, MAX_READ, StreamError, UpstreamResponse};

tokio::task_local! {
    /// How the request that this task sends gets there. awc has no such thing for one request, but polls the connector
    /// within the request's own task.
    static ROUTE: ConnectRoute;
}

/// How a request gets to an upstream tracker.
#[derive(Clone, Default)]
pub(super) struct ConnectRoute {
    /// When the address is given up; never before the whole exchange if none.
    pub(super) connect_by: Option<Instant>,
    /// For TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// The proxy whose address is dialled, and where it is to connect us.
    pub(super) tunnel: Option<(Arc<Proxy>, Target)>,
    /// What goes before the path in the request's first line, for a proxy that takes requests.
    pub(super) absolute: Option<String>,
}

/// Sends a request along a route.
pub(super) async fn along<F: Future>(route: ConnectRoute, exchange: F) -> F::Output {
    ROUTE.scope(route, exchange).await
}

/// This thread's client: awc's are bound to the thread that uses them. The error is a fault of the thread's.
pub(super) fn client() -> Result<awc::Client, String> {
    thread_local! {
        static CLIENT: RefCell<Option<awc::Client>> = const { RefCell::new(None) };
    }
    let made = |slot: &RefCell<Option<awc::Client>>| {
        // Not held across an await, and nothing below comes back here: the borrow cannot fail.
        let mut slot = slot.try_borrow_mut().map_err(|error| error.to_string())?;
        Ok(slot.get_or_insert_with(new_client).clone())
    };
    CLIENT.try_with(made).map_err(|error| error.to_string())?
}

fn new_client() -> awc::Client {
    // The caller has one deadline over the whole exchange. awc's own would cut it short: five seconds each for the
    // connection and the head.
    let connector = awc::Connector::new().connector(UpstreamConnector).timeout(Duration::MAX).limit(0);
    awc::Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}

/// Connects for awc, to the address that came with the request.
#[derive(Clone)]
struct UpstreamConnector;

impl Service<ConnectInfo<Uri>> for UpstreamConnector {
    type Response = Connection<Uri, UpstreamStream>;
    // Never `InvalidInput`: awc panics at that.
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        Box::pin(async move {
            let address = info.addrs().next().ok_or(ConnectError::Unresolved)?;
            let ConnectRoute { connect_by, tls, tunnel, absolute } =
                ROUTE.try_with(ConnectRoute::clone).unwrap_or_default();
            let tcp = match connect_by {
                Some(by) => tokio::time::timeout_at(by, dial(address))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                None => dial(address).await,
            };
            let mut tcp = Counted { tcp: tcp.map_err(ConnectError::Io)?, left: MAX_RAW };
            if let Some((proxy, target)) = tunnel {
                proxy.tunnel(&mut tcp, &target).await.map_err(ConnectError::Io)?;
            }
            let io = match tls {
                None => Io::Plain(tcp),
                Some(tls) => Io::Tls(Box::new(handshake(tls, info.hostname(), tcp).await.map_err(ConnectError::Io)?)),
            };
            let lead = absolute.map(|absolute| Lead { bytes: format!("GET {absolute}").into_bytes(), written: 0 });
            Ok(Connection::new(info.request().clone(), UpstreamStream { io, lead, reply: UpstreamResponse::default() }))
        })
    }
}

/// Connects over TCP. What fails before a packet is sent is no fault of who was to be connected to.
async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let local = |error: io::Error| io::Error::from(StreamError::Local(error.to_string()));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(local)?;
    socket.set_nonblocking(true).map_err(local)?;
    // A handshake and a request are small writes, which would wait for each other's ACK without this.
    socket.set_tcp_nodelay(true).map_err(local)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        // On loopback the answer is there at once.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
        Err(error) => return Err(local(error)),
        Ok(()) => {}
    }
    let tcp = TcpStream::from_std(socket.into()).map_err(local)?;
    tcp.writable().await?;
    match tcp.take_error()? {
        None => Ok(tcp),
        Some(error) if is_shortage(&error) => Err(local(error)),
        Some(error) => Err(error),
    }
}

async fn handshake(tls: Arc<ClientConfig>, host: &str, tcp: Counted) -> io::Result<TlsStream<Counted>> {
    let name = server_name(host).map_err(|error| StreamError::Tls(error.to_string()))?;
    TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| match StreamError::find(&error) {
        Some(StreamError::TooMuch) => error,
        _ => StreamError::Tls(error.to_string()).into(),
    })
}

/// What a certificate is held against, from the host of a URI.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned())
}

/// A connection of which no more is read than [`MAX_RAW`], whatever is in it.
#[derive(Debug)]
struct Counted {
    tcp: TcpStream,
    left: usize,
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

/// A connection that shows awc a reply as awc understands it. It serves one exchange.
#[derive(Debug)]
struct UpstreamStream {
    io: Io,
    /// How the request begins, if not as awc has it.
    lead: Option<Lead>,
    reply: UpstreamResponse,
}

/// The first bytes of a request to a proxy: awc writes a path where a proxy must have a whole URL.
#[derive(Debug)]
struct Lead {
    bytes: Vec<u8>,
    written: usize,
}

/// What [`Lead`] stands for.
const METHOD: &[u8] = b"GET ";

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
        let Self { io, reply, .. } = self.get_mut();
        while reply.in_head() {
            let mut space = [0; HEAD_READ];
            let mut chunk = ReadBuf::new(&mut space);
            task::ready!(poll_read_or_end(io, cx, &mut chunk))?;
            reply.head_bytes(chunk.filled())?;
        }
        if buf.remaining() == 0 || reply.take(buf) {
            return Poll::Ready(Ok(()));
        }
        let room = buf.remaining().min(MAX_READ);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        task::ready!(poll_read_or_end(io, cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(reply.body_bytes(read).map_err(io::Error::from))
    }
}

/// Reads, and takes every manner of closing a connection for its end: without TLS's goodbye, or with a reset, as
/// from a server that did not read all of the request. Whether the reply is complete, the reply itself must tell.
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
        let Self { io, lead, .. } = self.get_mut();
        if let Some(Lead { bytes, written }) = lead.as_mut().filter(|_| buf.starts_with(METHOD)) {
            while let Some(rest @ [_, ..]) = bytes.get(*written..) {
                match task::ready!(io.poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    length => *written += length,
                }
            }
            *lead = None;
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{RootCertStore, ServerConfig};
    use tokio_rustls::TlsAcceptor;

    /// Of `tracker.test`, by itself, good for a hundred years.
    const CERTIFICATE: &str = "\
        3082019a30820141a00302010202145ebfde7923dfca48a1fc1cdc82f5c4c7c38f3176300a06082a8648ce3d0403023017311530\
        1306035504030c0c747261636b65722e746573743020170d3236313132303133333733305a180f32313236313032373133333733\
        305a30173115301306035504030c0c747261636b65722e746573743059301306072a8648ce3d020106082a8648ce3d0301070342\
        0004254fb3f78a368c032cee106d611c37ab5eee5b7c9e041592496587fb672596478f56ab4a0093cf8523af098d9cc8e54bb053\
        67d0e271f1014f7772cb0e68edcba3693067301d0603551d0e0416041490166496a6e2cb78dc9a2934f3b5aca4cc4fe07b301f06\
        03551d2304183016801490166496a6e2cb78dc9a2934f3b5aca4cc4fe07b30170603551d110410300e820c747261636b65722e74\
        657374300c0603551d130101ff04023000300a06082a8648ce3d040302034700304402204f45256c853bee529610617a3f78f8b7\
        cf7afccc8c7b10eecea753b980cc48dc02206736b94bd0886ea83dc3e2a626429baf2dc9fa58aa9d384e3317fa777397ce1a";

    /// Its key, which nothing but these tests trusts.
    const KEY: &str = "\
        308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420acd01414e691ce614ac0ff2690ebbbe3\
        2cadac45055b4d43d6a95c77b249150aa14403420004254fb3f78a368c032cee106d611c37ab5eee5b7c9e041592496587fb6725\
        96478f56ab4a0093cf8523af098d9cc8e54bb05367d0e271f1014f7772cb0e68edcb";

    fn from_hex(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    fn certificate() -> CertificateDer<'static> {
        from_hex(CERTIFICATE).into()
    }

    pub(in crate::forward) fn with_our_root(mut roots: RootCertStore) -> RootCertStore {
        roots.add(certificate()).unwrap();
        roots
    }

    /// A server that is `tracker.test`.
    pub(in crate::forward) fn acceptor() -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(from_hex(KEY))));
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    #[test]
    fn every_host_of_a_uri_is_a_name_for_tls() {
        for host in ["tracker.test", "a_b.example", "xn--e1afmkfd.xn--p1ai", "192.0.2.1", "[2001:db8::1]"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
    }
}
