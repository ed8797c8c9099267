//! A certificate and its key in PEM files.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use thiserror::Error;

/// A certificate with its chain and its key. A key that belongs to another certificate is refused.
#[derive(Clone)]
pub struct Certificate(pub(crate) Arc<CertifiedKey>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is left out, because it is secret.
        f.debug_tuple("Certificate").field(&self.0.cert.len()).finish()
    }
}

/// Why two files are not a certificate and its key. The text says what was found, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotACertificate {
    /// The file of the certificate is wrong.
    #[error("{0}, expected {CERTIFICATE}")]
    Chain(String),
    /// The file of the key is wrong.
    #[error("{0}, expected {KEY}")]
    Key(String),
}

/// What the file of a certificate must contain.
pub const CERTIFICATE: &str =
    "a PEM file that begins with the server's certificate, followed by those of intermediate authorities";
/// What the file of a key must contain.
pub const KEY: &str = "a PEM file with the key of the first certificate, without a passphrase (PKCS#8, PKCS#1 or SEC1)";

impl Certificate {
    /// Reads and checks the content of the two files. They can be the same file.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, NotACertificate> {
        let sections = Sections::read(chain).map_err(NotACertificate::Chain)?;
        if sections.certificates.is_empty() {
            return Err(NotACertificate::Chain(format!("it holds {}", sections.found())));
        }
        let chain = sections.certificates;
        let mut sections = Sections::read(key).map_err(NotACertificate::Key)?;
        let key = match (sections.keys.pop(), sections.keys.len()) {
            (Some(key), 0) => key,
            (None, _) => return Err(NotACertificate::Key(format!("it holds {}", sections.found()))),
            (Some(_), more) => return Err(NotACertificate::Key(format!("it holds {} private keys", more + 1))),
        };
        let key = ring::sign::any_supported_type(&key)
            .map_err(|error| NotACertificate::Key(format!("its key cannot be used ({error})")))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self(Arc::new(certified))),
            Err(Error::InconsistentKeys(_)) => {
                Err(NotACertificate::Key("its key is that of another certificate".into()))
            }
            Err(error) => Err(NotACertificate::Chain(format!("its first certificate cannot be used ({error})"))),
        }
    }
}

/// The certificates and keys in a PEM file.
#[derive(Default)]
struct Sections {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
    has_encrypted_key: bool,
}

impl Sections {
    fn read(pem: &[u8]) -> Result<Self, String> {
        let has = |text: &[u8]| memchr::memmem::find(pem, text).is_some();
        let has_encrypted_key = has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED");
        let mut sections = Self { has_encrypted_key, ..Self::default() };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = match section {
                Ok(section) => section,
                // The reader fails at the headers of an encrypted key, because they are not base64.
                Err(_) if has_encrypted_key => break,
                Err(error) => return Err(format!("it is not a PEM file ({error})")),
            };
            match kind {
                SectionKind::Certificate => sections.certificates.push(der.into()),
                SectionKind::PrivateKey => sections.keys.push(PrivateKeyDer::Pkcs8(der.into())),
                SectionKind::RsaPrivateKey => sections.keys.push(PrivateKeyDer::Pkcs1(der.into())),
                SectionKind::EcPrivateKey => sections.keys.push(PrivateKeyDer::Sec1(der.into())),
                _ => {}
            }
        }
        Ok(sections)
    }

    fn found(&self) -> &'static str {
        match (self.certificates.is_empty(), self.keys.is_empty(), self.has_encrypted_key) {
            (_, true, true) => "a key with a passphrase",
            (true, false, _) => "a private key and no certificate",
            (false, true, _) => "a certificate and no private key",
            _ => "neither a certificate nor a private key",
        }
    }
}
