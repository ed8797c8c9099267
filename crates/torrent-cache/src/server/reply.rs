//! Headers and bodies of replies.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LINK,
};
use actix_http::{Response, StatusCode};
use bytes::Bytes;
use futures::stream::{self, Stream};
use prometheus_client::metrics::counter::Counter;
use tokio::task::yield_now;

use crate::digest::Digest;
use crate::metrics::RequestOutcome;
use crate::registry::range::{BlobPart, entity_tag};

/// The header that names the digest of a registry's content.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The header by which docker knows a registry.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// A reply as actix-http sends it.
pub(super) type CacheReply = Response<BoxBody>;

/// A reply, and what became of the request.
pub(super) struct Served {
    pub(super) reply: CacheReply,
    pub(super) outcome: RequestOutcome,
}

/// Where the bytes of a body come from.
pub(super) trait BodyChunks: 'static {
    /// How that fails.
    type Fault: fmt::Display;

    /// The next bytes; `None` at the end. After an error the reply is cut off, so that the client sees that it is not
    /// complete.
    fn next(&mut self) -> impl Future<Output = Result<Option<BodyChunk>, Self::Fault>>;
}

/// Bytes of a body.
pub(super) enum BodyChunk {
    /// These come next.
    Bytes(Bytes),
    /// So many were sent already, from a file.
    SentFromFile(u64),
}

struct SendingBody<C> {
    chunks: C,
    /// What the client still has to get, if the reply promised a length that actix-http does not watch.
    left: Option<u64>,
    sent: Counter,
    /// What it is, for the log.
    what: String,
}

/// A body of these bytes. Counts what is sent. `length` is absent if it is not known.
pub(super) fn body(chunks: impl BodyChunks, length: Option<u64>, sent: Counter, what: String) -> BoxBody {
    let stream = Box::pin(stream_of(SendingBody { chunks, left: None, sent, what }));
    match length {
        Some(length) => BoxBody::new(SizedStream::new(length, stream)),
        None => BoxBody::new(BodyStream::new(stream)),
    }
}

/// A reply of this length whose body may send parts of files past actix-http. Counts what is sent.
pub(super) fn reply_from_files(
    status: StatusCode,
    chunks: impl BodyChunks,
    length: u64,
    sent: Counter,
    what: String,
) -> CacheReply {
    let stream = Box::pin(stream_of(SendingBody { chunks, left: Some(length), sent, what }));
    let mut reply = reply(status, BoxBody::new(BodyStream::new(stream)));
    reply.head_mut().no_chunking(true);
    reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    reply
}

fn stream_of<C: BodyChunks>(sending: SendingBody<C>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        match sending.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some(sending))),
            Err(fault) => {
                log::warn!("{}: the reply is cut off: {fault}", sending.what);
                // actix-http sends what it has when a body is not ready, and drops it after an error. The client should
                // see the beginning of a reply, not a connection that ends without one.
                yield_now().await;
                Some((Err(io::Error::other(fault)), None))
            }
        }
    })
}

impl<C: BodyChunks> SendingBody<C> {
    /// The next bytes that actix-http has to send. The error says why the reply is cut off.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let chunk = self.chunks.next().await.map_err(|fault| fault.to_string())?;
            let length = match &chunk {
                None if self.left.unwrap_or_default() > 0 => return Err("it ended early".to_owned()),
                None => return Ok(None),
                Some(BodyChunk::Bytes(bytes)) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                Some(BodyChunk::SentFromFile(length)) => *length,
            };
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(length).ok_or("it is too long")?;
            }
            self.sent.inc_by(length);
            if let Some(BodyChunk::Bytes(bytes)) = chunk {
                return Ok(Some(bytes));
            }
        }
    }
}

/// The body of a reply to HEAD: none, with the length that it would have.
pub(super) struct HeadBody(pub(super) Option<u64>);

impl MessageBody for HeadBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0.map_or(BodySize::None, BodySize::Sized)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// A reply with this body.
pub(super) fn reply(status: StatusCode, body: BoxBody) -> CacheReply {
    Response::with_body(status, body)
}

/// A reply with this text.
pub(super) fn text_reply(status: StatusCode, media_type: &'static str, text: String) -> CacheReply {
    let mut reply = reply(status, BoxBody::new(text));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// 304: the client has the content of this digest.
pub(super) fn not_modified(digest: &Digest) -> Served {
    let mut reply = reply(StatusCode::NOT_MODIFIED, BoxBody::new(HeadBody(None)));
    describe(reply.headers_mut(), digest, None);
    Served { reply, outcome: RequestOutcome::NotModified }
}

/// Says what the content is. Without a media type, none is told.
pub(super) fn describe(headers: &mut HeaderMap, digest: &Digest, media_type: Option<&str>) {
    put(headers, ETAG, &entity_tag(digest));
    put(headers, DOCKER_CONTENT_DIGEST, &digest.to_string());
    describe_api(headers);
    if let Some(media_type) = media_type {
        put(headers, CONTENT_TYPE, media_type);
    }
}

/// Says that this is a registry.
pub(super) fn describe_api(headers: &mut HeaderMap) {
    put(headers, API_VERSION, "registry/2.0");
}

/// Takes back what only registries say.
pub(super) fn describe_no_registry(headers: &mut HeaderMap) {
    headers.remove(DOCKER_CONTENT_DIGEST);
    headers.remove(API_VERSION);
}

/// Says which part of a blob this is, or that there can be parts.
pub(super) fn describe_part(headers: &mut HeaderMap, part: Option<&BlobPart>) {
    put(headers, ACCEPT_RANGES, "bytes");
    if let Some(part) = part {
        put(headers, CONTENT_RANGE, &part.to_string());
    }
}

/// Says each `Link` as the client has to ask for it.
pub(super) fn rewrite_links(headers: &mut HeaderMap, rewrite: impl Fn(&str) -> String) {
    let links: Vec<_> = headers.get_all(LINK).filter_map(|link| Some(rewrite(link.to_str().ok()?))).collect();
    headers.remove(LINK);
    for link in links {
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.append(LINK, link);
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Copies the headers of an upstream's reply. Its length is that of the body.
pub(super) fn copy_headers(from: &http::HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value)
            && name != CONTENT_LENGTH
        {
            to.append(name, value);
        }
    }
}
