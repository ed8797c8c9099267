//! How results become HTTP responses.

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};

use crate::bittorrent::Refusal;
use crate::frontend::Context;
use crate::wire::announce;

/// A bencoded body. Status 200 for refusals too: clients throw away the bodies of all others, and libtorrent never
/// comes back after some of them.
pub(super) fn bencoded(what: &str, ip: IpAddr, result: Result<Vec<u8>, Refusal>, context: &Context) -> HttpResponse {
    let body = result.unwrap_or_else(|refusal| {
        log::debug!("{what} from {ip} refused: {refusal}");
        announce::encode_refusal(&refusal, context.tracker.policy().interval)
    });
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, HeaderValue::from_static("text/plain")));
    if context.is_draining() {
        response.force_close();
    }
    response.body(body)
}

pub(super) async fn method_not_allowed() -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header((ALLOW, "GET, HEAD"))
        .content_type("text/plain; charset=utf-8")
        .body("Only GET and HEAD are served here.\n")
}
