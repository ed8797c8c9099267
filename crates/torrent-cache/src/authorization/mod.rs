//! Decides whether a client may have what is in the cache.
//!
//! The upstream decides on each hit. The cache sends HEAD for the same path with the client's credentials, or GET for
//! the first byte if the upstream does not support HEAD. 200 and 307 are a grant. A grant is kept for at most a minute
//! (`kept.rs`). 401, 403 and 404 go to the client with their challenge.
//!
//! For clients in `CLIENT_NETWORKS` that send no credentials, the cache uses those of `REGISTRY_AUTH_FILE` (`own.rs`).
//!
//! Invariants:
//!
//! - Credentials are never logged and never written to disk. `Debug` does not show them. A kept grant holds only a
//!   keyed hash.
//! - A client's credentials go only to the origin that the client asks for.
//! - Our own credentials go only to their upstream, and to the token service that this upstream names. They go over
//!   http only to servers that are listed with http.

mod challenge;
mod helper;
mod kept;
mod login;
mod own;
mod subject;
mod token;
mod token_end;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use ipnet::IpNet;
use tokio::time::Instant;

use self::kept::KeptGrants;
use self::own::OwnCredentials;
use self::token_end::remaining;
use crate::registry::range::content_range;
use crate::upstream::{Ask, AskHeaders, AskMethod, FetchClient, FetchError, FetchReply, Redirects};

pub use self::subject::{AccessSubject, Permission, Speaker, UpstreamDenial};

/// How clients are authorised.
#[derive(Clone, Debug)]
pub struct AuthorizationOptions {
    /// How long a grant is kept, at most.
    pub kept: Duration,
    /// How long public content is still served while the upstream fails: `AUTH_STALE`.
    pub stale: Duration,
    /// The networks of the clients for which we use our own credentials: `CLIENT_NETWORKS`.
    pub client_networks: Vec<IpNet>,
    /// Docker's config.json with our own credentials: `REGISTRY_AUTH_FILE`.
    pub auth_file: Option<PathBuf>,
}

impl Default for AuthorizationOptions {
    fn default() -> Self {
        let loopback = [(IpAddr::from(Ipv4Addr::LOCALHOST), 8), (IpAddr::from(Ipv6Addr::LOCALHOST), 128)];
        Self {
            kept: Duration::from_mins(1),
            stale: Duration::ZERO,
            client_networks: loopback.map(|(ip, length)| IpNet::new_assert(ip, length)).to_vec(),
            auth_file: None,
        }
    }
}

/// Decides whether clients may have what is in the cache, and sends requests with the right credentials.
#[derive(Debug)]
pub struct Authorization {
    client: FetchClient,
    kept: KeptGrants,
    client_networks: Vec<IpNet>,
    own: Option<OwnCredentials>,
}

impl Authorization {
    /// Sets up the authorisation. The error is a sentence for the operator.
    pub fn new(client: FetchClient, options: AuthorizationOptions) -> Result<Self, String> {
        let kept = KeptGrants::new(options.kept, options.stale)?;
        let own = options.auth_file.map(|path| OwnCredentials::new(client.clone(), path));
        Ok(Self { client, kept, client_networks: options.client_networks, own })
    }

    /// Returns whose credentials a client's request has upstream.
    pub fn speaker(&self, headers: &AskHeaders, client: IpAddr) -> Speaker {
        let client = client.to_canonical();
        match headers.authorization() {
            Some(value) => Speaker::Client(value.clone()),
            None if self.own.is_some() && self.client_networks.iter().any(|net| net.contains(&client)) => Speaker::Own,
            None => Speaker::Anonymous,
        }
    }

    /// Whether a client may see the operator's pages, because its address is on this host or in `CLIENT_NETWORKS`.
    pub fn is_of_operator(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.client_networks.iter().any(|net| net.contains(&client))
    }

    /// Returns whether this client may have what is in the cache. `headers` are those of the client's request, because
    /// an upstream gives a manifest only to a client that accepts its type.
    pub async fn admit(&self, speaker: &Speaker, subject: &AccessSubject<'_>, headers: &AskHeaders) -> Permission {
        if self.kept.is_granted(speaker, subject, Instant::now()) {
            return Permission::Granted;
        }
        let answer = self.ask_upstream(speaker, subject, headers).await;
        match answer {
            Ok(None) => {
                self.granted(speaker, subject);
                Permission::Granted
            }
            Ok(Some(denial)) => {
                if *speaker == Speaker::Anonymous {
                    self.kept.is_not_public(subject);
                }
                Permission::Denied(denial)
            }
            Err(error) => self.without_upstream(subject, error),
        }
    }

    /// Decides for this client after the upstream has failed with this error. The client may have the subject if a
    /// grant is kept, or if the subject was public less than `AUTH_STALE` ago.
    pub fn remembered(&self, speaker: &Speaker, subject: &AccessSubject<'_>, error: FetchError) -> Permission {
        if self.kept.is_granted(speaker, subject, Instant::now()) {
            return Permission::Granted;
        }
        self.without_upstream(subject, error)
    }

    /// Forgets our own logins and their tokens. The next request that needs a login reads the file.
    pub fn forget_logins(&self) {
        self.own.iter().for_each(OwnCredentials::forget);
    }

    /// Returns how many grants are kept.
    pub fn kept(&self) -> u64 {
        self.kept.count()
    }

    /// Remembers that an upstream has just served this to this client.
    pub fn granted(&self, speaker: &Speaker, subject: &AccessSubject<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let token_left = match speaker {
            Speaker::Client(value) => remaining(value, now),
            Speaker::Own | Speaker::Anonymous => None,
        };
        self.kept.grant(speaker, subject, token_left, Instant::now());
    }

    /// Sends a request with the speaker's credentials. They replace any `Authorization` in the headers. A token that we
    /// get with our own login is for `repository`.
    pub async fn send(&self, ask: Ask<'_>, speaker: &Speaker, repository: &str) -> Result<FetchReply, FetchError> {
        let with = |value: Option<HeaderValue>| ask.headers.clone().with_authorization(value);
        match (speaker, &self.own) {
            (Speaker::Own, Some(own)) => own.send(&ask, repository).await,
            (Speaker::Client(value), _) => self.client.send(Ask { headers: &with(Some(value.clone())), ..ask }).await,
            _ => self.client.send(Ask { headers: &with(None), ..ask }).await,
        }
    }

    /// Asks the upstream whether the client may have the subject. Returns `None` if it may.
    async fn ask_upstream(
        &self,
        speaker: &Speaker,
        subject: &AccessSubject<'_>,
        headers: &AskHeaders,
    ) -> Result<Option<UpstreamDenial>, FetchError> {
        let mut probe = PermissionProbe::Head;
        let mut reply = self.probe(probe, Redirects::Return, speaker, subject, headers).await?;
        if matches!(reply.status.as_u16(), 405 | 501) {
            probe = PermissionProbe::FirstByte;
            reply = self.probe(probe, Redirects::Return, speaker, subject, headers).await?;
        }
        match reply.status.as_u16() {
            307 => Ok(None),
            401 | 403 | 404 => Ok(Some(UpstreamDenial::of(&reply))),
            // Such a redirect can lead to the blob or to a login page, so it is followed.
            301 | 302 | 303 | 308 => {
                let reply = self.probe(probe, Redirects::Follow, speaker, subject, headers).await?;
                match reply.status.as_u16() {
                    401 | 403 | 404 => Ok(Some(UpstreamDenial::of(&reply))),
                    _ if probe.is_yes(&reply, subject) && !is_page(&reply) => Ok(None),
                    _ => Err(reply.unexpected(subject.origin)),
                }
            }
            _ if probe.is_yes(&reply, subject) => Ok(None),
            _ => Err(reply.unexpected(subject.origin)),
        }
    }

    /// Asks the upstream for the headers of the subject. A body is not read.
    async fn probe(
        &self,
        probe: PermissionProbe,
        redirects: Redirects,
        speaker: &Speaker,
        subject: &AccessSubject<'_>,
        headers: &AskHeaders,
    ) -> Result<FetchReply, FetchError> {
        let (method, range) = match probe {
            PermissionProbe::Head => (AskMethod::Head, None),
            PermissionProbe::FirstByte => (AskMethod::Get, Some(HeaderValue::from_static("bytes=0-0"))),
        };
        let headers = headers.clone().unconditional().with_range(range);
        let ask = Ask { method, origin: subject.origin, path_and_query: subject.path, headers: &headers, redirects };
        self.send(ask, speaker, subject.repository).await
    }

    fn without_upstream(&self, subject: &AccessSubject<'_>, error: FetchError) -> Permission {
        let AccessSubject { repository, digest, .. } = subject;
        match self.kept.was_public(subject, Instant::now()) {
            Some(age) => {
                log::warn!(
                    "{error}; {digest} of {repository} is served, because it was public {} s ago",
                    age.as_secs()
                );
                Permission::Granted
            }
            None => Permission::Unknown(error),
        }
    }
}

/// How the upstream is asked for permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermissionProbe {
    Head,
    /// GET of the first byte, for servers that refuse HEAD.
    FirstByte,
}

impl PermissionProbe {
    /// Whether the reply grants the subject. The status must be a grant. If both the reply and the subject have a
    /// length, the lengths must be equal.
    fn is_yes(self, reply: &FetchReply, subject: &AccessSubject<'_>) -> bool {
        let told = match (self, reply.status.as_u16()) {
            // Some servers send a length of 0 in every reply to HEAD.
            (_, 200) => reply.content_length().filter(|told| *told > 0),
            (Self::FirstByte, 206) => {
                let range = reply.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                range.and_then(content_range).and_then(|(_, length)| length)
            }
            // An empty blob has no first byte, so a server that grants it answers 416.
            (Self::FirstByte, 416) => return subject.length == Some(0),
            _ => return false,
        };
        told.zip(subject.length).is_none_or(|(told, length)| told == length)
    }
}

/// Whether a reply is an HTML page, such as a login page.
fn is_page(reply: &FetchReply) -> bool {
    let media_type = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/html"))
}
