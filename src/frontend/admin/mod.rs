//! The front page for people who use a client, and the operator's pages: metrics, health, forwarders and notices.

mod chihaya;
mod dashboard;
mod explain;
mod exposition;
mod forwarders;
mod limits;
mod pages;
mod status;
mod torrent;

use std::sync::Arc;

use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HOST};
use actix_web::{HttpRequest, HttpResponse, Route, guard, web};

use crate::frontend::context::Context;
use crate::frontend::listen::Audience;
use crate::frontend::torrents;

/// Marks, in a request's extensions, that the request came over TLS.
#[derive(Clone, Copy, Debug)]
pub struct OverTls;

/// Adds all routes except announces and scrapes. The operator's pages exist only if metrics are switched on. If
/// operators have listeners of their own, only those listeners serve these pages.
pub fn routes(context: &Arc<Context>, audience: Audience, config: &mut web::ServiceConfig) {
    config.app_data(web::Data::from(Arc::clone(context))).route("/favicon.ico", get().to(pages::favicon));
    match audience {
        Audience::Torrents => {
            config.default_service(web::to(torrents::serve));
            return;
        }
        Audience::Clients => {
            if context.torrents.is_some() {
                torrents::routes(config);
            }
            config
                .route("/", get().to(pages::index))
                .route("/copy.js", get().to(pages::copy_script))
                .default_service(web::to(pages::not_found));
        }
        Audience::Operators => {
            config.route("/", get().to(pages::overview)).default_service(web::to(pages::not_an_operators_page));
        }
    }
    if audience == Audience::Clients && context.has_admin_listener() {
        return;
    }
    config.route("/health", get().to(health)).route("/ready", get().to(ready)).route("/check", get().to(check));
    if let Some(pages) = context.chihaya.as_ref().filter(|_| audience == Audience::Operators) {
        chihaya::routes(pages, config);
    }
    if context.registry.is_some() {
        dashboard::routes(config);
        config
            .route("/metrics", get().to(metrics))
            .route("/forwarders", get().to(forwarders::forwarders))
            .route("/explain", get().to(explain::explain))
            .route("/api/v1/status", get().to(status::status))
            .route("/api/v1/history", get().to(status::history))
            .route("/api/v1/torrents", get().to(status::torrents))
            .route("/api/v1/torrents/{hash}", get().to(torrent::torrent));
    }
}

/// A route for GET and HEAD.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Whether the operator's pages may be served under the name in the Host header: a name that the operator listed, or
/// that a stranger cannot make resolve to this tracker.
fn is_host_known(request: &HttpRequest, context: &Context) -> bool {
    request.headers().get_all(HOST).all(|host| context.hosts.has(host.as_bytes()))
}

fn foreign_host() -> HttpResponse {
    HttpResponse::Forbidden().content_type("text/plain; charset=utf-8").body(
        "This page is not served under this host name, because otherwise any web page could read it. Use the tracker's \
         address, or ask the operator to add the name to ALLOWED_HOSTS (--allowed-hosts).\n",
    )
}

/// Answers 200 while serving and 503 after a stop signal. The body shows a fault of the access rules, or that the
/// instance does not hear the others. The status stays 200: otherwise all instances would leave the balancer together.
async fn health(context: web::Data<Context>) -> HttpResponse {
    let (mut response, text) = if context.is_draining() {
        (HttpResponse::ServiceUnavailable(), "draining\n")
    } else {
        (HttpResponse::Ok(), "ok\n")
    };
    let notices = context.access.as_ref().and_then(|access| access.notice()).into_iter().chain(context.alone_notice());
    let text = notices.fold(text.to_owned(), |text, notice| format!("{text}{notice}\n"));
    response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8")).body(text)
}

/// Answers 503 after a stop signal, and until the instance knows what the other instances know.
async fn ready(context: web::Data<Context>) -> HttpResponse {
    readiness(&context, "ready\n")
}

/// Answers as `/ready` does, but with the path and the body of Chihaya. Load balancers that are set up for Chihaya
/// request this path.
async fn check(context: web::Data<Context>) -> HttpResponse {
    readiness(&context, "STILL-ALIVE")
}

fn readiness(context: &Context, yes: &'static str) -> HttpResponse {
    let (mut response, text) = if context.is_draining() {
        (HttpResponse::ServiceUnavailable(), "draining\n")
    } else if context.is_ready() {
        (HttpResponse::Ok(), yes)
    } else {
        (HttpResponse::ServiceUnavailable(), "warming up\n")
    };
    response.content_type("text/plain; charset=utf-8").body(text)
}

/// Shows the metrics in the classic text format, or in OpenMetrics if the client prefers it.
async fn metrics(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let accept = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let format = exposition::Format::negotiate(accept);
    match context.registry.as_ref().map(|registry| exposition::encode(registry, format)) {
        Some(Ok(text)) => HttpResponse::Ok().insert_header((CONTENT_TYPE, format.content_type())).body(text),
        Some(Err(error)) => {
            log::error!("cannot encode /metrics: {error}");
            HttpResponse::InternalServerError().finish()
        }
        None => HttpResponse::NotFound().finish(),
    }
}
