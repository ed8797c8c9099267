//! The file with our own logins: Docker's config.json.

use std::fmt;
use std::path::PathBuf;

use ::settings::{Origin, Sources};
use serde_json::{Map, Value};

use super::CacheConfigError;
use super::settings::REGISTRY_AUTH_FILE;
use super::tls::read_file;

/// The file of `REGISTRY_AUTH_FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthFile {
    pub(super) origin: Origin,
    pub(super) path: PathBuf,
}

/// Returns the checked file, if one is given.
pub(super) fn given(sources: &Sources<'_>) -> Result<Option<AuthFile>, CacheConfigError> {
    let Some(given) = REGISTRY_AUTH_FILE.given(sources)? else { return Ok(None) };
    let file = AuthFile { origin: given.origin, path: given.value };
    file.check()?;
    Ok(Some(file))
}

impl AuthFile {
    /// Checks that the file can be read and is a JSON object. Blocks.
    ///
    /// # Errors
    /// The file is missing or wrong. The error contains no secret.
    pub fn check(&self) -> Result<(), CacheConfigError> {
        let wrong = |problem| CacheConfigError::File {
            origin: self.origin,
            path: self.path.clone(),
            problem,
            expected: REGISTRY_AUTH_FILE.expected,
        };
        let text = read_file(&self.path).map_err(|error| wrong(format!("it cannot be read ({error})")))?;
        let json = serde_json::from_slice::<Map<String, Value>>(&text);
        json.map(|_| ()).map_err(|error| wrong(format!("it is no JSON object (line {})", error.line())))
    }
}

impl fmt::Display for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
