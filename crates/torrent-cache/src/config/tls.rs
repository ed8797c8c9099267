//! The certificate for https.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::settings::{Given, Is, Origin, Setting, Sources};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::CacheConfigError;
use super::settings::{CERTFILE, PRIVATEKEY};

/// The TLS of our own port. `None` if neither file is given and there is none at a default path.
pub(super) fn given(sources: &Sources<'_>) -> Result<Option<Arc<ServerConfig>>, CacheConfigError> {
    let certificate = CertificateFile::given(&CERTFILE, sources)?;
    let key = CertificateFile::given(&PRIVATEKEY, sources)?;
    let is_default = !certificate.is_given && !key.is_given;
    if is_default && (!certificate.path.exists() || !key.path.exists()) {
        return Ok(None);
    }
    let (certificate_pem, key_pem) = (certificate.read()?, key.read()?);
    let chain = CertificateDer::pem_slice_iter(&certificate_pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| certificate.wrong(&error.to_string()))?;
    if chain.is_empty() {
        return Err(certificate.wrong("it holds no certificate"));
    }
    let der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| key.wrong(&error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| certificate.wrong(&error.to_string()))?.with_no_client_auth();
    let mut config = config.with_single_cert(chain, der).map_err(|error| key.wrong(&error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// One of the two files.
struct CertificateFile {
    origin: Origin,
    path: PathBuf,
    is_given: bool,
    expected: &'static str,
}

impl CertificateFile {
    fn given(setting: &'static Setting<PathBuf, Is>, sources: &Sources<'_>) -> Result<Self, CacheConfigError> {
        let expected = setting.expected;
        Ok(match setting.given(sources)? {
            Some(Given { origin, value, .. }) => Self { origin, path: value, is_given: true, expected },
            None => Self {
                origin: Origin::Variable(setting.variable),
                path: setting.read(sources)?,
                is_given: false,
                expected,
            },
        })
    }

    fn read(&self) -> Result<Vec<u8>, CacheConfigError> {
        read_file(&self.path).map_err(|error| self.wrong(&format!("it cannot be read ({error})")))
    }

    fn wrong(&self, problem: &str) -> CacheConfigError {
        CacheConfigError::File {
            origin: self.origin,
            path: self.path.clone(),
            problem: problem.to_owned(),
            expected: self.expected,
        }
    }
}

/// Reads a regular file. A pipe could block.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    std::fs::read(path)
}
