//! The server's side of TLS.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::ring::{self, Ticketer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::pem::Certificate;

/// The certificate that new connections get.
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentCertificate")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// The server's side of TLS, for all listeners.
pub struct TlsServer {
    current: Arc<CurrentCertificate>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer")
    }
}

impl TlsServer {
    /// Sets up TLS 1.2 and 1.3 with this certificate, for HTTP/1.1.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(certificate: Certificate) -> Result<Self, Error> {
        let current = Arc::new(CurrentCertificate(RwLock::new(certificate.0)));
        let resolver = Arc::clone(&current);
        // The provider is named, because rustls panics if a dependency adds a second provider and none is named.
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // With a ticket, a client's next connection needs no signature, and the server keeps no state. One ticket is
        // enough: the client opens its next connection minutes later.
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Gives new connections the certificate that was read again from its files. If the files could not be read,
    /// nothing changes. The log says what happened.
    pub fn reload(&self, files: &impl fmt::Display, read: Result<Certificate, impl fmt::Display>) {
        match read {
            Ok(certificate) => {
                *self.current.0.write() = certificate.0;
                log::info!("reloaded {files}; new connections get this certificate");
            }
            Err(error) => log::error!("{error}; the certificate does not change"),
        }
    }

    /// Returns the acceptor, which accepts TLS on a connection.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}
