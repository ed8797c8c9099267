//! The certificate for https.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ::settings::{Given, Is, Origin, Setting, Sources};
use certificate::{Certificate, NotACertificate};

use super::CacheConfigError;
use super::settings::{CERTFILE, PRIVATEKEY};

/// The certificate of our own port, and its files.
#[derive(Debug)]
pub struct PortCertificate {
    /// The files, which SIGHUP reads again.
    pub files: PemFiles,
    /// The certificate and the key that the files hold.
    pub certificate: Certificate,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct PemFiles {
    certificate: PemFile,
    key: PemFile,
}

/// One of the two files.
#[derive(Clone, Debug)]
struct PemFile {
    origin: Origin,
    path: PathBuf,
    is_given: bool,
    expected: &'static str,
}

/// Reads the certificate of our own port. Returns `None` if neither file is given and a default path has no file.
pub(super) fn given(sources: &Sources<'_>) -> Result<Option<PortCertificate>, CacheConfigError> {
    let files =
        PemFiles { certificate: PemFile::given(&CERTFILE, sources)?, key: PemFile::given(&PRIVATEKEY, sources)? };
    let is_default = !files.certificate.is_given && !files.key.is_given;
    if is_default && (!files.certificate.path.exists() || !files.key.path.exists()) {
        return Ok(None);
    }
    let certificate = files.read()?;
    Ok(Some(PortCertificate { files, certificate }))
}

impl PemFiles {
    /// Reads and checks the files. Blocks.
    ///
    /// # Errors
    /// A file cannot be read, or it is wrong. The error names the file.
    pub fn read(&self) -> Result<Certificate, CacheConfigError> {
        let (chain, key) = (self.certificate.read()?, self.key.read()?);
        Certificate::from_pem(&chain, &key).map_err(|wrong| match wrong {
            NotACertificate::Chain(problem) => self.certificate.wrong(problem),
            NotACertificate::Key(problem) => self.key.wrong(problem),
        })
    }
}

impl fmt::Display for PemFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.certificate.path.display(), self.key.path.display())
    }
}

impl PemFile {
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
        read_file(&self.path).map_err(|error| self.wrong(format!("it cannot be read ({error})")))
    }

    fn wrong(&self, problem: String) -> CacheConfigError {
        CacheConfigError::File { origin: self.origin, path: self.path.clone(), problem, expected: self.expected }
    }
}

/// Reads a regular file. Any other file is an error, because reading a pipe could block.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    std::fs::read(path)
}
