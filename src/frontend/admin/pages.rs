//! The pages for browsers.

use actix_web::http::header::{CACHE_CONTROL, HOST};
use actix_web::{HttpRequest, HttpResponse, web};

use super::is_host_known;
use crate::frontend::context::Context;

/// Drawn for this project: two peers, joined.
const FAVICON: &[u8] = include_bytes!("favicon.ico");

pub(super) async fn favicon() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("image/x-icon")
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .body(FAVICON)
}

pub(super) async fn not_found() -> HttpResponse {
    HttpResponse::NotFound()
        .content_type("text/plain; charset=utf-8")
        .body("There is nothing here but /announce and /scrape.\n")
}

/// Shows the announce URL to put into a torrent, which has the host name by which the visitor found this page. Also shows
/// current notices for the operator.
pub(super) async fn index(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).filter(|host| is_host(host));
    let forwarded = request.headers().get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    let scheme = if forwarded { "https" } else { "http" };
    let url = format!("{scheme}://{}/announce", host.unwrap_or("retracker.local"));
    let notices = if is_host_known(&request, &context) { context.notices() } else { Vec::new() };
    let notices: Vec<_> =
        notices.iter().map(|notice| format!("<p class=\"notice\">{}</p>\n", escaped(notice))).collect();
    let page = include_str!("index.html")
        .replace("{notices}", &notices.concat())
        .replace("{announce}", &url)
        .replace("{version}", env!("CARGO_PKG_VERSION"));
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page)
}

/// Escapes a text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether a text is a host name or address, with or without a port: no character of it has a meaning in HTML.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}
