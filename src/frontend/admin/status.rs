//! `/api/v1/status`, `/api/v1/history` and `/api/v1/torrents`: how the tracker does, as JSON for programs. Keys are only ever added.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::{foreign_host, forwarders, is_host_known};
use crate::clock;
use crate::frontend::context::Context;
use crate::frontend::history::{FIGURES, STEPS};
use crate::frontend::listen::Audience;
use crate::frontend::settings_in_force::SettingInForce;
use crate::tracker::TorrentOrder;

pub(super) async fn status(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let listeners = context.listening.iter().map(|(address, audience)| {
        let audience = match audience {
            Audience::Clients => "clients",
            Audience::Operators => "operators",
            Audience::Torrents => "torrent-cache",
        };
        json!({ "address": address, "for": audience })
    });
    let totals = context.tracker.totals();
    let [v4, v6] = totals.peers.map(|[seeds, others]| json!({ "seeds": seeds, "others": others }));
    let metrics = &context.metrics;
    let connections = &metrics.connections;
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": context.uptime().as_secs(),
        "is_stopping": context.is_draining(),
        "listeners": listeners.collect::<Vec<_>>(),
        "settings": context.settings.iter().map(setting).collect::<Vec<_>>(),
        "announces": { "answered": metrics.announces_answered.get(), "refused": metrics.announces_refused.get() },
        "scrapes": { "answered": metrics.scrapes_answered.get(), "refused": metrics.scrapes_refused.get() },
        "announces_refused_by_rule": context.access.as_ref().map(|access| refusals(&access.refusals())),
        "torrents": totals.swarms,
        "torrents_evicted": totals.evicted,
        "peers": { "ipv4": v4, "ipv6": v6 },
        "connections": {
            "open": connections.open.get(),
            "limit": context.connections.limits.total,
            "limit_per_address": context.connections.limits.per_address,
            "refused_full": connections.refused_full.get(),
            "refused_address": connections.refused_address.get(),
            "shed_full": connections.shed_full.get(),
            "shed_address": connections.shed_address.get(),
            "shed_descriptors": connections.shed_descriptors.get(),
            "shed_memory": connections.shed_memory.get(),
        },
        "forwarders": context.tracker.forwarder_status().into_iter().map(forwarders::json).collect::<Vec<_>>(),
        "notices": context.notices(),
    });
    HttpResponse::Ok().content_type("application/json").body(format!("{body:#}\n"))
}

fn setting(SettingInForce { variable, value, origin }: &SettingInForce) -> Value {
    json!({ "variable": variable, "value": value, "from": origin.as_deref().unwrap_or("default") })
}

fn refusals(counts: &[(&str, u64)]) -> Value {
    Value::Object(counts.iter().map(|(rule, count)| ((*rule).to_owned(), json!(count))).collect::<Map<_, _>>())
}

/// The figures of the last hour, or with `?step=60` of the last day.
pub(super) async fn history(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let [hour, day] = STEPS;
    let step = if request.query_string() == format!("step={day}") { day } else { hour };
    let body = json!({
        "step_seconds": step,
        "end": clock::unix_time(),
        "figures": FIGURES,
        "points": context.history.points(step),
    });
    HttpResponse::Ok().content_type("application/json").body(format!("{body}\n"))
}

/// The largest torrents: `?sort=peers`, `seeds` or `active`, and `limit=` up to 100.
pub(super) async fn torrents(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let value = |name: &str| {
        request.query_string().split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)
    };
    let order = match value("sort").map(|(_, order)| order) {
        None | Some("peers") => Some(TorrentOrder::Peers),
        Some("seeds") => Some(TorrentOrder::Seeds),
        Some("active") => Some(TorrentOrder::Active),
        Some(_) => None,
    };
    let limit = value("limit").map_or(Ok(20), |(_, limit)| limit.parse::<usize>());
    let (Some(order), Ok(limit)) = (order, limit) else {
        let expected = "expected /api/v1/torrents?sort=peers|seeds|active&limit=1…100\n";
        return HttpResponse::BadRequest().content_type("text/plain; charset=utf-8").body(expected);
    };
    let torrents = context.tracker.largest_torrents(order, limit).into_iter().map(|(info_hash, counts)| {
        json!({
            "torrent": info_hash.to_string(),
            "complete": counts.complete,
            "incomplete": counts.incomplete,
            "downloaded": counts.downloaded,
        })
    });
    let body = json!({ "torrents": torrents.collect::<Vec<_>>(), "total": context.tracker.totals().swarms });
    HttpResponse::Ok().content_type("application/json").body(format!("{body:#}\n"))
}
