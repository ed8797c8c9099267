//! Decides which authorities a TLS client trusts to sign certificates: those that the operator names, or else those of
//! webpki and of the system.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The authorities in a PEM file that the operator names.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads a PEM file. The error is a sentence for the operator that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |what: &dyn fmt::Display| format!("ca: {} {what}", path.display());
        let unreadable = |error: io::Error| wrong(&format_args!("cannot be read ({error})"));
        // Only a regular file is read, because reading a pipe could block.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(wrong(&"is not a regular file"));
        }
        let pem = std::fs::read(path).map_err(unreadable)?;
        let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| wrong(&format_args!("is not a PEM file ({error})")))?;
        if certificates.is_empty() {
            return Err(wrong(&"holds no certificate, expected a PEM file with `-----BEGIN CERTIFICATE-----`"));
        }
        let authorities = Self { path: path.to_owned(), certificates };
        // The certificates are checked here, so that an unusable certificate is reported before handshakes fail.
        authorities
            .roots()
            .map_err(|error| wrong(&format_args!("holds a certificate that cannot be used ({error})")))?;
        Ok(authorities)
    }

    /// Returns the TLS settings of a client that trusts only these authorities. The client also accepts a server
    /// certificate that is itself in the file. The error is a text of the TLS library.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, String> {
        config(self.roots().map_err(|error| error.to_string())?, &self.certificates)
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        self.certificates.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
        Ok(roots)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Returns the TLS settings of an HTTP/1.1 client that trusts these authorities. The error is a text of the TLS
/// library.
pub fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    config(roots, &[])
}

fn config(roots: RootCertStore, pinned: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    // rustls panics if it has to choose a provider and the dependencies contain two. So this one is named.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let verifier = Verifier { webpki: webpki.map_err(|error| error.to_string())?, pinned: pinned.to_vec() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns the authorities of webpki and those of the system. A company's own authority is usually among the system's.
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` can name other places for the system's certificates.
pub fn default_roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let system = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(system.certs);
    log::debug!("TLS: {added} certificates of the system are trusted, {ignored} cannot be used");
    // A minimal container has no certificates and needs none. So errors are logged only if `SSL_CERT_FILE` or
    // `SSL_CERT_DIR` is set.
    let is_named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|variable| std::env::var_os(variable).is_some());
    for error in system.errors.iter().filter(|_| is_named) {
        log::warn!("TLS: the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}");
    }
    roots
}

/// Verifies certificates as webpki does, and also accepts a server certificate that is in the operator's file. `openssl
/// req -x509` makes one certificate for the authority and the server, which webpki refuses.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // For a certificate in the operator's file, only these two errors are ignored. An expired certificate or a
            // certificate for another name is still refused.
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer))
                if self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
