//! Opens the connections of the HTTP client: TCP, and TLS for https.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower_service::Service;
use url::{Host, Url};

use super::dial::{Dialler, HostLookup, before};
use super::error::FetchFault;
use super::origin::{UpstreamOrigin, UpstreamScheme, Upstreams};

/// Opens connections for the HTTP client.
#[derive(Clone, Debug)]
pub(crate) struct FetchConnector {
    pub(super) dialler: Arc<Dialler>,
    pub(super) tls: Arc<ClientConfig>,
    /// The time limit for the look-up, the connection and the TLS handshake together.
    pub(super) timeout: Duration,
}

impl FetchConnector {
    /// Makes a connector that opens connections only to this server. The server may have any address.
    pub(crate) fn only(origin: UpstreamOrigin, tls: Arc<ClientConfig>, lookup: HostLookup, timeout: Duration) -> Self {
        let upstreams = Arc::new(Upstreams::new(origin, Vec::new()));
        Self { dialler: Arc::new(Dialler { upstreams, lookup, unlisted: |_| false }), tls, timeout }
    }

    /// Opens a connection.
    pub(crate) async fn open_to(&self, origin: &UpstreamOrigin) -> Result<FetchStream, FetchFault> {
        let deadline = Instant::now() + self.timeout;
        let late = FetchFault::ConnectTimeout(self.timeout);
        before(deadline, self.open(origin, deadline)).await.unwrap_or(Err(late))
    }

    async fn connect(self, to: Uri) -> Result<FetchStream, FetchFault> {
        let url = Url::parse(&to.to_string()).ok();
        let origin = url.as_ref().and_then(UpstreamOrigin::of);
        self.open_to(&origin.ok_or_else(|| FetchFault::Request("its URL has no host".to_owned()))?).await
    }

    async fn open(&self, origin: &UpstreamOrigin, deadline: Instant) -> Result<FetchStream, FetchFault> {
        let stream = self.dialler.dial(origin, deadline).await?;
        // Without `TCP_NODELAY`, a request would wait until the server has acknowledged the previous request.
        stream.set_nodelay(true).map_err(|error| FetchFault::Connect(error.to_string()))?;
        match origin.scheme() {
            UpstreamScheme::Http => Ok(FetchStream(TokioIo::new(Either::Left(stream)))),
            UpstreamScheme::Https => {
                let name = server_name(origin.host())?;
                let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
                let stream = handshake.await.map_err(|error| FetchFault::Tls(error.to_string()))?;
                Ok(FetchStream(TokioIo::new(Either::Right(Box::new(stream)))))
            }
        }
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, FetchFault> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| FetchFault::Tls(error.to_string())),
        Host::Ipv4(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress((*ip).into())),
    }
}

impl Service<Uri> for FetchConnector {
    type Response = FetchStream;
    type Error = FetchFault;
    type Future = Pin<Box<dyn Future<Output = Result<FetchStream, FetchFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FetchFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub(crate) struct FetchStream(TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>);

impl Connection for FetchStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for FetchStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl Write for FetchStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
