//! Requests with our own credentials.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};
use moka::future::Cache;
use tokio::time::Instant;

use super::challenge::{Challenge, challenge};
use super::helper::CredentialHelpers;
use super::login::{RegistryLogin, read_login};
use super::token::get_token;
use crate::upstream::{Ask, FetchClient, FetchError, FetchFault, FetchReply, UpstreamOrigin};

/// The most upstreams and repositories for which something is remembered.
const MAX_REMEMBERED: u64 = 10_000;

/// How long a login from the file is used before the file is read again.
const LOGIN_LIFETIME: Duration = Duration::from_mins(1);

/// How long a failure is kept, so that many requests at once do not each repeat the attempt.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);

/// How long a failure to read a login is kept. This is longer than a helper may take. Otherwise a helper that hangs
/// would run all the time.
const LOGIN_FAILURE_LIFETIME: Duration = Duration::from_secs(30);

/// A value or an error, and the time until which it counts.
#[derive(Clone)]
struct Remembered<T> {
    value: Result<Option<T>, FetchError>,
    until: Instant,
}

impl<T> Remembered<T> {
    fn new(value: Result<Option<(T, Duration)>, FetchError>, failure_lifetime: Duration) -> Self {
        let lifetime = match &value {
            Ok(Some((_, lifetime))) => *lifetime,
            Ok(None) => LOGIN_LIFETIME,
            Err(_) => failure_lifetime,
        };
        Self { value: value.map(|value| value.map(|(value, _)| value)), until: Instant::now() + lifetime }
    }

    fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }
}

/// The credentials of `REGISTRY_AUTH_FILE`. For each upstream and repository, one request gets the login or the token,
/// and the other requests wait for the result.
pub(super) struct OwnCredentials {
    client: FetchClient,
    file: PathBuf,
    helpers: CredentialHelpers,
    logins: Cache<UpstreamOrigin, Remembered<RegistryLogin>>,
    /// The value of `Authorization` for an upstream's repository.
    values: Cache<(UpstreamOrigin, String), Remembered<HeaderValue>>,
}

impl OwnCredentials {
    pub(super) fn new(client: FetchClient, file: PathBuf) -> Self {
        let helpers = CredentialHelpers::new();
        Self { client, file, helpers, logins: Cache::new(MAX_REMEMBERED), values: Cache::new(MAX_REMEMBERED) }
    }

    /// Forgets the logins of the file and their tokens.
    pub(super) fn forget(&self) {
        self.logins.invalidate_all();
        self.values.invalidate_all();
    }

    /// Sends a request with the credentials that the upstream wants. The 401 to a repository's first request names
    /// them.
    pub(super) async fn send(&self, ask: &Ask<'_>, repository: &str) -> Result<FetchReply, FetchError> {
        let key = (ask.origin.clone(), repository.to_owned());
        let known = self.values.get(&key).await.filter(|known| !known.is_over());
        let known = known.and_then(|known| known.value.ok().flatten());
        let reply = self.send_with(ask, known.clone()).await?;
        if reply.status != 401 {
            return Ok(reply);
        }
        match self.answer(key, &reply.headers, known.as_ref()).await? {
            Some(value) => {
                let reply = self.send_with(ask, Some(value)).await?;
                if reply.status == 401 {
                    log::warn!("{} refuses the credentials of {} for {repository}", ask.origin, self.file.display());
                }
                Ok(reply)
            }
            None => Ok(reply),
        }
    }

    async fn send_with(&self, ask: &Ask<'_>, value: Option<HeaderValue>) -> Result<FetchReply, FetchError> {
        let headers = ask.headers.clone().with_authorization(value);
        self.client.send(Ask { headers: &headers, ..ask.clone() }).await
    }

    /// Returns the value of `Authorization` that this challenge asks for; `None` if we have no login that fits.
    /// `refused` is the value that the upstream refused with this challenge.
    async fn answer(
        &self,
        key: (UpstreamOrigin, String),
        headers: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, FetchError> {
        let Some(challenge) = challenge(headers) else { return Ok(None) };
        let (origin, repository) = key.clone();
        let fetch = async { Remembered::new(self.fetch(&origin, &repository, &challenge).await, FAILURE_LIFETIME) };
        let is_useless = |known: &Remembered<HeaderValue>| {
            let is_refused = refused.is_some() && matches!(&known.value, Ok(value) if value.as_ref() == refused);
            known.is_over() || is_refused
        };
        self.values.entry(key).or_insert_with_if(fetch, is_useless).await.into_value().value
    }

    async fn fetch(
        &self,
        origin: &UpstreamOrigin,
        repository: &str,
        challenge: &Challenge,
    ) -> Result<Option<(HeaderValue, Duration)>, FetchError> {
        let Some(login) = self.login(origin).await? else { return Ok(None) };
        match (challenge, login) {
            (Challenge::Bearer { realm, service }, login) => {
                let service = (realm.as_str(), service.as_deref());
                let token = get_token(&self.client, origin, repository, service, &login).await?;
                Ok(Some((token.value, token.lifetime)))
            }
            (Challenge::Basic, RegistryLogin::Password(value)) => Ok(Some((value, LOGIN_LIFETIME))),
            (Challenge::Basic, RegistryLogin::Identity(_)) => Ok(None),
        }
    }

    async fn login(&self, origin: &UpstreamOrigin) -> Result<Option<RegistryLogin>, FetchError> {
        let read = async {
            let read = read_login(&self.file, origin, &self.helpers).await;
            let failed = |what| FetchError { server: origin.to_string(), fault: FetchFault::Credentials(what) };
            let read = read.map(|login| login.map(|login| (login, LOGIN_LIFETIME))).map_err(failed);
            Remembered::new(read, LOGIN_FAILURE_LIFETIME)
        };
        let entry = self.logins.entry_by_ref(origin).or_insert_with_if(read, Remembered::is_over).await;
        entry.into_value().value
    }
}

impl fmt::Debug for OwnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCredentials").field("file", &self.file).finish_non_exhaustive()
    }
}
