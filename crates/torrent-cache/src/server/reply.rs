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
/// The header by which Docker recognises a registry.
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
    /// Why there are no more bytes.
    type Fault: fmt::Display;

    /// Returns the next bytes; `None` at the end. An error cuts the reply off, so the client sees that the body is not
    /// complete.
    fn next(&mut self) -> impl Future<Output = Result<Option<BodyChunk>, Self::Fault>>;
}

/// Bytes of a body.
pub(super) enum BodyChunk {
    /// The next bytes of the body.
    Bytes(Bytes),
    /// The next bytes were already sent from a file; this is their number.
    SentFromFile(u64),
}

struct SendingBody<C> {
    chunks: C,
    /// The bytes that the client still has to get; `None` if actix-http itself checks the length.
    left: Option<u64>,
    sent: Counter,
    /// The name of the content, for the log.
    what: String,
}

/// Makes a body of these chunks, and counts the bytes that are sent. `length` is `None` if it is not known.
pub(super) fn body(chunks: impl BodyChunks, length: Option<u64>, sent: Counter, what: String) -> BoxBody {
    let stream = Box::pin(stream_of(SendingBody { chunks, left: None, sent, what }));
    match length {
        Some(length) => BoxBody::new(SizedStream::new(length, stream)),
        None => BoxBody::new(BodyStream::new(stream)),
    }
}

/// Makes a reply of this length whose body may send parts of files past actix-http. Counts the bytes that are sent.
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
                // actix-http sends its buffer when a body is pending, and drops the buffer after an error. Being
                // pending once lets the client see the beginning of the reply.
                yield_now().await;
                Some((Err(io::Error::other(fault)), None))
            }
        }
    })
}

impl<C: BodyChunks> SendingBody<C> {
    /// Returns the next bytes that actix-http has to send. The error says why the reply is cut off.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let chunk = self.chunks.next().await.map_err(|fault| fault.to_string())?;
            let length = match &chunk {
                None if self.left.unwrap_or_default() > 0 => return Err("the body ended early".to_owned()),
                None => return Ok(None),
                Some(BodyChunk::Bytes(bytes)) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                Some(BodyChunk::SentFromFile(length)) => *length,
            };
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(length).ok_or("the body is too long")?;
            }
            self.sent.inc_by(length);
            if let Some(BodyChunk::Bytes(bytes)) = chunk {
                return Ok(Some(bytes));
            }
        }
    }
}

/// The empty body of a reply to HEAD, with the length that the body of a GET would have.
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

/// Makes a reply with this body.
pub(super) fn reply(status: StatusCode, body: BoxBody) -> CacheReply {
    Response::with_body(status, body)
}

/// Makes a reply with this text.
pub(super) fn text_reply(status: StatusCode, media_type: &'static str, text: String) -> CacheReply {
    let mut reply = reply(status, BoxBody::new(text));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    reply
}

/// Replies with 304, because the client already has the content of this digest.
pub(super) fn not_modified(digest: &Digest) -> Served {
    let mut reply = reply(StatusCode::NOT_MODIFIED, BoxBody::new(HeadBody(None)));
    describe(reply.headers_mut(), digest, None);
    Served { reply, outcome: RequestOutcome::NotModified }
}

/// Sets the headers that say what the content is. Without a media type, `Content-Type` is not set.
pub(super) fn describe(headers: &mut HeaderMap, digest: &Digest, media_type: Option<&str>) {
    put(headers, ETAG, &entity_tag(digest));
    put(headers, DOCKER_CONTENT_DIGEST, &digest.to_string());
    describe_api(headers);
    if let Some(media_type) = media_type {
        put(headers, CONTENT_TYPE, media_type);
    }
}

/// Sets the header that says that this is a registry.
pub(super) fn describe_api(headers: &mut HeaderMap) {
    put(headers, API_VERSION, "registry/2.0");
}

/// Removes the headers that only registries send.
pub(super) fn describe_no_registry(headers: &mut HeaderMap) {
    headers.remove(DOCKER_CONTENT_DIGEST);
    headers.remove(API_VERSION);
}

/// Sets the headers for ranges: `Accept-Ranges`, and `Content-Range` if this is a part of a blob.
pub(super) fn describe_part(headers: &mut HeaderMap, part: Option<&BlobPart>) {
    put(headers, ACCEPT_RANGES, "bytes");
    if let Some(part) = part {
        put(headers, CONTENT_RANGE, &part.to_string());
    }
}

/// Rewrites the target of each `Link`, so that the client can ask this cache for it.
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

/// Copies the headers of an upstream's reply. `Content-Length` is not copied, because the body sets it.
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
