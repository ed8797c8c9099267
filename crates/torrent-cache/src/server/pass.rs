//! Passes requests to the upstream and their replies to the client, uncached.

use std::sync::Arc;

use actix_http::StatusCode;
use actix_http::body::BoxBody;

use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::failure::RequestFailure;
use super::reply::{BodyChunk, BodyChunks, CacheReply, HeadBody, Served, body, copy_headers, reply};
use crate::metrics::{ByteSource, RequestOutcome};
use crate::upstream::{AskMethod, FetchBody, FetchError, FetchReply};

/// Passes a request to the upstream, with its conditions and its range.
pub(super) async fn pass(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
) -> Result<Served, RequestFailure> {
    let method = if request.is_head { AskMethod::Head } else { AskMethod::Get };
    let upstream = request.ask(context, at, method, &request.headers).await?;
    Ok(passed(context, request, at, upstream))
}

/// Replies with the upstream's reply. The upstream was asked with the client's method.
pub(super) fn passed(
    context: &CacheContext,
    request: &ClientRequest,
    at: &UpstreamPath,
    upstream: FetchReply,
) -> Served {
    let reply = if request.is_head { head_reply(&upstream) } else { passed_reply(context, at, upstream) };
    Served { reply, outcome: RequestOutcome::Passed }
}

/// Copies the upstream's reply to HEAD.
pub(super) fn head_reply(upstream: &FetchReply) -> CacheReply {
    let mut reply = reply(status_of(upstream.status), BoxBody::new(HeadBody(upstream.content_length())));
    copy_headers(&upstream.headers, reply.headers_mut());
    reply
}

/// Copies the upstream's reply to GET. Its body is passed on as it arrives.
pub(super) fn passed_reply(context: &CacheContext, at: &UpstreamPath, upstream: FetchReply) -> CacheReply {
    let length = upstream.content_length();
    reply_of(context, at, upstream.status, &upstream.headers, upstream.body, length)
}

/// Makes a reply with this body and with the status and the headers of the upstream's reply.
pub(super) fn reply_of(
    context: &CacheContext,
    at: &UpstreamPath,
    status: http::StatusCode,
    headers: &http::HeaderMap,
    chunks: impl BodyChunks,
    length: Option<u64>,
) -> CacheReply {
    let status = status_of(status);
    let body = if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        BoxBody::new(HeadBody(None))
    } else {
        let what = format!("{} of {}", at.path.split('?').next().unwrap_or_default(), at.origin);
        body(chunks, length, context.metrics.sent(ByteSource::Upstream), what)
    };
    let mut reply = reply(status, body);
    copy_headers(headers, reply.headers_mut());
    reply
}

fn status_of(status: http::StatusCode) -> StatusCode {
    StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::BAD_GATEWAY)
}

impl BodyChunks for FetchBody {
    type Fault = FetchError;

    async fn next(&mut self) -> Result<Option<BodyChunk>, FetchError> {
        Ok(self.chunk().await?.map(BodyChunk::Bytes))
    }
}
