//! How connections to upstream trackers are made: the connector under awc, with TLS of our own, and a stream that
//! shows awc a reply as it understands it.
//!
//! awc's own TLS would leave no place for the mending, so awc is built without it and told that everything is
//! `http://`. Of the two clients of a thread one connects plainly, the other does TLS with the name in the URI. The
//! address to dial is never the connector's affair: it comes with the request, already examined.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Context, Poll};
use std::time::Duration;

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::rt::net::{ActixStream, Ready};
use awc::http::Uri;
use futures::future::LocalBoxFuture;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reply::{HEAD_READ, MAX_READ, Reply, StreamError};

tokio::task_local! {
    /// When the connector gives an address up. awc has no such thing for one request, but polls the connector within
    /// the request's own task.
    static CONNECT_BY: Instant;
}

/// Runs an exchange whose TCP connection must stand by `by`; an exchange outside of this has no such bound.
pub(super) async fn connecting_by<F: Future>(by: Instant, exchange: F) -> F::Output {
    CONNECT_BY.scope(by, exchange).await
}

/// This thread's client: awc's are bound to the thread that uses them.
///
/// The error is a fault of the TLS library's, and says which.
pub(super) fn client(tls: bool) -> Result<awc::Client, String> {
    thread_local! {
        static PLAIN: RefCell<Option<awc::Client>> = const { RefCell::new(None) };
        static TLS: RefCell<Option<awc::Client>> = const { RefCell::new(None) };
    }
    let (slot, config) = if tls { (&TLS, Some(tls_config()?)) } else { (&PLAIN, None) };
    slot.try_with(|slot| {
        // Not held across an await, and nothing below comes back here: the borrow cannot fail.
        let mut slot = slot.try_borrow_mut().map_err(|error| error.to_string())?;
        Ok(slot.get_or_insert_with(|| new_client(UpstreamConnector { tls: config.map(TlsConnector::from) })).clone())
    })
    .map_err(|error| error.to_string())?
}

fn new_client(connector: UpstreamConnector) -> awc::Client {
    // The caller has one deadline over the whole exchange. awc's own would cut it short: five seconds each for the
    // connection and the head.
    let connector = awc::Connector::new().connector(connector).timeout(Duration::MAX).limit(0);
    awc::Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}

/// The TLS settings of all connections. One for all, so that sessions are resumed whatever thread had them first.
fn tls_config() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG.get_or_init(|| new_tls_config().map(Arc::new).map_err(|error| error.to_string())).clone()
}

fn new_tls_config() -> Result<ClientConfig, rustls::Error> {
    // Named here, as a second provider anywhere among the dependencies makes the default one a panic.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    #[cfg(test)]
    let roots = tests::with_our_root(roots);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Connects for awc, to the address that came with the request.
#[derive(Clone)]
struct UpstreamConnector {
    tls: Option<TlsConnector>,
}

impl Service<ConnectInfo<Uri>> for UpstreamConnector {
    type Response = Connection<Uri, UpstreamStream>;
    // Never `InvalidInput`: awc panics at that.
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let address = info.addrs().next().ok_or(ConnectError::Unresolved)?;
            let tcp = match CONNECT_BY.try_get() {
                Ok(by) => tokio::time::timeout_at(by, TcpStream::connect(address))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                Err(_) => TcpStream::connect(address).await,
            };
            let tcp = tcp.map_err(ConnectError::Io)?;
            // A handshake and a request are small writes, which would wait for each other's ACK without this.
            tcp.set_nodelay(true).map_err(ConnectError::Io)?;
            let io = match tls {
                None => Io::Plain(tcp),
                Some(tls) => {
                    let handshake = async {
                        let name = server_name(info.hostname()).map_err(io::Error::other)?;
                        tls.connect(name, tcp).await
                    };
                    let failed = |error: io::Error| ConnectError::Io(StreamError::Tls(error.to_string()).into());
                    Io::Tls(Box::new(handshake.await.map_err(failed)?))
                }
            };
            Ok(Connection::new(info.request().clone(), UpstreamStream { io, reply: Reply::default() }))
        })
    }
}

/// What a certificate is held against, from the host of a URI.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned())
}

/// A connection that shows awc a reply as awc understands it. It serves one exchange.
#[derive(Debug)]
struct UpstreamStream {
    io: Io,
    reply: Reply,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { io, reply } = self.get_mut();
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
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
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
        match &self.io {
            Io::Plain(io) => ActixStream::poll_read_ready(io, cx),
            Io::Tls(io) => ActixStream::poll_read_ready(io.get_ref().0, cx),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.io {
            Io::Plain(io) => ActixStream::poll_write_ready(io, cx),
            Io::Tls(io) => ActixStream::poll_write_ready(io.get_ref().0, cx),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
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

    pub(super) fn with_our_root(mut roots: RootCertStore) -> RootCertStore {
        roots.add(certificate()).unwrap();
        roots
    }

    /// A server that is `tracker.test`.
    pub(in crate::forward) fn acceptor() -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
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
