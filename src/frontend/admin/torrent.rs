//! `/api/v1/torrents/HASH`: one swarm with its peers, and its state at each forwarder, as JSON. No key is ever removed
//! or renamed.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};
use tracker_protocol::{InfoHash, PeerId, Role};

use super::{foreign_host, is_host_known};
use crate::frontend::context::Context;
use crate::tracker::{
    ListUse, ListedPeer, SwarmListing, TorrentAtForwarder, TorrentView, UpstreamPeers, UpstreamTorrent,
};

const EXPECTED: &str = "expected /api/v1/torrents/HASH: the 40 hexadecimal digits of an info-hash, or 64 for v2\n";

pub(super) async fn torrent(
    request: HttpRequest,
    hash: web::Path<String>,
    context: web::Data<Context>,
) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let Ok(info_hash) = hash.parse::<InfoHash>() else {
        return HttpResponse::BadRequest().content_type("text/plain; charset=utf-8").body(EXPECTED);
    };
    let Some(TorrentView { swarm, forwarders }) = context.tracker.torrent(info_hash) else {
        let unknown = format!("No client has announced the torrent {info_hash} here lately.\n");
        return HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body(unknown);
    };
    let body = json!({
        "torrent": info_hash.to_string(),
        "swarm": swarm.as_ref().map(|swarm| listing(swarm, &context)),
        "forwarders": forwarders.iter().map(|at| forwarder(at, None)).collect::<Vec<_>>(),
    });
    HttpResponse::Ok().content_type("application/json").body(format!("{body:#}\n"))
}

fn listing(SwarmListing { counts, peers, more }: &SwarmListing, context: &Context) -> Value {
    json!({
        "complete": counts.complete,
        "incomplete": counts.incomplete,
        "downloaded": counts.downloaded,
        "peers": peers.iter().map(|listed| Value::Object(peer(listed, context))).collect::<Vec<_>>(),
        "not_shown": more,
    })
}

pub(super) fn peer(listed: &ListedPeer, context: &Context) -> Map<String, Value> {
    let ListedPeer { address, zone, role, is_second, is_claimed, silent_for, is_expired, id } = listed;
    object([
        ("address", json!(address.to_string())),
        ("zone", json!(zone.map(|zone| context.tracker.zone_name(zone)))),
        ("role", json!(role_name(*role))),
        ("client", json!(id.map(client))),
        ("silent_for_seconds", json!(silent_for.as_secs())),
        ("is_expired", json!(is_expired)),
        ("is_second_address", json!(is_second)),
        ("is_claimed", json!(is_claimed)),
    ])
}

/// The beginning of a peer id, which names the client program (BEP 20). The rest would identify one client.
pub(super) fn client(PeerId(id): PeerId) -> String {
    id.iter().take(8).copied().flat_map(std::ascii::escape_default).map(char::from).collect()
}

/// One torrent at a forwarder. `list_use` is what one client gets of the forwarder's list.
pub(super) fn forwarder(at: &TorrentAtForwarder, list_use: Option<&ListUse>) -> Value {
    json!({
        "name": at.forwarder.name,
        "state": at.forwarder.state,
        "is_hidden": at.is_hidden,
        "last_error": at.forwarder.last_error.as_ref().map(|error| &error.text),
        "torrent": at.torrent.as_ref().map(|torrent| upstream_torrent(torrent, list_use)),
    })
}

fn upstream_torrent(torrent: &UpstreamTorrent, list_use: Option<&ListUse>) -> Value {
    let list = torrent.list.as_ref().map(|list| {
        let mut about = list_of_peers(list);
        about.insert("good_for_seconds".to_owned(), json!(torrent.list_good_for.as_secs()));
        about.extend(list_use.map(uses).into_iter().flatten());
        about
    });
    json!({
        "clients": torrent.clients,
        "next_announce_in_seconds": torrent.due_in.map(|due| due.as_secs()),
        "exchanges_under_way": torrent.under_way,
        "list": list,
    })
}

fn list_of_peers(list: &UpstreamPeers) -> Map<String, Value> {
    let dropped = list.dropped;
    object([
        ("complete", json!(list.complete)),
        ("incomplete", json!(list.incomplete)),
        ("peers", json!(list.v4.iter().count() + list.v6.iter().count())),
        ("left_out_at_arrival", json!(dropped.total())),
        (
            "left_out",
            json!({
                "own_clients": dropped.own,
                "repeats": dropped.repeats,
                "unusable": dropped.unusable,
                "too_many": dropped.excess,
            }),
        ),
    ])
}

fn uses(list_use: &ListUse) -> Map<String, Value> {
    let ListUse { useful, unreachable, itself, local, other_family } = list_use;
    object([
        ("useful", json!(useful)),
        ("unreachable", json!(unreachable)),
        ("itself", json!(itself)),
        ("local_already", json!(local)),
        ("other_family", json!(other_family)),
    ])
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Seed => "seed",
        Role::PartialSeed => "partial seed",
        Role::Leecher => "leecher",
    }
}
