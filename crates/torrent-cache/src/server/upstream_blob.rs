//! Fetches a blob from its upstream for a flight, with the credentials of one client.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_RANGE;
use tokio::time::Instant;

use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::upstream_fault::UpstreamFault;
use crate::authorization::{Permission, Speaker, UpstreamDenial};
use crate::content::ContentName;
use crate::digest::Digest;
use crate::flight::{BlobBody, BlobSource, FlightFault, LandedContent, OpenedBody};
use crate::registry::range::content_range;
use crate::upstream::{
    Ask, AskHeaders, AskMethod, FetchBody, FetchError, FetchFault, FetchReply, Redirects, UpstreamOrigin,
};

/// A blob of an upstream, for one client.
#[derive(Clone)]
pub(super) struct UpstreamBlob(Rc<UpstreamBlobInner>);

struct UpstreamBlobInner {
    context: Arc<CacheContext>,
    at: UpstreamPath,
    name: ContentName,
    /// The name of the blob, for the log.
    what: String,
    headers: AskHeaders,
    speaker: Speaker,
    /// Whether the upstream has begun to send the blob to this client.
    is_opened: Cell<bool>,
    /// Bytes that the upstream has sent.
    received: Rc<Cell<u64>>,
    begun: Instant,
    /// A body that was opened but not read.
    unread: Cell<Option<OpenedBody<UpstreamBody>>>,
}

impl UpstreamBlob {
    pub(super) fn new(
        context: &Arc<CacheContext>,
        at: &UpstreamPath,
        name: ContentName,
        what: String,
        request: &ClientRequest,
    ) -> Self {
        Self(Rc::new(UpstreamBlobInner {
            context: Arc::clone(context),
            at: at.clone(),
            name,
            what,
            headers: request.headers.clone().unconditional(),
            speaker: request.speaker.clone(),
            is_opened: Cell::new(false),
            received: Rc::default(),
            begun: Instant::now(),
            unread: Cell::default(),
        }))
    }

    /// Whether the upstream has begun to send the blob for this client's credentials, so this client may have the
    /// reply. The authorisation is kept only once the blob is verified.
    pub(super) fn is_opened(&self) -> bool {
        self.0.is_opened.get()
    }

    /// Returns the name of the blob, for the log.
    pub(super) fn what(&self) -> &str {
        &self.0.what
    }
}

impl BlobSource for UpstreamBlob {
    type Body = UpstreamBody;
    type Error = UpstreamFault;

    async fn open(&self, offset: u64) -> Result<OpenedBody<UpstreamBody>, UpstreamFault> {
        let Self(inner) = self;
        if let Some(unread) = inner.unread.take().filter(|unread| unread.offset == offset) {
            return Ok(unread);
        }
        let range = (offset > 0).then(|| HeaderValue::try_from(format!("bytes={offset}-")).ok()).flatten();
        let headers = inner.headers.clone().with_range(range);
        let ask = Ask {
            method: AskMethod::Get,
            origin: &inner.at.origin,
            path_and_query: &inner.at.path,
            headers: &headers,
            redirects: Redirects::Follow,
        };
        inner.context.metrics.fetches.inc();
        let reply = inner.context.authorization.send(ask, &inner.speaker, &inner.at.repository).await?;
        let (offset, length) = place(&reply, offset, &inner.at)?;
        inner.is_opened.set(true);
        let received = Rc::clone(&inner.received);
        let body = UpstreamBody { body: reply.body, context: Arc::clone(&inner.context), received };
        Ok(OpenedBody { offset, length, body })
    }

    fn longest_silence(&self) -> Duration {
        self.0.context.longest_silence
    }

    async fn stored_digest(&self, name: &ContentName) -> Option<Digest> {
        let (at, name) = (self.0.at.clone(), *name);
        self.0.context.with_store(move |store| at.delivered(store, &name)).await.flatten()
    }

    async fn is_admitted(&self, name: &ContentName) -> bool {
        let Self(inner) = self;
        let identity = name.identity();
        let subject = inner.at.subject(&identity, None);
        let permission = inner.context.authorization.admit(&inner.speaker, &subject, &inner.headers).await;
        matches!(permission, Permission::Granted)
    }

    fn take_back(&self, unread: OpenedBody<UpstreamBody>) {
        self.0.unread.set(Some(unread));
    }

    async fn landed(&self, end: Result<LandedContent, &FlightFault<UpstreamFault>>) {
        let Self(inner) = self;
        let seconds = inner.begun.elapsed().as_secs_f64();
        match end {
            Ok(LandedContent { from_peers: None, .. }) | Err(_) if !self.is_opened() => {}
            Ok(LandedContent { digest, length, from_peers }) => {
                let (at, name) = (inner.at.clone(), inner.name);
                inner.context.with_store(move |store| at.put_delivered(store, &name, digest)).await;
                let subject = inner.at.subject(&digest, Some(length));
                if self.is_opened() {
                    inner.context.authorization.granted(&inner.speaker, &subject);
                }
                let (what, origin, received) = (&inner.what, &inner.at.origin, inner.received.get());
                log::info!("{what}: {}", landed_line(length, seconds, from_peers.unwrap_or(0), received, origin));
            }
            Err(fault) => log::warn!("{}: not fetched from {}: {fault}", inner.what, inner.at.origin),
        }
    }
}

/// Writes how long a fetch took, and where its bytes came from. `received` is what the upstream sent. `from_peers` plus
/// `received` can exceed `length`, because a piece can come from both.
fn landed_line(length: u64, seconds: f64, from_peers: u64, received: u64, origin: &UpstreamOrigin) -> String {
    match (from_peers, received) {
        (0, _) if received == length => format!("{length} bytes from {origin} in {seconds:.1} s"),
        (0, _) => format!("{length} bytes in {seconds:.1} s: {received} from {origin}"),
        (_, 0) => format!("{length} bytes from other hosts in {seconds:.1} s"),
        _ => format!("{length} bytes in {seconds:.1} s: {from_peers} from other hosts, {received} from {origin}"),
    }
}

/// Returns where a reply's body begins in the blob, and how long the blob is.
fn place(reply: &FetchReply, asked: u64, at: &UpstreamPath) -> Result<(u64, Option<u64>), UpstreamFault> {
    let wrong = |fault| UpstreamFault::Fetch(FetchError { server: at.origin.to_string(), fault });
    match reply.status.as_u16() {
        200 | 206 if reply.is_encoded() => Err(wrong(FetchFault::Head("the body has a Content-Encoding".to_owned()))),
        200 => Ok((0, reply.content_length())),
        206 if asked > 0 => {
            let range = reply.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            range.and_then(content_range).ok_or_else(|| wrong(FetchFault::Head("no valid Content-Range".to_owned())))
        }
        401 | 403 | 404 => Err(UpstreamFault::Denied(UpstreamDenial::of(reply))),
        _ => Err(UpstreamFault::Fetch(reply.unexpected(&at.origin))),
    }
}

/// The bytes of a blob from the upstream. They are counted as they come.
pub(super) struct UpstreamBody {
    body: FetchBody,
    context: Arc<CacheContext>,
    received: Rc<Cell<u64>>,
}

impl BlobBody for UpstreamBody {
    type Error = UpstreamFault;

    async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamFault> {
        let chunk = self.body.chunk().await?;
        if let Some(bytes) = &chunk {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.context.metrics.received(length);
            self.received.update(|received| received.saturating_add(length));
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_where_a_blob_came_from() {
        let origin = "http://quay.io".parse().unwrap();
        for (length, from_peers, received, text) in [
            (9, 0, 9, "9 bytes from http://quay.io in 3.2 s"),
            (0, 0, 0, "0 bytes from http://quay.io in 3.2 s"),
            (9, 0, 12, "9 bytes in 3.2 s: 12 from http://quay.io"),
            (9, 9, 0, "9 bytes from other hosts in 3.2 s"),
            (9, 5, 4, "9 bytes in 3.2 s: 5 from other hosts, 4 from http://quay.io"),
        ] {
            assert_eq!(landed_line(length, 3.21, from_peers, received, &origin), text);
        }
    }
}
