//! A client's request as the handlers see it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use actix_http::header::{HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE};
use actix_http::{HttpMessage as _, Request};

use super::context::CacheContext;
use super::file_sender::FileSender;
use super::own_host::is_of_a_program;
use crate::authorization::{AccessSubject, Speaker};
use crate::content::ContentName;
use crate::digest::Digest;
use crate::ostree::path::ObjectChecksum;
use crate::registry::range::{RequestedRange, none_match_has};
use crate::store::{BlobStore, Delivery};
use crate::upstream::{Ask, AskHeaders, AskMethod, FetchError, FetchReply, Redirects, UpstreamOrigin};

/// A request that reads: GET or HEAD.
pub(super) struct ClientRequest {
    pub(super) is_head: bool,
    pub(super) headers: AskHeaders,
    /// Whose credentials are sent upstream with the request.
    pub(super) speaker: Speaker,
    /// Sends parts of files to the client; `None` if the connection cannot do this.
    pub(super) files: Option<FileSender>,
    range: Option<String>,
    if_range: Option<String>,
    if_none_match: Vec<String>,
}

/// A resource of an upstream.
#[derive(Clone, Debug)]
pub(super) struct UpstreamPath {
    pub(super) origin: UpstreamOrigin,
    /// The repository for which a token is valid; empty if there is no repository, as with OSTree.
    pub(super) repository: String,
    /// The path and the query, as they go upstream.
    pub(super) path: String,
}

impl UpstreamPath {
    /// Returns the key under which the store notes that this upstream has delivered the content of this digest.
    pub(super) fn delivery(&self, digest: Digest) -> Delivery {
        Delivery { upstream: self.origin.to_string(), repository: self.place().to_owned(), digest }
    }

    /// Returns the digest of this content, if this upstream has delivered the content. Blocks.
    pub(super) fn delivered(&self, store: &BlobStore, name: &ContentName) -> io::Result<Option<Digest>> {
        let digest = match name {
            ContentName::Blob(digest) => Some(*digest),
            ContentName::FileObject(checksum) => store.delta(&self.object_key(*checksum))?,
        };
        Ok(match digest {
            Some(digest) if store.is_delivered(&self.delivery(digest))? => Some(digest),
            _ => None,
        })
    }

    /// Notes that this upstream has delivered this content, which has this digest. Blocks.
    pub(super) fn put_delivered(&self, store: &BlobStore, name: &ContentName, digest: Digest) -> io::Result<()> {
        store.put_delivered(&self.delivery(digest))?;
        match name {
            ContentName::Blob(_) => Ok(()),
            ContentName::FileObject(checksum) => store.put_delta(&self.object_key(*checksum), &digest),
        }
    }

    /// Returns the key under which the store has the digest of this object's file. The server is part of the key,
    /// because servers can compress the same object differently.
    fn object_key(&self, checksum: ObjectChecksum) -> String {
        format!("{} {} {}", self.origin, self.place(), checksum.key())
    }

    /// Returns the content that a client wants, as the subject of an authorisation. `digest` identifies the content.
    /// `length` is `None` if it is not known.
    pub(super) fn subject<'a>(&'a self, digest: &'a Digest, length: Option<u64>) -> AccessSubject<'a> {
        AccessSubject { origin: &self.origin, repository: &self.repository, path: &self.path, digest, length }
    }

    /// Returns the repository of a registry, or the folder of an OSTree repository, which begins with a slash.
    /// Deliveries name the folder, because a user who can write to one folder of a server must not thereby read
    /// another.
    pub(super) fn place(&self) -> &str {
        if !self.repository.is_empty() {
            return &self.repository;
        }
        let end = ["/deltas/", "/objects/"].iter().filter_map(|folder| self.path.rfind(folder)).max();
        self.path.get(..end.unwrap_or(self.path.len())).filter(|place| !place.is_empty()).unwrap_or("/")
    }
}

impl ClientRequest {
    pub(super) fn new(context: &CacheContext, request: &Request, is_head: bool) -> Self {
        let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let headers = AskHeaders::from_client(lines);
        let client = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let text = |name: &HeaderName| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        let none_match = request.headers().get_all(IF_NONE_MATCH);
        let speaker = match context.authorization.speaker(&headers, client) {
            Speaker::Own if !is_of_a_program(request) => Speaker::Anonymous,
            speaker => speaker,
        };
        Self {
            is_head,
            speaker,
            headers,
            files: request.conn_data::<FileSender>().cloned(),
            range: text(&RANGE),
            if_range: text(&IF_RANGE),
            if_none_match: none_match.filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect(),
        }
    }

    /// Removes our own credentials, because they are only for repositories of registries.
    pub(super) fn without_own_credentials(mut self) -> Self {
        if self.speaker == Speaker::Own {
            self.speaker = Speaker::Anonymous;
        }
        self
    }

    /// Returns whether `If-None-Match` says that the client has the content of this digest.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.if_none_match.iter().any(|line| none_match_has(line, digest))
    }

    /// Returns which bytes of a blob the client wants. If the request has `If-Range` and no digest is known, these are
    /// all bytes.
    pub(super) fn range(&self, digest: Option<&Digest>) -> RequestedRange {
        let range = self.range.as_deref().map_or(RequestedRange::Whole, RequestedRange::parse);
        match (digest, self.if_range.as_deref()) {
            (Some(digest), header) => range.if_range(header, digest),
            (None, None) => range,
            (None, Some(_)) => RequestedRange::Whole,
        }
    }

    /// Asks upstream with the client's method and these headers.
    pub(super) async fn ask(
        &self,
        context: &CacheContext,
        at: &UpstreamPath,
        method: AskMethod,
        headers: &AskHeaders,
    ) -> Result<FetchReply, FetchError> {
        let (origin, path_and_query) = (&at.origin, at.path.as_str());
        let ask = Ask { method, origin, path_and_query, headers, redirects: Redirects::Follow };
        context.authorization.send(ask, &self.speaker, &at.repository).await
    }
}
