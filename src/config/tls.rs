//! `--tls-cert` and `--tls-key`. A listener for TLS needs both. Without such a listener, it is an error to give one of
//! these settings.

use std::fmt;
use std::path::PathBuf;

use ::settings::{Origin, Sources};
use certificate::{CERTIFICATE, Certificate, KEY, NotACertificate};

use super::error::ConfigError;
use super::file;
use super::settings::{TLS_CERT, TLS_KEY};
use crate::frontend::listen::{Listen, Transport};

/// The certificate for our own listeners, and its files.
#[derive(Debug)]
pub struct Tls {
    /// The files, to be read again when they have changed.
    pub files: TlsFiles,
    /// The certificate and the key that the files hold.
    pub certificate: Certificate,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    certificate: (Origin, PathBuf),
    key: (Origin, PathBuf),
}

/// Reads the certificate for the TLS listeners. `None` if no listener is for TLS.
pub(super) fn given<'a>(
    sources: &Sources<'_>,
    mut listen: impl Iterator<Item = &'a Listen>,
) -> Result<Option<Tls>, ConfigError> {
    let listener = listen.find(|listen| listen.purpose.transport == Transport::Tls);
    let (certificate, key) = (TLS_CERT.given(sources)?, TLS_KEY.given(sources)?);
    let missing = match (listener, certificate, key) {
        (None, None, None) => return Ok(None),
        (None, Some(needless), _) | (None, None, Some(needless)) => {
            return Err(needless.refuse(
                "tls:// before an address of -l/--listen (LISTEN_ADDR) or --admin-listen (ADMIN_LISTEN_ADDR) beside it, such as \
                 tls://:443",
            ).into());
        }
        (Some(_), Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate: (certificate.origin, certificate.value), key: (key.origin, key.value) };
            let certificate = files.read()?;
            return Ok(Some(Tls { files, certificate }));
        }
        (Some(listener), None, None) => (listener, "--tls-cert (TLS_CERT_FILE) and --tls-key (TLS_KEY_FILE)"),
        (Some(listener), None, Some(_)) => (listener, "--tls-cert (TLS_CERT_FILE) beside --tls-key"),
        (Some(listener), Some(_), None) => (listener, "--tls-key (TLS_KEY_FILE) beside --tls-cert"),
    };
    let (listener, expected) = missing;
    Err(ConfigError::Usage(format!("{listener} has no certificate or no key, expected {expected}")))
}

impl TlsFiles {
    /// Makes a value for the files at these paths. An error about these files names `origin`.
    pub(super) fn new(origin: Origin, certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate: (origin, certificate), key: (origin, key) }
    }

    /// Reads and checks the files.
    pub fn read(&self) -> Result<Certificate, ConfigError> {
        let read = |(origin, path): &(Origin, PathBuf), expected| {
            let unreadable = |error| ConfigError::Unreadable { origin: *origin, path: path.clone(), error, expected };
            file::read(path).map_err(unreadable)
        };
        let chain = read(&self.certificate, CERTIFICATE)?;
        let key = read(&self.key, KEY)?;
        Certificate::from_pem(&chain, &key).map_err(|wrong| {
            let path = match wrong {
                NotACertificate::Chain(_) => &self.certificate.1,
                NotACertificate::Key(_) => &self.key.1,
            };
            ConfigError::File { path: path.clone(), line: None, problem: wrong.to_string() }
        })
    }
}

impl fmt::Display for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.certificate.1.display(), self.key.1.display())
    }
}
