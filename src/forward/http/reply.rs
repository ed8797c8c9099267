//! Reads the reply to an announce.

use std::time::{Duration, SystemTime};

use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::PayloadError;
use awc::http::StatusCode;
use awc::http::header::{self, HeaderMap, HeaderValue, HttpDate, RETRY_AFTER};
use futures::Stream;
use tokio::time::Instant;

use super::awc_client::{body_error, junk};
use crate::forward::body::{self, BodyError, Decoded};
use crate::forward::error::ForwardError;
use crate::forward::proxy::Proxy;
use crate::forward::uri::Secrets;
use tracker_protocol::bencode::BencodeError;
use tracker_protocol::upstream::{self, UpstreamReply, UpstreamReplyError};

/// The longest body that is read, in bytes after inflation.
pub(super) const MAX_BODY: usize = 1024 * 1024;

/// Reads the body of a response. `proxy` is the proxy that the response came through, if any.
pub(super) async fn read<S>(
    mut response: ClientResponse<S>,
    proxy: Option<&Proxy>,
    secrets: &Secrets,
    deadline: Instant,
) -> Result<UpstreamReply, ForwardError>
where
    S: Stream<Item = Result<Bytes, PayloadError>>,
{
    let status = response.status();
    let code = status.as_u16();
    if let Some(proxy) = proxy.filter(|_| status == StatusCode::PROXY_AUTHENTICATION_REQUIRED) {
        return Err(proxy.error("it wants a login (407)"));
    }
    let retry_after = retry_after(status, response.headers());
    let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
    let encoding = encoding.as_ref().map(HeaderValue::as_bytes);
    let raw = response.body().limit(MAX_BODY);
    let raw = if status == StatusCode::OK {
        raw.await.map_err(|error| body_error(error, code))?
    } else {
        // If the body cannot be read, the status is the error. The read has a timeout of its own, because at the
        // caller's timeout the status would be lost.
        let raw = tokio::time::timeout_at(deadline, raw).await;
        raw.ok().and_then(Result::ok).ok_or(ForwardError::Status { code, retry_after })?
    };
    parse(&raw, encoding, status, retry_after, secrets)
}

/// Reads the body of a response that must have status 200, and inflates it.
pub(super) async fn read_document<S>(mut response: ClientResponse<S>) -> Result<Vec<u8>, ForwardError>
where
    S: Stream<Item = Result<Bytes, PayloadError>>,
{
    let status = response.status();
    let code = status.as_u16();
    if status != StatusCode::OK {
        return Err(ForwardError::Status { code, retry_after: retry_after(status, response.headers()) });
    }
    let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
    let raw = response.body().limit(MAX_BODY).await.map_err(|error| body_error(error, code))?;
    match body::decode(encoding.as_ref().map(HeaderValue::as_bytes), &raw, MAX_BODY) {
        Ok(Decoded { bytes, is_complete: true }) => Ok(bytes.into_owned()),
        Ok(_) => Err(ForwardError::Truncated { status: Some(code) }),
        Err(BodyError::TooLarge) => Err(ForwardError::TooLarge { status: Some(code) }),
        Err(BodyError::Junk(what)) => Err(junk(what, Some(code))),
    }
}

fn parse(
    raw: &[u8],
    encoding: Option<&[u8]>,
    status: StatusCode,
    retry_after: Option<Duration>,
    secrets: &Secrets,
) -> Result<UpstreamReply, ForwardError> {
    let code = status.as_u16();
    let decoded = body::decode(encoding, raw, MAX_BODY).map_err(|error| match error {
        _ if status != StatusCode::OK => ForwardError::Status { code, retry_after },
        BodyError::TooLarge => ForwardError::TooLarge { status: Some(code) },
        BodyError::Junk(what) => junk(what, Some(code)),
    });
    let Decoded { bytes: body, is_complete } = decoded?;
    match upstream::parse_reply(&body) {
        Err(UpstreamReplyError::Refused { reason, retry }) => {
            let reason = secrets.redact(&reason);
            Err(ForwardError::Refused { reason, retry, status: Some(code), retry_after })
        }
        _ if status != StatusCode::OK => Err(ForwardError::Status { code, retry_after }),
        Ok(mut reply) => {
            reply.warning = reply.warning.map(|warning| secrets.redact(&warning));
            Ok(reply)
        }
        Err(UpstreamReplyError::NotBencode(_)) if raw.is_empty() => Err(junk("it is empty", Some(code))),
        Err(UpstreamReplyError::NotBencode(_)) if !is_complete => Err(ForwardError::Truncated { status: Some(code) }),
        Err(UpstreamReplyError::NotBencode(BencodeError::EndsEarly)) if !body.trim_ascii().is_empty() => {
            Err(ForwardError::Truncated { status: Some(code) })
        }
        Err(UpstreamReplyError::NotBencode(error)) => Err(junk(error, Some(code))),
        Err(UpstreamReplyError::NotADictionary) => Err(junk("it is not a dictionary", Some(code))),
    }
}

/// Reads `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => SystemTime::from(value.parse::<HttpDate>().ok()?).duration_since(SystemTime::now()).ok(),
    }
}
