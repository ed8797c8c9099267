//! The connector under awc: dials, makes tunnels through proxies, and performs TLS handshakes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::http::Uri;
use futures::future::LocalBoxFuture;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stream::{Counted, UpstreamStream};
use super::stream_error::StreamError;
use crate::forward::error::is_shortage;
use crate::forward::proxy::{Proxy, Target, TunnelError};

tokio::task_local! {
    /// The route of the request that this task sends.
    static ROUTE: ConnectRoute;
}

/// How to connect for one request.
#[derive(Clone, Default)]
pub(in super::super) struct ConnectRoute {
    /// When to give up this address. `None` if only the deadline of the whole exchange applies.
    pub(in super::super) connect_by: Option<Instant>,
    /// TLS settings, for https.
    pub(in super::super) tls: Option<Arc<ClientConfig>>,
    /// The proxy to dial, and the target that the proxy must connect us to.
    pub(in super::super) tunnel: Option<(Arc<Proxy>, Target)>,
    /// The scheme and host to put before the path, because a proxy needs a whole URL.
    pub(in super::super) absolute: Option<String>,
}

/// Runs an exchange whose connection takes this route.
pub(in super::super) async fn with_route<F: Future>(route: ConnectRoute, exchange: F) -> F::Output {
    ROUTE.scope(route, exchange).await
}

/// Connects for awc, to the address that awc got with the request.
#[derive(Clone)]
pub(super) struct UpstreamConnector;

impl Service<ConnectInfo<Uri>> for UpstreamConnector {
    type Response = Connection<Uri, UpstreamStream>;
    // The error is never `InvalidInput`, because awc panics at that error.
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        Box::pin(async move {
            let address = info.addrs().next().ok_or(ConnectError::Unresolved)?;
            let ConnectRoute { connect_by, tls, tunnel, absolute } =
                ROUTE.try_with(ConnectRoute::clone).unwrap_or_default();
            let tcp = match connect_by {
                Some(by) => timeout_at(by, dial(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                None => dial(address).await,
            };
            let mut tcp = Counted::new(tcp.map_err(ConnectError::Io)?);
            if let Some((proxy, target)) = tunnel {
                let tunnel = proxy.tunnel(&mut tcp, &target).await;
                tunnel.map_err(|error| ConnectError::Io(tunnel_error(&proxy, error)))?;
            }
            let stream = match tls {
                None => UpstreamStream::plain(tcp, absolute.as_deref()),
                Some(tls) => UpstreamStream::tls(handshake(tls, info.hostname(), tcp).await.map_err(ConnectError::Io)?),
            };
            Ok(Connection::new(info.request().clone(), stream))
        })
    }
}

/// Connects over TCP. An error before the first packet counts as a failure of this host.
async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let local = |error: io::Error| io::Error::from(StreamError::Local(error.to_string()));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(local)?;
    socket.set_nonblocking(true).map_err(local)?;
    // Otherwise the handshake and the request, both small, would wait for each other's ACK.
    socket.set_tcp_nodelay(true).map_err(local)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        // On loopback, a refusal comes at once: nothing listens at the address. That is no failure of this host.
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

fn tunnel_error(proxy: &Proxy, error: TunnelError) -> io::Error {
    let what = match error {
        // This error comes from our stream, which has read too much.
        TunnelError::Io(error) if StreamError::find(&error).is_some() => return error,
        TunnelError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        error => error.to_string(),
    };
    StreamError::Proxy(proxy.describe(what)).into()
}

/// Returns the name that the server's certificate must contain, taken from the host of a URI.
pub(in super::super) fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_of_a_uri_is_a_name_for_tls() {
        for host in ["tracker.test", "a_b.example", "xn--e1afmkfd.xn--p1ai", "192.0.2.1", "[2001:db8::1]"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
    }
}
