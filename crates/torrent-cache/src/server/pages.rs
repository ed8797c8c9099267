//! `/health` and `/metrics`.

use actix_http::StatusCode;

use super::context::CacheContext;
use super::failure::RequestFailure;
use super::reply::{Served, text_reply};
use crate::metrics::{CacheSample, RequestOutcome};
use crate::registry::errors::RegistryErrorKind;
use crate::sharing::TrackerHealth;

/// Replies whether the process serves: 200, or 503 when it is about to end.
pub(super) fn health(context: &CacheContext) -> Served {
    let (status, text) =
        if *context.stop.borrow() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ok\n") };
    let reply = text_reply(status, "text/plain; charset=utf-8", text.to_owned());
    Served { reply, outcome: RequestOutcome::Answered }
}

/// Replies with the metrics in the OpenMetrics format.
pub(super) async fn metrics(context: &CacheContext) -> Result<Served, RequestFailure> {
    let sampled = context.with_store(|store| Ok((store.usage()?, store.evictions()))).await;
    let sample = CacheSample {
        usage: sampled.map(|(usage, _)| usage),
        flights: context.flights.count(),
        grants: context.authorization.kept(),
        evictions: sampled.map_or(0, |(_, evictions)| evictions),
        swarm: context.sharing.as_ref().map(|sharing| sharing.sample()),
        has_tracker: context.sharing.as_ref().is_some_and(|sharing| sharing.tracker_health() == TrackerHealth::Answers),
        seeds: context.sharing.as_ref().map_or(0, |sharing| sharing.seeds()),
    };
    let text = context.metrics.text(&sample);
    let text =
        text.map_err(|_| RequestFailure::refused(RegistryErrorKind::Internal, "the metrics cannot be written"))?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(Served { reply: text_reply(StatusCode::OK, media_type, text), outcome: RequestOutcome::Answered })
}
