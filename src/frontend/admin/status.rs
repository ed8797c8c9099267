//! `/api/v1/status`, `/api/v1/history` and `/api/v1/torrents`: the state of the tracker, as JSON for programs. No key
//! is ever removed or renamed.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::{foreign_host, forwarders, is_host_known, limits};
use crate::clock;
use crate::frontend::context::Context;
use crate::frontend::history::{FIGURES, History, QUANTILES, STEPS};
use crate::frontend::listen::Audience;
use crate::frontend::settings_in_force::SettingInForce;
use crate::metrics::{OutcomeMetrics, RequestMetrics};
use crate::tracker::TorrentOrder;
use tracker_protocol::Protocol;

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
    let [v4, v6] = totals.peers.map(roles);
    let zones: Vec<_> = context.tracker.peers_by_zone().collect();
    let all = zones.iter().map(|(_, counts)| counts.map(|count| -count)).chain(totals.peers);
    // The total is read before the zones. A peer that joins a zone in between would make the difference negative.
    let in_no_zone = all.fold([0, 0], |[a, b], [c, d]| [a + c, b + d]).map(|count| count.max(0));
    let metrics = &context.metrics;
    let connections = &metrics.connections;
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": context.uptime().as_secs(),
        "is_stopping": context.is_draining(),
        "listeners": listeners.collect::<Vec<_>>(),
        "settings": context.settings.iter().map(setting).collect::<Vec<_>>(),
        "announces": { "answered": metrics.announces.answered(), "refused": metrics.announces.refused() },
        "scrapes": { "answered": metrics.scrapes.answered(), "refused": metrics.scrapes.refused() },
        "announces_by_protocol": by_protocol(&metrics.announces),
        "scrapes_by_protocol": by_protocol(&metrics.scrapes),
        "announces_per_second": per_second(&context.history, "announces"),
        "scrapes_per_second": per_second(&context.history, "scrapes"),
        "announce_seconds": announce_seconds(&context.history),
        "announces_refused_by_rule": context.access.as_ref().map(|access| counts(access.refusals())),
        "tokens_refused_by_reason": context.access.as_ref().map(|access| counts(access.token_refusals())),
        "torrents": totals.swarms,
        "torrents_evicted": totals.evicted,
        "peers": { "ipv4": v4, "ipv6": v6 },
        "peers_by_zone": zones.iter().map(|(name, counts)| ((*name).to_owned(), roles(*counts))).collect::<Map<_, _>>(),
        "peers_in_no_zone": roles(in_no_zone),
        "peers_evicted": totals.evicted_peers,
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
        "limits": limits::json(&context),
        "notices": context.notices(),
    });
    HttpResponse::Ok().content_type("application/json").body(format!("{body:#}\n"))
}

fn setting(SettingInForce { variable, value, origin }: &SettingInForce) -> Value {
    json!({ "variable": variable, "value": value, "from": origin.as_deref().unwrap_or("default") })
}

fn counts(counts: impl IntoIterator<Item = (&'static str, u64)>) -> Value {
    counts.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
}

fn roles([seeds, others]: [i64; 2]) -> Value {
    json!({ "seeds": seeds, "others": others })
}

/// Both protocols, with their names in the keys of the JSON and in the names of figures.
const PROTOCOLS: [(&str, Protocol); 2] = [("http", Protocol::Http), ("udp", Protocol::Udp)];

fn by_protocol(requests: &RequestMetrics) -> Value {
    let counts = PROTOCOLS.map(|(name, protocol)| {
        let OutcomeMetrics { answered, refused } = requests.over(protocol);
        (name.to_owned(), json!({ "answered": answered.get(), "refused": refused.get() }))
    });
    counts.into_iter().collect()
}

/// The rates at the latest point of the history; `null` before the first point.
fn per_second(history: &History, requests: &str) -> Option<Value> {
    let rates = PROTOCOLS.map(|(name, _)| {
        let rate = |outcome: &str| Some(rounded(history.latest(&format!("{requests}_{outcome}_{name}"))?.into()));
        Some((name.to_owned(), json!({ "answered": rate("answered")?, "refused": rate("refused")? })))
    });
    rates.into_iter().collect()
}

/// Returns how long the announces of the last minute took, and how many announces there were.
fn announce_seconds(history: &History) -> Value {
    let durations = history.last_minute();
    let quantiles = QUANTILES.map(|(name, share)| (name.to_owned(), json!(durations.quantile(share).map(rounded))));
    [("announces".to_owned(), json!(durations.total()))].into_iter().chain(quantiles).collect()
}

/// The value, rounded to a millionth.
fn rounded(value: f64) -> f64 {
    (value * 1_000_000.0).round() / 1_000_000.0
}

/// Shows the figures of the last hour, or those of the last day if the query is `step=60`.
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

/// Lists the largest torrents. `sort=` is `peers`, `seeds` or `active`, and `limit=` is the length of the list, up to
/// 100.
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
