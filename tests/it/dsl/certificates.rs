//! Certificate authorities that exist for one test, their certificates, and clients that trust them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

/// A certificate authority.
pub(crate) struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

impl TestAuthority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for `localhost`, and returns it with its key.
    pub(crate) fn issue(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Returns the TLS configuration of a client that trusts this authority and speaks HTTP/1.1.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_of(&[&TLS13, &TLS12])
    }

    /// Returns the configuration of a client that trusts this authority and has only these versions of TLS.
    pub(crate) fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

/// A certificate and its key, in the files that the settings of a server name.
pub(crate) struct CertificateFiles {
    folder: TempDir,
    pub(crate) authority: TestAuthority,
}

impl CertificateFiles {
    pub(crate) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: TestAuthority::new() };
        files.renew();
        files
    }

    /// Writes another certificate of the same authority, and returns it.
    pub(crate) fn renew(&self) -> CertificateDer<'static> {
        let (certificate, key) = self.authority.issue();
        std::fs::write(self.chain(), certificate.pem() + &self.authority.pem()).unwrap();
        std::fs::write(self.key(), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the file with the certificate and the authority's certificate.
    pub(crate) fn chain(&self) -> PathBuf {
        self.folder().join("fullchain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder().join("privkey.pem")
    }
}
