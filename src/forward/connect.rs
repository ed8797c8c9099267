//! How connections to upstream trackers are made: the resolver of names, the connector under awc, with TLS of our own,
//! and a stream that mends what awc misreads.
//!
//! awc's own TLS would leave no place for the mending, so awc is built without it and told that everything is
//! `http://`. Of the two clients of a thread one connects plainly, the other does TLS with the name in the URI. The
//! address to dial is never the connector's affair: it comes with the request, already examined.
//!
//! What is mended (awc 3.11 with actix-http 3.20):
//! - A reply of HTTP/1.1 with neither `Content-Length` nor `Transfer-Encoding` ends when the connection closes (RFC
//!   9112, section 6.3). awc takes its body for empty and reports no error. Many trackers send such replies. Told
//!   that it is HTTP/1.0, awc reads it to its end.
//! - The end of a connection before `Content-Length` is reached is no error to awc.
//! - An interim reply (1xx) is the final one to awc.
//! - A header name of 65,536 bytes or more makes awc panic. A head may be [`MAX_HEAD`] bytes long altogether.
//! - awc inflates whatever it gets from one read before it looks at the limit of the body, and 8 KiB inflate to 8 MiB.
//!   It gets no more than [`MAX_READ`] bytes from one read.

use std::cell::RefCell;
use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Context, Poll};
use std::time::Duration;

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::rt::net::{ActixStream, Ready};
use awc::http::Uri;
use futures::FutureExt as _;
use futures::future::{BoxFuture, LocalBoxFuture, Shared};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

/// The longest head of a reply, interim replies included.
const MAX_HEAD: usize = 64 * 1024;

/// The most that one read hands on. actix inflates less than 2,049 bytes in place, and more in a thread of its pool.
const MAX_READ: usize = 2048;

/// What one read asks of the socket while the head is incomplete: most replies fit as a whole.
const HEAD_READ: usize = 4096;

/// What this module adds to the reasons why a connection fails. Travels through awc inside an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum StreamError {
    /// The TLS handshake failed.
    #[error("{0}")]
    Tls(String),
    /// The head of the reply is longer than [`MAX_HEAD`].
    #[error("the head of the reply is too large")]
    HeadTooLarge,
    /// The connection closed in the middle of the head, or before `Content-Length` was reached.
    #[error("the reply is incomplete")]
    Truncated,
}

impl StreamError {
    /// Finds what travelled through awc. TLS errors of later than the handshake are found too.
    pub(super) fn find(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        inner
            .downcast_ref::<Self>()
            .cloned()
            .or_else(|| inner.downcast_ref::<rustls::Error>().map(|error| Self::Tls(error.to_string())))
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::other(error)
    }
}

/// How many addresses of one name are tried. Each takes its share of the time.
const MAX_ADDRESSES: usize = 4;

/// How long the addresses of a name are good for. The system does not say how long they really are.
const ADDRESSES_LAST: Duration = Duration::from_secs(30);

/// How soon a name that could not be resolved is tried again.
const FAILURE_LASTS: Duration = Duration::from_secs(2);

/// How many lookups of one upstream may be under way.
const MAX_LOOKUPS: usize = 8;

/// Finds the addresses of one upstream's names.
///
/// The system's resolver blocks a thread for as long as it likes, 10 s and more with a dead name server, whoever has
/// given up waiting. One lookup per announce would soon hold all threads, with more lookups queued than ever end.
pub(super) struct Resolver {
    usual: Mutex<Option<(Instant, Lookup)>>,
    places: Arc<Semaphore>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, String>>>;

impl Resolver {
    pub(super) fn new() -> Self {
        Self { usual: Mutex::new(None), places: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    /// The addresses of the host that is asked for at every announce, in the order in which they are to be tried.
    /// All announces share a lookup, and for a while its result.
    pub(super) async fn usual(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        let lookup = {
            let mut usual = self.usual.lock();
            match &*usual {
                Some((start, lookup)) if start.elapsed() < lasts(lookup.peek()) => lookup.clone(),
                _ => usual.insert((Instant::now(), self.lookup(url))).1.clone(),
            }
        };
        lookup.await
    }

    /// The same for a host that is named once, in a redirect.
    pub(super) async fn once(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        self.lookup(url).await
    }

    fn lookup(&self, url: &Url) -> Lookup {
        let port = url.port_or_known_default().unwrap_or(80);
        let known = |ip: IpAddr| Ok(vec![SocketAddr::new(ip, port)]);
        let name = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => return ready(known(ip.into())).boxed().shared(),
            Some(Host::Ipv6(ip)) => return ready(known(ip.into())).boxed().shared(),
            None => return ready(Err("there is none".to_owned())).boxed().shared(),
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return ready(Err("too many lookups are under way".to_owned())).boxed().shared();
        };
        // A task of its own keeps the place until the thread is free, and not just until nobody waits.
        let lookup = tokio::spawn(async move {
            let _place = place;
            let found = tokio::net::lookup_host((name, port)).await.map_err(|error| error.to_string())?;
            Ok(in_turn(found.collect()))
        });
        async { lookup.await.unwrap_or_else(|error| Err(error.to_string())) }.boxed().shared()
    }
}

/// From its start. A lookup under way is not started anew.
fn lasts(lookup: Option<&Result<Vec<SocketAddr>, String>>) -> Duration {
    match lookup {
        Some(Err(_)) => FAILURE_LASTS,
        Some(Ok(_)) | None => ADDRESSES_LAST,
    }
}

/// The families in turn, so that a broken one costs little.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv4);
    let (a, b): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv4() == preferred);
    let turns = 0..a.len().max(b.len());
    turns.flat_map(|turn| [a.get(turn), b.get(turn)]).flatten().copied().take(MAX_ADDRESSES).collect()
}

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

/// How far a reply has been read.
#[derive(Debug)]
enum Reply {
    /// The head is incomplete.
    Head {
        /// What there is of it. No line feed before `searched` ends it.
        bytes: Vec<u8>,
        searched: usize,
        /// The length of interim replies before it.
        interim: usize,
    },
    /// The head is complete.
    Body {
        /// The head and what was read with it; `taken` of it is handed on.
        bytes: Vec<u8>,
        taken: usize,
        /// What `Content-Length` says is still to be read from the socket.
        missing: Option<u64>,
    },
}

impl Default for Reply {
    fn default() -> Self {
        Self::Head { bytes: Vec::new(), searched: 0, interim: 0 }
    }
}

impl Reply {
    fn in_head(&self) -> bool {
        matches!(self, Self::Head { .. })
    }

    /// Takes in what was read while the head was incomplete. No bytes mean the end of the connection.
    fn head_bytes(&mut self, chunk: &[u8]) -> Result<(), StreamError> {
        let Self::Head { bytes, searched, interim } = self else { return Ok(()) };
        if chunk.is_empty() && !bytes.is_empty() {
            return Err(StreamError::Truncated);
        }
        bytes.extend_from_slice(chunk);
        let missing = loop {
            // awc says best what is wrong with something that is no HTTP; the end of the connection it sees as well.
            if chunk.is_empty() || !may_be_http(bytes) {
                break None;
            }
            let Some(length) = head_length(bytes, searched) else {
                if *interim + bytes.len() > MAX_HEAD {
                    return Err(StreamError::HeadTooLarge);
                }
                return Ok(());
            };
            if *interim + length > MAX_HEAD {
                return Err(StreamError::HeadTooLarge);
            }
            match mend(bytes.get_mut(..length).unwrap_or_default()) {
                Head::Interim => {
                    bytes.drain(..length);
                    *interim += length;
                    *searched = 0;
                }
                Head::Final { content_length } => {
                    let read = u64::try_from(bytes.len() - length).unwrap_or(u64::MAX);
                    break content_length.map(|length| length.saturating_sub(read));
                }
            }
        };
        *self = Self::Body { bytes: std::mem::take(bytes), taken: 0, missing };
        Ok(())
    }

    /// Hands on some of what was read with the head. False when there is nothing left of it.
    fn take(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Self::Body { bytes, taken, .. } = self else { return false };
        let rest = bytes.get(*taken..).unwrap_or_default();
        let part = rest.get(..buf.remaining().min(MAX_READ)).unwrap_or(rest);
        buf.put_slice(part);
        *taken += part.len();
        !part.is_empty()
    }

    /// Takes note of so many bytes read after the head. None mean the end of the connection.
    fn body_bytes(&mut self, read: usize) -> Result<(), StreamError> {
        if let Self::Body { missing: Some(missing), .. } = self {
            if read == 0 && *missing > 0 {
                return Err(StreamError::Truncated);
            }
            *missing = missing.saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

/// Whether the first bytes are, or may become, a status line.
fn may_be_http(bytes: &[u8]) -> bool {
    let line = status_line(bytes);
    HTTP_1.iter().zip(line).all(|(a, b)| a == b)
}

const HTTP_1: &[u8] = b"HTTP/1.";

/// Empty lines before the status line are passed over, as awc does.
fn status_line(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
    bytes.get(blank..).unwrap_or_default()
}

/// Where the head ends: behind the empty line. Remembers how far it looked.
fn head_length(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    let blank = bytes.len() - status_line(bytes).len();
    let mut at = blank.max(*searched);
    while let Some(feed) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        let line = at + feed + 1;
        match bytes.get(line..)? {
            [b'\n', ..] => return Some(line + 1),
            [b'\r', b'\n', ..] => return Some(line + 2),
            // The byte that decides is not here yet: this line feed is looked at again.
            [] | [b'\r'] => {
                *searched = at + feed;
                return None;
            }
            _ => at = line,
        }
    }
    *searched = bytes.len();
    None
}

/// What a complete head announces.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// An interim reply, which another one follows.
    Interim,
    /// The reply, and how long its body will be when that says `Content-Length`.
    Final { content_length: Option<u64> },
}

/// Reads a complete head as far as the length of the body depends on it, and makes it HTTP/1.0 when the end of the
/// connection is the end of the body. What it does not understand it leaves as it is, for awc to refuse.
fn mend(head: &mut [u8]) -> Head {
    const UNTOUCHED: Head = Head::Final { content_length: None };
    let blank = head.len() - status_line(head).len();
    let mut lines = head.get(blank..).unwrap_or_default().split(|&byte| byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let Some((&minor, rest)) = line.strip_prefix(HTTP_1).and_then(<[u8]>::split_first) else { return UNTOUCHED };
    let Some(&[b' ', status @ ..]) = rest.first_chunk::<4>() else { return UNTOUCHED };
    match status {
        [a, b, c] if ![a, b, c].iter().all(u8::is_ascii_digit) => return UNTOUCHED,
        // The first was not asked for, and is not HTTP from here on. The others have no body, whatever their head says.
        [b'1', b'0', b'1'] | [b'2' | b'3', b'0', b'4'] => return UNTOUCHED,
        [b'1', ..] => return Head::Interim,
        _ => {}
    }
    let mut content_length = None;
    let mut encoded = false;
    for line in lines {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let name = parts.next().unwrap_or_default().trim_ascii_end();
        let value = parts.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let Some(length) = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()) else {
                return UNTOUCHED;
            };
            content_length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // `identity` is no encoding (RFC 2616, section 3.6), and HTTP/1.0 has none.
            encoded = minor == b'1' && !value.eq_ignore_ascii_case(b"identity");
        }
    }
    match content_length {
        // `Transfer-Encoding` wins (RFC 9112, section 6.3).
        _ if encoded => UNTOUCHED,
        Some(_) => Head::Final { content_length },
        None => {
            if let Some(minor) = head.get_mut(blank + HTTP_1.len()) {
                *minor = b'0';
            }
            UNTOUCHED
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

    /// What awc would read of a reply that arrives in pieces of that many bytes.
    fn shown(reply: &[u8], piece: usize) -> Result<Vec<u8>, StreamError> {
        let mut state = Reply::default();
        for chunk in reply.chunks(piece) {
            if state.in_head() {
                state.head_bytes(chunk)?;
            } else if let Reply::Body { bytes, .. } = &mut state {
                bytes.extend_from_slice(chunk);
                state.body_bytes(chunk.len())?;
            }
        }
        if state.in_head() {
            state.head_bytes(b"")?;
        }
        state.body_bytes(0)?;
        let mut space = [0; MAX_READ];
        let mut buf = ReadBuf::new(&mut space);
        state.take(&mut buf);
        Ok(buf.filled().to_vec())
    }

    #[test]
    fn heads_are_mended_however_they_arrive() {
        for (sent, seen) in [
            ("HTTP/1.1 200 OK\r\nServer: x\r\n\r\nde", "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nde"),
            ("\r\nHTTP/1.1 200\n\nde", "\r\nHTTP/1.0 200\n\nde"),
            ("HTTP/1.1 200 OK\r\n\nde", "HTTP/1.0 200 OK\r\n\nde"),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 404 x\r\n\r\n",
                "HTTP/1.0 404 x\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Identity\r\n\r\n",
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: Identity\r\n\r\n",
            ),
        ] {
            for piece in 1..=sent.len() {
                assert_eq!(shown(sent.as_bytes(), piece), Ok(seen.as_bytes().to_vec()), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn heads_that_are_well_or_beyond_help_pass_unchanged() {
        for reply in [
            "HTTP/1.1 200 OK\r\nCONTENT-length : 2\r\n\r\nde",
            "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nde",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 2 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "d8:intervali1800ee",
            "",
        ] {
            for piece in 1..=reply.len().max(1) {
                assert_eq!(shown(reply.as_bytes(), piece), Ok(reply.as_bytes().to_vec()), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_ends_early_or_never_is_an_error() {
        for reply in ["HTTP/1.1 200 OK\r\nA: b\r\n", "HT", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nde"] {
            for piece in 1..=reply.len() {
                assert_eq!(shown(reply.as_bytes(), piece), Err(StreamError::Truncated), "{reply:?} by {piece}");
            }
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(shown(endless.as_bytes(), HEAD_READ), Err(StreamError::HeadTooLarge));
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 20);
        assert_eq!(shown(interim.as_bytes(), HEAD_READ), Err(StreamError::HeadTooLarge));
    }

    #[test]
    fn address_families_take_turns() {
        let found = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::3]:1", "192.0.2.2:1"];
        let found: Vec<SocketAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(in_turn(found.clone()), [found[0], found[2], found[1], found[4]]);
        assert_eq!(in_turn(Vec::new()), []);
    }

    #[actix_web::test]
    async fn lookups_are_shared_and_bounded() {
        let resolver = Resolver::new();
        let localhost = Url::parse("http://localhost:81").unwrap();
        let first = resolver.usual(&localhost).await.unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback() && address.port() == 81), "{first:?}");
        let places = resolver.places.try_acquire_many(u32::try_from(MAX_LOOKUPS).unwrap()).unwrap();
        assert_eq!(resolver.usual(&localhost).await, Ok(first));
        resolver.once(&localhost).await.unwrap_err();
        resolver.once(&Url::parse("http://[::1]").unwrap()).await.unwrap();
        drop(places);
        resolver.once(&localhost).await.unwrap();
    }

    #[test]
    fn every_host_of_a_uri_is_a_name_for_tls() {
        for host in ["tracker.test", "a_b.example", "xn--e1afmkfd.xn--p1ai", "192.0.2.1", "[2001:db8::1]"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
    }
}
