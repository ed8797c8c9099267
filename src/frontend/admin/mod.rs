//! What is there for people and their machines: metrics, health and the front page.

mod exposition;
mod forwarders;
mod pages;

use std::sync::Arc;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};

use super::{Context, get};

/// `/metrics` and `/forwarders` are there only when metrics are switched on.
pub fn routes(context: &Arc<Context>, config: &mut web::ServiceConfig) {
    config
        .route("/health", get().to(health))
        .route("/favicon.ico", get().to(pages::favicon))
        .route("/", get().to(pages::index))
        .default_service(web::to(pages::not_found));
    if context.registry.is_some() {
        config.route("/metrics", get().to(metrics)).route("/forwarders", get().to(forwarders::forwarders));
    }
}

/// 200 while serving, 503 once the process has been told to stop.
async fn health(context: web::Data<Context>) -> HttpResponse {
    let (mut response, text) = if context.is_draining() {
        (HttpResponse::ServiceUnavailable(), "draining\n")
    } else {
        (HttpResponse::Ok(), "ok\n")
    };
    response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8")).body(text)
}

/// The classic text format, or OpenMetrics for those who ask for it.
async fn metrics(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = exposition::Format::negotiate(accept);
    match context.registry.as_ref().map(|registry| exposition::encode(registry, format)) {
        Some(Ok(text)) => HttpResponse::Ok().insert_header((CONTENT_TYPE, format.content_type())).body(text),
        Some(Err(error)) => {
            log::error!("/metrics could not be written: {error}");
            HttpResponse::InternalServerError().finish()
        }
        None => HttpResponse::NotFound().finish(),
    }
}
