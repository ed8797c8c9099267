//! Our own names and passwords: docker's config.json, and the credential helpers that it names.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use http::HeaderValue;

use crate::upstream::UpstreamOrigin;

/// Under which names config.json has Docker Hub. `docker login` writes the first.
const DOCKER_HUB: [&str; 4] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"];

/// What we log in with at an upstream.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RegistryLogin {
    /// As the value of a Basic `Authorization` header.
    Password(HeaderValue),
    /// A token for which the token service gives others (OAuth 2 calls it a refresh token).
    Identity(String),
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Identity(_) => "Identity",
        })
    }
}

/// Reads what we log in with at this upstream; `None` if the file has nothing for it. Blocks, and runs the credential
/// helper if the file names one. The file is read anew each time, so a change counts. The error holds no secret.
pub(super) fn read_login(file: &Path, origin: &UpstreamOrigin) -> Result<Option<RegistryLogin>, String> {
    let authority = origin.authority();
    let names: &[&str] = if authority == "registry-1.docker.io" { &DOCKER_HUB } else { &[&authority] };
    for name in names {
        let reader = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        match get_credential_from_reader(BufReader::new(reader), name) {
            Ok(credential) => {
                return login(credential).map(Some).ok_or_else(|| format!("{name}: not valid in a header"));
            }
            Err(error) if has_nothing(&error) => (),
            Err(error) => return Err(format!("{}: {name}: {}", file.display(), without_output(&error))),
        }
    }
    Ok(None)
}

fn login(credential: DockerCredential) -> Option<RegistryLogin> {
    match credential {
        DockerCredential::IdentityToken(token) => Some(RegistryLogin::Identity(token)),
        DockerCredential::UsernamePassword(name, password) => {
            let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            Some(RegistryLogin::Password(value))
        }
    }
}

/// Helpers say by this text that they know no such registry.
fn has_nothing(error: &CredentialRetrievalError) -> bool {
    match error {
        CredentialRetrievalError::NoCredentialConfigured => true,
        CredentialRetrievalError::HelperFailure { stdout, .. } => stdout.contains("credentials not found"),
        _ => false,
    }
}

/// What a helper printed could hold a secret.
fn without_output(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, .. } => format!("{helper} failed"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str, origin: &str) -> Result<Option<RegistryLogin>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, config).unwrap();
        read_login(&file, &origin.parse().unwrap())
    }

    #[test]
    fn logins_are_found_under_the_names_that_docker_writes() {
        let basic = Ok(Some(RegistryLogin::Password(HeaderValue::from_static("Basic dTpw"))));
        for (config, origin) in [
            (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, "docker.io"),
            (r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#, "registry-1.docker.io"),
            (r#"{"auths":{"quay.io":{"auth":"dTpw"}}}"#, "quay.io"),
            (r#"{"auths":{"https://quay.io":{"username":"u","password":"p"}}}"#, "quay.io"),
            (r#"{"auths":{"10.0.0.5:5000":{"auth":"dTpw"}}}"#, "http://10.0.0.5:5000"),
        ] {
            assert_eq!(read(config, origin), basic, "{config}");
        }
        let identity = read(r#"{"auths":{"a":{"auth":"dTo=","identitytoken":"t"}}}"#, "a");
        assert_eq!(identity, Ok(Some(RegistryLogin::Identity("t".to_owned()))));
        for config in ["{}", r#"{"auths":{}}"#, r#"{"auths":{"quay.io:5000":{"auth":"dTpw"}}}"#] {
            assert_eq!(read(config, "quay.io"), Ok(None), "{config}");
        }
    }

    #[test]
    fn a_wrong_file_is_told_without_its_secrets() {
        for config in ["", "[]", r#"{"auths":{"a":{"auth":"s3cret-"}}}"#, r#"{"credsStore":"no-such-helper-s"}"#] {
            let error = read(config, "a").unwrap_err();
            assert!(error.contains("config.json: a: "), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(read_login(Path::new("/nowhere/config.json"), &"a".parse().unwrap()).unwrap_err().contains("nowhere"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let identity = RegistryLogin::Identity("s3cret".to_owned());
        assert!(!format!("{identity:?}").contains("s3cret"));
        let password = login(DockerCredential::UsernamePassword("u".to_owned(), "p".to_owned())).unwrap();
        assert!(!format!("{password:?}").contains("dTpw"));
    }
}
