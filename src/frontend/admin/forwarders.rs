//! `/forwarders`: the state of each upstream tracker, as JSON.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::{foreign_host, is_host_known};
use crate::frontend::context::Context;
use crate::tracker::ForwarderStatus;

pub(super) async fn forwarders(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let forwarders = context.tracker.forwarder_status();
    let forwarders: Vec<_> = forwarders.into_iter().map(json).collect();
    let waits = &context.metrics.waits;
    let waits = json!({
        "saved": waits.saved.get(),
        "done": waits.done.get(),
        "enough": waits.enough.get(),
        "deadline": waits.deadline.get(),
    });
    let body = format!("{:#}\n", json!({ "forwarders": forwarders, "waits": waits }));
    HttpResponse::Ok().content_type("application/json").body(body)
}

pub(super) fn json(status: ForwarderStatus) -> Value {
    json!({
        "name": status.name,
        "protocol": status.protocol,
        "state": status.state,
        "state_for_seconds": seconds(status.state_for),
        "next_probe_in_seconds": status.next_probe_in.map(seconds),
        "exchanges_in_flight": status.in_flight,
        "exchanges_waiting": status.waiting,
        "sessions": status.sessions,
        "lists": status.lists,
        "exchanges": status.exchanges,
        "mean_latency_seconds": status.mean_latency.map(|latency| latency.as_secs_f64()),
        "last_error": status.last_error.map(|error| json!({ "text": error.text, "seconds_ago": seconds(error.ago) })),
    })
}

/// The seconds, rounded to a tenth.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
