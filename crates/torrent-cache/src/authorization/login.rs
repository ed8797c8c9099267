//! Reads our own logins from Docker's config.json, and from the credential helpers that this file names.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use http::HeaderValue;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::helper::CredentialHelpers;
use crate::upstream::UpstreamOrigin;

/// The names that config.json can have for Docker Hub. `docker login` writes the first name.
const DOCKER_HUB: [&str; 4] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"];

/// Our login at an upstream.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RegistryLogin {
    /// A name and a password, as the value of a Basic `Authorization` header.
    Password(HeaderValue),
    /// An identity token, in return for which the token service issues tokens (OAuth 2 calls it a refresh token).
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

/// Reads our login at this upstream; `None` if the file has none. Runs the credential helper that the file names. The
/// file is read anew each time, so changes take effect. The error contains no secret.
pub(super) async fn read_login(
    file: &Path,
    origin: &UpstreamOrigin,
    helpers: &CredentialHelpers,
) -> Result<Option<RegistryLogin>, String> {
    let authority = origin.authority();
    let names: &[&str] = if authority == "registry-1.docker.io" { &DOCKER_HUB } else { &[&authority] };
    let path = file.to_owned();
    let text = spawn_blocking(move || fs::read(path)).await.map_err(|error| error.to_string())?;
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    for name in names {
        let wrong = |error: String| format!("{}: {name}: {error}", file.display());
        if let Some(credential) = credential(&text, name, helpers).await.map_err(wrong)? {
            return login(credential).map(Some).ok_or_else(|| format!("{name}: not valid in a header"));
        }
    }
    Ok(None)
}

/// Looks for a login in Docker's order: the helper of this server, the file itself, the helper of all servers.
async fn credential(
    config: &[u8],
    server: &str,
    helpers: &CredentialHelpers,
) -> Result<Option<DockerCredential>, String> {
    let mut config: Map<String, Value> =
        serde_json::from_slice(config).map_err(|error| format!("no JSON object (line {})", error.line()))?;
    // The library does not run the helpers, because it would wait for them without a limit.
    let (each, store) = (config.remove("credHelpers"), config.remove("credsStore"));
    if let Some(program) = each.as_ref().and_then(|each| program(each.get(server))) {
        return helpers.ask(&program, server).await;
    }
    let config = serde_json::to_vec(&config).map_err(|error| error.to_string())?;
    match get_credential_from_reader(config.as_slice(), server) {
        Ok(credential) => Ok(Some(credential)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => match program(store.as_ref()) {
            Some(program) => helpers.ask(&program, server).await,
            None => Ok(None),
        },
        Err(error) => Err(error.to_string()),
    }
}

fn program(helper: Option<&Value>) -> Option<OsString> {
    let name = helper?.as_str().filter(|name| !name.is_empty())?;
    Some(format!("docker-credential-{name}").into())
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(config: &str, origin: &str) -> Result<Option<RegistryLogin>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, config).unwrap();
        read_login(&file, &origin.parse().unwrap(), &CredentialHelpers::new()).await
    }

    #[tokio::test]
    async fn logins_are_found_under_the_names_that_docker_writes() {
        let basic = Ok(Some(RegistryLogin::Password(HeaderValue::from_static("Basic dTpw"))));
        for (config, origin) in [
            (r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#, "docker.io"),
            (r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#, "registry-1.docker.io"),
            (r#"{"auths":{"quay.io":{"auth":"dTpw"}}}"#, "quay.io"),
            (r#"{"auths":{"https://quay.io":{"username":"u","password":"p"}}}"#, "quay.io"),
            (r#"{"auths":{"10.0.0.5:5000":{"auth":"dTpw"}}}"#, "http://10.0.0.5:5000"),
        ] {
            assert_eq!(read(config, origin).await, basic, "{config}");
        }
        let identity = read(r#"{"auths":{"a":{"auth":"dTo=","identitytoken":"t"}}}"#, "a").await;
        assert_eq!(identity, Ok(Some(RegistryLogin::Identity("t".to_owned()))));
        for config in ["{}", r#"{"auths":{}}"#, r#"{"auths":{"quay.io:5000":{"auth":"dTpw"}}}"#] {
            assert_eq!(read(config, "quay.io").await, Ok(None), "{config}");
        }
    }

    #[tokio::test]
    async fn a_wrong_file_is_told_without_its_secrets() {
        for config in ["", "[]", r#"{"auths":{"a":{"auth":"s3cret-"}}}"#, r#"{"credsStore":"no-such-helper-s"}"#] {
            let error = read(config, "a").await.unwrap_err();
            assert!(error.contains("config.json: a: "), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let missing =
            read_login(Path::new("/nowhere/config.json"), &"a".parse().unwrap(), &CredentialHelpers::new()).await;
        assert!(missing.unwrap_err().contains("nowhere"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let identity = RegistryLogin::Identity("s3cret".to_owned());
        assert!(!format!("{identity:?}").contains("s3cret"));
        let password = login(DockerCredential::UsernamePassword("u".to_owned(), "p".to_owned())).unwrap();
        assert!(!format!("{password:?}").contains("dTpw"));
    }
}
