//! Whether a client may have what is in the cache.
//!
//! The upstream decides, on each hit: the client's credentials go with HEAD to the same path, or with GET of the first
//! byte if the upstream refuses HEAD. 200 and 307 are a yes. A yes is kept for at most a minute (`kept.rs`). 401, 403 and 404 go to the client with their challenge.
//!
//! Clients that send no credentials can be given those of `REGISTRY_AUTH_FILE`, if their network is trusted (`own.rs`).
//!
//! Invariants:
//!
//! - Credentials are never logged and never on disk. `Debug` does not show them. A kept yes holds a keyed hash only.
//! - A client's credentials go to the origin that they are for, and nowhere else.
//! - Our own credentials go to their upstream, or to the token service that it names, over https. Over http they go
//!   only where http is listed.

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
    /// How long a yes is kept, at most.
    pub kept: Duration,
    /// How long what was public is served while the upstream fails: `AUTH_STALE`.
    pub stale: Duration,
    /// The clients for whom our own credentials speak: `CLIENT_NETWORKS`.
    pub client_networks: Vec<IpNet>,
    /// docker's config.json with our own credentials: `REGISTRY_AUTH_FILE`.
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
    /// The error is a sentence for the operator.
    pub fn new(client: FetchClient, options: AuthorizationOptions) -> Result<Self, String> {
        let kept = KeptGrants::new(options.kept, options.stale)?;
        let own = options.auth_file.map(|path| OwnCredentials::new(client.clone(), path));
        Ok(Self { client, kept, client_networks: options.client_networks, own })
    }

    /// With whose credentials the requests of a client go upstream.
    pub fn speaker(&self, headers: &AskHeaders, client: IpAddr) -> Speaker {
        let client = client.to_canonical();
        match headers.authorization() {
            Some(value) => Speaker::Client(value.clone()),
            None if self.own.is_some() && self.client_networks.iter().any(|net| net.contains(&client)) => Speaker::Own,
            None => Speaker::Anonymous,
        }
    }

    /// Whether a client at this address is one of the operator's: on this host, or in `CLIENT_NETWORKS`.
    pub fn is_of_operator(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.client_networks.iter().any(|net| net.contains(&client))
    }

    /// Whether this client may have what is in the cache. `headers` are those of its request: a manifest is only there
    /// for a client that accepts its type.
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

    /// Whether this client may have what is in the cache, when the upstream has just failed with this error: by a yes
    /// that is kept, or as what was public.
    pub fn remembered(&self, speaker: &Speaker, subject: &AccessSubject<'_>, error: FetchError) -> Permission {
        if self.kept.is_granted(speaker, subject, Instant::now()) {
            return Permission::Granted;
        }
        self.without_upstream(subject, error)
    }

    /// Forgets our own logins and the tokens that we got with them. The next request that needs a login reads the file.
    pub fn forget_logins(&self) {
        self.own.iter().for_each(OwnCredentials::forget);
    }

    /// How many authorisations are kept.
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

    /// Sends a request with these credentials, whatever `Authorization` is in its headers. `repository` is the one that
    /// a token is for.
    pub async fn send(&self, ask: Ask<'_>, speaker: &Speaker, repository: &str) -> Result<FetchReply, FetchError> {
        let with = |value: Option<HeaderValue>| ask.headers.clone().with_authorization(value);
        match (speaker, &self.own) {
            (Speaker::Own, Some(own)) => own.send(&ask, repository).await,
            (Speaker::Client(value), _) => self.client.send(Ask { headers: &with(Some(value.clone())), ..ask }).await,
            _ => self.client.send(Ask { headers: &with(None), ..ask }).await,
        }
    }

    /// `None` is a yes.
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
            // Such a redirect can lead to the blob, or to a page for people to log in.
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

    /// Asks upstream. Nothing is read of a body.
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
                log::warn!("{error}; {digest} of {repository} is served, as it was public {} s ago", age.as_secs());
                Permission::Granted
            }
            None => Permission::Unknown(error),
        }
    }
}

/// How an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermissionProbe {
    Head,
    /// GET of the first byte, for servers that refuse HEAD.
    FirstByte,
}

impl PermissionProbe {
    /// Whether this status means yes, and the reply is about something as long as what is in the cache, as far as both
    /// lengths are known.
    fn is_yes(self, reply: &FetchReply, subject: &AccessSubject<'_>) -> bool {
        let told = match (self, reply.status.as_u16()) {
            // Some servers say 0 to any HEAD.
            (_, 200) => reply.content_length().filter(|told| *told > 0),
            (Self::FirstByte, 206) => {
                let range = reply.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
                range.and_then(content_range).and_then(|(_, length)| length)
            }
            // What is empty has no first byte.
            (Self::FirstByte, 416) => return subject.length == Some(0),
            _ => return false,
        };
        told.zip(subject.length).is_none_or(|(told, length)| told == length)
    }
}

/// Whether a reply is a page for people.
fn is_page(reply: &FetchReply) -> bool {
    let media_type = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/html"))
}
