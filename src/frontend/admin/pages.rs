//! The pages for browsers.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};

use super::{OverTls, is_host_known};
use crate::frontend::context::Context;

/// The icon shows two joined peers. It was drawn for this project.
const FAVICON: &[u8] = include_bytes!("favicon.ico");

pub(super) async fn favicon() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("image/x-icon")
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .body(FAVICON)
}

pub(super) async fn not_found(context: web::Data<Context>) -> HttpResponse {
    // No reply may disclose configured paths.
    let text = if context.routes.is_some() { "There is nothing here.\n" } else { NOT_FOUND };
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body(text)
}

const NOT_FOUND: &str = "There is nothing here but /announce and /scrape.\n";

/// The reply to paths that a listener for operators does not serve, such as announces.
pub(super) async fn not_an_operators_page() -> HttpResponse {
    HttpResponse::NotFound()
        .content_type("text/plain; charset=utf-8")
        .body("There is nothing here: / lists the pages of this listener, which is for operators. Clients announce elsewhere.\n")
}

/// Shows the announce URL to put into a torrent, with the host name under which the visitor opened this page. Also
/// shows the operator's notices, unless operators have listeners of their own.
pub(super) async fn index(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).filter(|host| is_host(host));
    let forwarded = request.headers().get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    let is_tls = request.extensions().get::<OverTls>().is_some();
    let scheme = if forwarded || is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/announce", host.unwrap_or("retracker.local"));
    let notices = if context.has_admin_listener() { String::new() } else { notices(&request, &context) };
    let udp = udp_port(&context).map_or_else(String::new, |port| {
        let name = host.map_or("retracker.local", without_port);
        format!(
            "<p>Or this one, for clients that prefer UDP:</p>\n{}",
            copyable(&format!("udp://{name}:{port}/announce"))
        )
    });
    let page = include_str!("index.html").replace("{announce}", &copyable(&url)).replace("{udp}", &udp);
    let mut reply = html(&page, &notices);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(FRONT_PAGE_POLICY));
    reply
}

/// The front page may also load its script.
const FRONT_PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self'; \
                                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Returns a URL as HTML, with a button that copies it. The page's script shows the button, which does nothing without
/// the script.
fn copyable(url: &str) -> String {
    format!(
        "<div class=\"copyable\"><code class=\"url\">{url}</code>\n\
         <button type=\"button\" hidden>Copy</button> <span role=\"status\"></span></div>\n"
    )
}

pub(super) async fn copy_script() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(include_str!("copy.js"))
}

/// The first port at which clients announce over UDP. `None` if no port is for UDP, or if all UDP ports are for
/// proxies.
fn udp_port(context: &Context) -> Option<&str> {
    context.listening.iter().find_map(|(address, _)| address.strip_prefix("udp://")?.rsplit(':').next())
}

/// A host without its port. The colons of an IPv6 address are inside brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    }
}

/// Lists the pages that a listener for operators serves.
pub(super) async fn overview(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    html(include_str!("overview.html"), &notices(&request, &context))
}

fn notices(request: &HttpRequest, context: &Context) -> String {
    let notices = if is_host_known(request, context) { context.notices() } else { Vec::new() };
    let notices = notices.iter().map(|notice| format!("<p class=\"notice\">{}</p>\n", escaped(notice)));
    notices.collect::<Vec<_>>().concat()
}

fn html(page: &str, notices: &str) -> HttpResponse {
    let page = page
        .replace("{style}", include_str!("style.css"))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{notices}", notices);
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether a text is a host name or an address, with or without a port. It then needs no escaping in HTML.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}
