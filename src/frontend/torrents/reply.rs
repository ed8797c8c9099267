//! The replies to calls about shared blobs. Every reply has the boot id in `X-Boot`.

use std::fmt::Display;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};

use super::call::NotACall;
use super::gate::Denial;
use super::request::RefusedCall;
use crate::metrics::TorrentsRefusals;
use crate::torrents::SharedBlobs;

/// The number of seconds after which a client may ask again when a limit is reached.
const RETRY_SECONDS: &str = "5";

/// Begins a reply.
pub(super) fn begin(blobs: &SharedBlobs, status: StatusCode) -> HttpResponseBuilder {
    let mut reply = HttpResponse::build(status);
    reply.insert_header(("x-boot", blobs.boot()));
    reply
}

/// A reply without a body.
pub(super) fn empty(blobs: &SharedBlobs) -> HttpResponse {
    begin(blobs, StatusCode::NO_CONTENT).finish()
}

pub(super) fn with_json(blobs: &SharedBlobs, status: StatusCode, body: &Value) -> HttpResponse {
    begin(blobs, status).content_type("application/json").body(format!("{body}\n"))
}

/// A reply whose body is one sentence about what is wrong.
pub(super) fn problem(blobs: &SharedBlobs, status: StatusCode, sentence: impl Display) -> HttpResponse {
    with_json(blobs, status, &json!({ "error": sentence.to_string() }))
}

/// The reply when the body of a call is wrong.
pub(super) fn bad_body(blobs: &SharedBlobs, sentence: impl Display) -> HttpResponse {
    blobs.metrics.refused.request.inc();
    problem(blobs, StatusCode::BAD_REQUEST, sentence)
}

/// The reply when a limit is reached.
pub(super) fn busy(blobs: &SharedBlobs) -> HttpResponse {
    blobs.metrics.refused.busy.inc();
    let body = json!({ "error": "the tracker holds as many leases, keys, long polls or port checks as it may" });
    begin(blobs, StatusCode::SERVICE_UNAVAILABLE)
        .insert_header((RETRY_AFTER, RETRY_SECONDS))
        .content_type("application/json")
        .body(format!("{body}\n"))
}

/// The reply to a request that is refused before its body is read.
pub(super) fn refused(blobs: &SharedBlobs, refused: RefusedCall) -> HttpResponse {
    counter(&blobs.metrics.refused, refused).inc();
    let (status, sentence) = explain(refused);
    let mut reply = begin(blobs, status);
    match refused {
        RefusedCall::Denied(Denial::Token) => {
            reply.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        RefusedCall::NotACall(NotACall::Method(methods)) => {
            reply.insert_header((ALLOW, methods));
        }
        _ => {}
    }
    let body = json!({ "error": sentence });
    reply.content_type("application/json").body(format!("{body}\n"))
}

fn counter(refusals: &TorrentsRefusals, refused: RefusedCall) -> &Counter {
    match refused {
        RefusedCall::Denied(Denial::Token) => &refusals.token,
        RefusedCall::Denied(Denial::Page | Denial::Unclear | Denial::Network(_)) => &refusals.network,
        RefusedCall::NotACall(_) | RefusedCall::NoLength | RefusedCall::BadLength | RefusedCall::TooLong(_) => {
            &refusals.request
        }
    }
}

fn explain(refused: RefusedCall) -> (StatusCode, String) {
    let (status, sentence) = match refused {
        RefusedCall::NotACall(NotACall::Path) => {
            (StatusCode::NOT_FOUND, "there is no such path; see docs/torrent-cache.md")
        }
        RefusedCall::NotACall(NotACall::Method(methods)) => {
            return (StatusCode::METHOD_NOT_ALLOWED, format!("the path has the methods {methods}"));
        }
        RefusedCall::NotACall(NotACall::Key) => {
            (StatusCode::BAD_REQUEST, "the key is wrong, expected 1 to 255 of the characters A-Z a-z 0-9 . _ + : = -")
        }
        RefusedCall::NotACall(NotACall::Generation) => {
            (StatusCode::BAD_REQUEST, "the generation is wrong, expected the number that the lease came with")
        }
        RefusedCall::NotACall(NotACall::Wait) => {
            (StatusCode::BAD_REQUEST, "wait is wrong, expected a whole number of seconds, at most 30")
        }
        RefusedCall::Denied(Denial::Token) => (
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong, expected the value of TORRENTS_TOKEN in Authorization: Bearer",
        ),
        RefusedCall::Denied(Denial::Page) => (StatusCode::FORBIDDEN, "web pages may not use this"),
        RefusedCall::Denied(Denial::Unclear) => (
            StatusCode::FORBIDDEN,
            "a proxy forwarded the request and does not name the host, or is not trusted; see docs/reverse-proxy.md",
        ),
        RefusedCall::Denied(Denial::Network(ip)) => {
            return (
                StatusCode::FORBIDDEN,
                format!("{ip} may not write: it is in none of the networks that TORRENTS_FROM (--torrents-from) sets"),
            );
        }
        RefusedCall::NoLength => (StatusCode::LENGTH_REQUIRED, "a body needs a Content-Length; chunks are not read"),
        RefusedCall::BadLength => (StatusCode::BAD_REQUEST, "Content-Length is wrong, expected one whole number"),
        RefusedCall::TooLong(most) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too long, expected at most {most} bytes"));
        }
    };
    (status, sentence.to_owned())
}
