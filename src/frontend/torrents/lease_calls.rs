//! The calls about leases.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{bad_body, busy, empty, problem, with_json};
use crate::frontend::context::Context;
use crate::torrents::{BlobKey, BlobState, Claimed, HeldLease, LEASE_TTL, LeaseHolder, SharedBlobs, StaleLease};

/// What a host tells of itself when it asks for a lease.
#[derive(Debug, Deserialize)]
struct ClaimBody {
    port: NonZeroU16,
    swarm: Option<String>,
    size: Option<u64>,
}

/// How much of the blob the holder of a lease has.
#[derive(Debug, Deserialize)]
struct ProgressBody {
    have: u64,
    size: Option<u64>,
}

pub(super) fn claim(context: &Context, blobs: &SharedBlobs, key: &BlobKey, ip: IpAddr, body: &[u8]) -> HttpResponse {
    let body: ClaimBody = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => {
            return bad_body(
                blobs,
                format_args!("the body is wrong, expected JSON such as {{\"port\": 6881}}: {error}"),
            );
        }
    };
    let Ok(swarm) = body.swarm.map(|swarm| swarm.parse()).transpose() else {
        return bad_body(blobs, "swarm is wrong, expected 40 hexadecimal digits");
    };
    let holder = LeaseHolder { address: context.tracker.zoned(ip), port: body.port, swarm, size: body.size };
    match blobs.claim(key, holder) {
        Ok(Claimed::Granted { generation, .. }) => {
            let body = json!({ "generation": generation, "ttl": LEASE_TTL.as_secs() });
            with_json(blobs, StatusCode::CREATED, &body)
        }
        Ok(Claimed::Held(lease)) => with_json(blobs, StatusCode::CONFLICT, &described(context, ip, Some(&lease))),
        Err(_) => busy(blobs),
    }
}

pub(super) fn renew(blobs: &SharedBlobs, key: &BlobKey, generation: u64, body: &[u8]) -> HttpResponse {
    match serde_json::from_slice(body) {
        Ok(ProgressBody { have, size }) => ended(blobs, blobs.renew(key, generation, have, size)),
        Err(error) => {
            bad_body(blobs, format_args!("the body is wrong, expected JSON such as {{\"have\": 0}}: {error}"))
        }
    }
}

pub(super) fn release(blobs: &SharedBlobs, key: &BlobKey, generation: u64) -> HttpResponse {
    ended(blobs, blobs.release(key, generation))
}

fn ended(blobs: &SharedBlobs, outcome: Result<(), StaleLease>) -> HttpResponse {
    let (status, sentence) = match outcome {
        Ok(()) => return empty(blobs),
        Err(StaleLease::Superseded) => {
            (StatusCode::CONFLICT, "this lease has ended, and another host holds a newer one")
        }
        Err(StaleLease::Ended) => (StatusCode::NOT_FOUND, "this lease has ended, and no host holds one of the blob"),
    };
    blobs.metrics.refused.stale.inc();
    problem(blobs, status, sentence)
}

pub(super) async fn watch(
    context: &Context,
    blobs: &SharedBlobs,
    key: &BlobKey,
    ip: IpAddr,
    wait: Duration,
) -> HttpResponse {
    let zone = context.tracker.zoned(ip).zone;
    let state = blobs.wait(key, zone, ip, wait, |info_hash| context.tracker.has_peers(info_hash)).await;
    let Ok(BlobState { lease, has_metainfo }) = state else { return busy(blobs) };
    if lease.is_none() && !has_metainfo {
        return problem(blobs, StatusCode::NOT_FOUND, "no host holds a lease of this blob, and it has no torrent file");
    }
    let mut body = described(context, ip, lease.as_ref());
    if let Value::Object(body) = &mut body {
        body.insert("torrent".to_owned(), has_metainfo.into());
    }
    with_json(blobs, StatusCode::OK, &body)
}

/// A lease as the host at `asker` sees it. `leader` is the endpoint of the host that holds the lease, or null if the
/// asker cannot reach that host.
fn described(context: &Context, asker: IpAddr, lease: Option<&HeldLease>) -> Value {
    let holder = lease.map(|lease| &lease.holder);
    let leader = holder.and_then(|holder| context.tracker.reachable_at(asker, holder.address, holder.port));
    json!({
        "leader": leader.map(|leader| leader.to_string()),
        "swarm": holder.and_then(|holder| holder.swarm).map(|swarm| swarm.to_string()),
        "have": lease.map_or(0, |lease| lease.have),
        "size": holder.and_then(|holder| holder.size),
    })
}
