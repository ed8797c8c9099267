//! Servers whose replies are scripted by a test, byte by byte.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use trust::Authorities;

use super::{FetchClient, FetchOptions, HostLookup, UpstreamOrigin, Upstreams};

/// The address that the tests count as public. All hosts without this address resolve to 127.0.0.1.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The hosts of the certificate. `cdn.test` has the public address.
const NAMES: [&str; 4] = ["listed.test", "also.test", "cdn.test", "private.test"];

static CERTIFICATE: LazyLock<CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed(NAMES.map(str::to_owned)).unwrap());

/// What a server does with a request, step by step.
pub(crate) enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits until the test notifies the server.
    Wait(Arc<Notify>),
    /// Notifies the test, and then does nothing any more.
    Stall(Arc<Notify>),
    /// Ends the connection. Over TLS, sends `close_notify` first.
    Close,
    /// Ends the connection. Over TLS, sends no `close_notify`, just as if an attacker had cut the connection.
    Drop,
}

/// Makes a script that sends a reply with `Content-Length`. The connection stays open.
pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    vec![Act::Send(format!("{head}{body}").into_bytes())]
}

/// Makes a script that sends a reply to HEAD.
pub(crate) fn head_reply(status: u16, headers: &str) -> Vec<Act> {
    bytes(&format!("HTTP/1.1 {status} x\r\n{headers}\r\n"))
}

/// Makes a script that sends these bytes.
pub(crate) fn bytes(text: &str) -> Vec<Act> {
    vec![Act::Send(text.as_bytes().to_vec())]
}

/// Makes a script that sends these bytes, then ends the connection.
pub(crate) fn bytes_and_close(text: &str) -> Vec<Act> {
    vec![Act::Send(text.as_bytes().to_vec()), Act::Close]
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    /// The connection's number.
    pub(crate) connection: usize,
    /// The request line, the headers and the body. Bytes that are not UTF-8 are replaced.
    pub(crate) text: String,
}

impl SeenRequest {
    /// Returns the method and the path.
    pub(crate) fn target(&self) -> &str {
        self.text.split(" HTTP/").next().unwrap()
    }

    /// Returns the values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.text.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// A server on a port of its own. It ends with the test's runtime.
pub(crate) struct ScriptedServer {
    port: u16,
    seen: mpsc::UnboundedReceiver<SeenRequest>,
}

impl ScriptedServer {
    /// Starts a server that speaks plain HTTP.
    pub(crate) async fn http(script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start(None, script).await
    }

    /// Starts a server that speaks HTTP over TLS. Its certificate has all names of the tests.
    pub(crate) async fn https(script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(CERTIFICATE.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CERTIFICATE.cert.der().clone()], key);
        Self::start(Some(TlsAcceptor::from(Arc::new(config.unwrap()))), script).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&SeenRequest) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, seen) = mpsc::unbounded_channel();
        let script = Arc::new(script);
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, script, sender) = (tls.clone(), Arc::clone(&script), sender.clone());
                tokio::spawn(async move {
                    // An error is ignored, because a test may let its client leave early.
                    let _ = match tls {
                        None => serve(stream, connection, &*script, &sender).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, connection, &*script, &sender).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Self { port, seen }
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the server's origin with this scheme and host.
    pub(crate) fn origin(&self, scheme_and_host: &str) -> UpstreamOrigin {
        format!("{scheme_and_host}:{}", self.port).parse().unwrap()
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) -> SeenRequest {
        self.seen.recv().await.unwrap()
    }

    /// Returns the requests that came since the last call.
    pub(crate) fn seen(&mut self) -> Vec<SeenRequest> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    /// Returns the methods and paths of the requests that came since the last call.
    pub(crate) fn targets(&mut self) -> Vec<String> {
        self.seen().iter().map(|request| request.target().to_owned()).collect()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    script: &(impl Fn(&SeenRequest) -> Vec<Act> + ?Sized),
    seen: &mpsc::UnboundedSender<SeenRequest>,
) -> io::Result<()> {
    loop {
        let request = SeenRequest { connection, text: read_request(&mut stream).await? };
        let acts = script(&request);
        let _ = seen.send(request);
        for act in acts {
            match act {
                Act::Send(bytes) => stream.write_all(&bytes).await?,
                Act::Wait(until) => until.notified().await,
                Act::Stall(there) => {
                    there.notify_one();
                    std::future::pending::<()>().await;
                }
                Act::Close => return stream.shutdown().await,
                Act::Drop => return Ok(()),
            }
            stream.flush().await?;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await?);
    }
    let head = SeenRequest { connection: 0, text: String::from_utf8(text).unwrap() };
    let length = head.header("content-length").first().map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(head.text + &String::from_utf8_lossy(&body))
}

/// Makes a client for these upstreams. The first upstream is the default. The client trusts the certificate of the
/// tests.
pub(crate) fn client(listed: &[&UpstreamOrigin]) -> FetchClient {
    client_with(listed, |_| ())
}

/// Makes the same client, but with other options.
pub(crate) fn client_with(listed: &[&UpstreamOrigin], change: impl FnOnce(&mut FetchOptions)) -> FetchClient {
    let upstreams = Upstreams::new(listed[0].clone(), listed.iter().copied().cloned().collect());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, CERTIFICATE.cert.pem()).unwrap();
    let mut options = FetchOptions::new(Some(&Authorities::read(Path::new(&file)).unwrap())).unwrap();
    options.lookup = lookup(|host| if host == "cdn.test" { PUBLIC } else { Ipv4Addr::LOCALHOST });
    options.unlisted = |ip| ip == PUBLIC;
    change(&mut options);
    FetchClient::new(Arc::new(upstreams), options)
}

/// Makes a look-up in which each name has the one address that `address` returns.
pub(crate) fn lookup(address: impl Fn(&str) -> Ipv4Addr + Send + Sync + 'static) -> HostLookup {
    Arc::new(move |host, port| {
        let found = SocketAddr::new(address(&host).into(), port);
        Box::pin(async move { Ok(vec![found]) })
    })
}
