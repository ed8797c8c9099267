//! Streams of bytes to a server: over TCP, TLS and Unix sockets.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use trust::{client_config, default_roots};

use super::address::EngineAddress;
use super::error::LinkError;
use super::target::EnginePlace;

/// A stream of any kind.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens a stream to the server at this place. The place must not be [`EnginePlace::Sentinel`], because the primary's
/// address must be known before.
pub(super) async fn open(place: &EnginePlace) -> Result<Box<dyn ByteStream>, LinkError> {
    match place {
        EnginePlace::Tcp(address) => tcp(address).await.map(boxed),
        EnginePlace::Tls(address) => tls(address).await.map(boxed),
        EnginePlace::Unix(path) => UnixStream::connect(path).await.map(boxed).map_err(LinkError::Connect),
        EnginePlace::Sentinel { .. } => Err(LinkError::Reply("the Sentinels name no address")),
    }
}

fn boxed(stream: impl ByteStream + 'static) -> Box<dyn ByteStream> {
    Box::new(stream)
}

async fn tcp(EngineAddress { host, port }: &EngineAddress) -> Result<TcpStream, LinkError> {
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(LinkError::Connect)?;
    // A pipeline may take several packets. The last packet must not wait until the engine acknowledges the first.
    stream.set_nodelay(true).map_err(LinkError::Connect)?;
    Ok(stream)
}

async fn tls(address: &EngineAddress) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LinkError> {
    let wrong = |error: &dyn std::fmt::Display| LinkError::Tls(error.to_string());
    let config = tls_config().map_err(|error| wrong(&error))?;
    let name = ServerName::try_from(address.host.clone()).map_err(|error| wrong(&error))?;
    let stream = tcp(address).await?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error: io::Error| wrong(&error))
}

fn tls_config() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let make = || {
        let mut config = ClientConfig::clone(&*client_config(default_roots())?);
        // The protocol is not HTTP, and Redis does not negotiate a protocol.
        config.alpn_protocols.clear();
        Ok(Arc::new(config))
    };
    CONFIG.get_or_init(make).clone()
}
