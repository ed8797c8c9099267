//! `/dashboard`: a page for operators. It shows the data of `/api/v1/`, and sends no request to another host.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, web};

use super::get;

/// The page and its assets: the path, the type and the content. The charts are drawn by uPlot 1.6.32.
const ASSETS: [(&str, &str, &str); 7] = [
    ("/dashboard", "text/html; charset=utf-8", include_str!("dashboard/page.html")),
    ("/dashboard/page.css", "text/css; charset=utf-8", include_str!("dashboard/page.css")),
    ("/dashboard/page.js", "text/javascript; charset=utf-8", include_str!("dashboard/page.js")),
    ("/dashboard/torrent.js", "text/javascript; charset=utf-8", include_str!("dashboard/torrent.js")),
    ("/dashboard/uplot.css", "text/css; charset=utf-8", include_str!("dashboard/uplot/uPlot.min.css")),
    ("/dashboard/uplot.js", "text/javascript; charset=utf-8", include_str!("dashboard/uplot/uPlot.iife.min.js")),
    ("/dashboard/uplot-license", "text/plain; charset=utf-8", include_str!("dashboard/uplot/LICENSE")),
];

/// What a browser lets the page do: load its own files and send requests to its own tracker. No other page may frame
/// it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    for (path, content_type, content) in ASSETS {
        config.route(path, get().to(move || async move { asset(content_type, content) }));
    }
}

fn asset(content_type: &'static str, content: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(content)
}
