//! The operators' API of Chihaya v1.0. This tracker serves it only if a Chihaya file configures the tracker.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use tracker_protocol::InfoHash;
use tracker_protocol::query::unescaped;

use super::{foreign_host, get, is_host_known};
use crate::access::{ClientProgram, Full, Registered};
use crate::frontend::chihaya_pages::ChihayaPages;
use crate::frontend::context::Context;

pub(super) fn routes(pages: &ChihayaPages, config: &mut web::ServiceConfig) {
    if let Some(registered) = &pages.registered {
        config
            .app_data(web::Data::from(Arc::clone(registered)))
            .route("/stats", get().to(stats))
            .service(
                web::resource("/torrents/{infohash}")
                    .route(web::get().to(torrent))
                    .route(web::put().to(put_torrent))
                    .route(web::delete().to(delete_torrent)),
            )
            .service(
                web::resource("/clients/{client}")
                    .route(web::get().to(client))
                    .route(web::put().to(put_client))
                    .route(web::delete().to(delete_client)),
            );
    }
}

/// Shows those counters of Chihaya v1.0 that this tracker has. In the query, `flatten` joins the names of nested
/// counters; `pretty` adds white space.
async fn stats(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let [v4, v6] = context.tracker.totals().peers;
    let peers =
        |[seeds, others]: [i64; 2]| json!({ "Peers": { "Current": seeds + others }, "Seeds": { "Current": seeds } });
    let metrics = &context.metrics;
    let (announces, announces_refused) = (metrics.announces.answered(), metrics.announces.refused());
    let (scrapes, scrapes_refused) = (metrics.scrapes.answered(), metrics.scrapes.refused());
    let all = json!({
        "trackerAnnounces": announces,
        "trackerScrapes": scrapes,
        "requestsHandled": announces + scrapes,
        "requestsBad": announces_refused + scrapes_refused,
        "torrentsSize": context.tracker.totals().swarms,
        "peersIPv4": peers(v4),
        "peersIPv6": peers(v6),
    });
    let has = |name: &str| request.query_string().split('&').any(|pair| pair.split('=').next() == Some(name));
    let all = if has("flatten") { flat(all) } else { all };
    let text = if has("pretty") { serde_json::to_string_pretty(&all) } else { serde_json::to_string(&all) };
    HttpResponse::Ok().content_type(JSON).body(text.unwrap_or_default() + "\n")
}

const JSON: &str = "application/json; charset=UTF-8";

fn flat(nested: Value) -> Value {
    fn add(flat: &mut Map<String, Value>, name: String, value: Value) {
        match value {
            Value::Object(inner) => {
                inner.into_iter().for_each(|(key, value)| add(flat, format!("{name}.{key}"), value));
            }
            value => drop(flat.insert(name, value)),
        }
    }
    let Value::Object(outer) = nested else { return nested };
    let mut all = Map::new();
    outer.into_iter().for_each(|(key, value)| add(&mut all, key, value));
    Value::Object(all)
}

/// Shows a torrent that has peers, or that the API has added. Chihaya lists the seeds and leechers; this tracker only
/// counts them.
async fn torrent(request: HttpRequest, context: web::Data<Context>, registered: web::Data<Registered>) -> HttpResponse {
    with_torrent(&request, &context, |hash| {
        let counts = context.tracker.counts(hash);
        if counts.complete + counts.incomplete == 0 && !registered.has_torrent(hash) {
            return missing("torrent does not exist");
        }
        let shown = json!({
            "infohash": hash.to_string(),
            "snatches": counts.downloaded,
            "seeders": counts.complete,
            "leechers": counts.incomplete,
        });
        HttpResponse::Ok().content_type(JSON).body(shown.to_string())
    })
}

async fn put_torrent(
    request: HttpRequest,
    context: web::Data<Context>,
    registered: web::Data<Registered>,
) -> HttpResponse {
    with_torrent(&request, &context, |hash| added(registered.add_torrent(hash)))
}

/// Removes a torrent, and its swarm with all peers.
async fn delete_torrent(
    request: HttpRequest,
    context: web::Data<Context>,
    registered: web::Data<Registered>,
) -> HttpResponse {
    with_torrent(&request, &context, |hash| {
        let (was_added, had_swarm) = (registered.remove_torrent(hash), context.tracker.remove(hash));
        if was_added || had_swarm { HttpResponse::Ok().finish() } else { missing("torrent does not exist") }
    })
}

fn with_torrent(
    request: &HttpRequest,
    context: &Context,
    answer: impl FnOnce(InfoHash) -> HttpResponse,
) -> HttpResponse {
    if !is_host_known(request, context) {
        return foreign_host();
    }
    let hash = last_segment(request).try_into().map(InfoHash);
    hash.map_or_else(|_| wrong("the 20 bytes of an info-hash, percent-escaped"), answer)
}

async fn client(request: HttpRequest, context: web::Data<Context>, registered: web::Data<Registered>) -> HttpResponse {
    with_client(&request, &context, |client| {
        if registered.has_client(client) { HttpResponse::Ok().finish() } else { missing("client is not approved") }
    })
}

async fn put_client(
    request: HttpRequest,
    context: web::Data<Context>,
    registered: web::Data<Registered>,
) -> HttpResponse {
    with_client(&request, &context, |client| added(registered.add_client(client)))
}

async fn delete_client(
    request: HttpRequest,
    context: web::Data<Context>,
    registered: web::Data<Registered>,
) -> HttpResponse {
    with_client(&request, &context, |client| {
        if registered.remove_client(client) { HttpResponse::Ok().finish() } else { missing("client is not approved") }
    })
}

fn with_client(
    request: &HttpRequest,
    context: &Context,
    answer: impl FnOnce(ClientProgram) -> HttpResponse,
) -> HttpResponse {
    if !is_host_known(request, context) {
        return foreign_host();
    }
    let id: Vec<u8> = last_segment(request);
    id.try_into().map_or_else(|_| wrong("the six bytes of a client, such as TR2820"), answer)
}

/// The last segment of the path, unescaped. It is read as bytes: an info-hash is no text, but actix-web would decode it
/// as text.
fn last_segment(request: &HttpRequest) -> Vec<u8> {
    let path = request.uri().path().as_bytes();
    let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    // `+` stands for a space, as in a query.
    let last: Vec<u8> = last.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    unescaped(&last).collect()
}

fn added(result: Result<(), Full>) -> HttpResponse {
    match result {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(Full) => text(StatusCode::INSUFFICIENT_STORAGE, "there is no room for another entry\n"),
    }
}

fn missing(what: &str) -> HttpResponse {
    text(StatusCode::NOT_FOUND, &format!("{what}\n"))
}

fn wrong(expected: &str) -> HttpResponse {
    text(StatusCode::BAD_REQUEST, &format!("the path must end with {expected}\n"))
}

fn text(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text.to_owned())
}
