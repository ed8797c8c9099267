//! `/scrape`: extract, call once, reply.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{client, reply};
use crate::frontend::Context;
use crate::wire::scrape as wire;

pub(super) async fn scrape(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    let ip = client(&request, &context).ip;
    let result = wire::parse(request.query_string().as_bytes());
    if let Ok(scrape) = &result {
        log::debug!("scrape from {ip} of {} torrents", scrape.info_hashes.len());
    }
    let result = result.map(|scrape| wire::encode(&context.tracker.scrape(scrape)));
    match &result {
        Ok(_) => context.metrics.scrapes_answered.inc(),
        Err(_) => context.metrics.scrapes_refused.inc(),
    };
    reply::bencoded("scrape", ip, result, &context)
}
