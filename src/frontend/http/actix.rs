//! Announces and scrapes as actix-web hands them over: extract, call once, reply.

use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

use super::answer::{Question, answer};
use super::head::Resource;
use crate::frontend::Context;
use crate::frontend::client_address::Source;

pub(super) async fn announce(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    reply(Resource::Announce, &request, &context).await
}

pub(super) async fn scrape(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    reply(Resource::Scrape, &request, &context).await
}

async fn reply(resource: Resource, request: &HttpRequest, context: &Context) -> HttpResponse {
    let mut body = Vec::new();
    let question = Question {
        resource,
        query: request.query_string().as_bytes(),
        headers: request.headers(),
        source: Source::new(request.peer_addr()),
    };
    if let Some(later) = answer(context, &question, &mut body) {
        body = later.await;
    }
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
