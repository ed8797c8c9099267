//! `/explain`: what a client at an address would get of a torrent now, and why. As text for people, or as JSON.

mod text;

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use tracker_protocol::query::{unescaped, values};
use tracker_protocol::{InfoHash, Role};

use super::{foreign_host, is_host_known};
use crate::access::AccessVerdict;
use crate::frontend::client_at::ClientAt;
use crate::frontend::context::Context;
use crate::tracker::{Explanation, ForwarderExplanation, HiddenPeer, PeerExplanation, PeerVerdict, SwarmExplanation};

/// What is asked, from the query.
struct Question {
    info_hash: InfoHash,
    client: ClientAt,
}

const EXPECTED: &str = "expected /explain?torrent=HASH&as=ADDRESS: the 40 hexadecimal digits of an info-hash, and the \
                        address of a client such as 192.168.1.7 or 192.168.1.7:6881\n";

pub(super) async fn explain(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let Some(question) = Question::read(request.query_string()) else {
        return HttpResponse::BadRequest().content_type("text/plain; charset=utf-8").body(EXPECTED);
    };
    let Question { info_hash, client: ClientAt { ip, port } } = question;
    let explanation = context.tracker.explain(ip, port, info_hash);
    let verdict = context.access.as_ref().map(|access| access.verdict(ip, info_hash));
    let wants_json = request.headers().get_all(ACCEPT).any(|accept| accept.as_bytes().starts_with(b"application/json"));
    if wants_json {
        let body = format!("{:#}\n", to_json(info_hash, &explanation, verdict, &context));
        return HttpResponse::Ok().content_type("application/json").body(body);
    }
    let text = text::write(info_hash, &explanation, verdict, &context);
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)
}

impl Question {
    fn read(query: &str) -> Option<Self> {
        let value = |name: &[u8]| {
            let value: Vec<u8> = unescaped(values(query.as_bytes(), name).next()?).collect();
            Some(String::from_utf8_lossy(&value).trim().to_owned())
        };
        let info_hash = value(b"torrent")?.parse().ok()?;
        Some(Self { info_hash, client: value(b"as")?.parse().ok()? })
    }
}

fn to_json(info_hash: InfoHash, explanation: &Explanation, access: Option<AccessVerdict>, context: &Context) -> Value {
    let Explanation { ip, zone, role, usual, swarm, forwarders } = explanation;
    json!({
        "torrent": info_hash.to_string(),
        "client": { "ip": ip.to_string(), "zone": zone, "role": role_name(*role) },
        "usual_numwant": usual,
        "access": access.map(access_name),
        "swarm": swarm.as_ref().map(|swarm| swarm_json(swarm, context)),
        "forwarders": forwarders.iter().map(forwarder_json).collect::<Vec<_>>(),
    })
}

fn swarm_json(swarm: &SwarmExplanation, context: &Context) -> Value {
    let peer = |peer: &PeerExplanation| {
        let (address, reason) = match peer.verdict {
            PeerVerdict::Given(address) => (Some(address.to_string()), None),
            PeerVerdict::Hidden(hidden) => (None, Some(reason(hidden))),
        };
        json!({
            "address": peer.address.to_string(),
            "zone": peer.zone.map(|zone| context.tracker.zone_name(zone)),
            "role": role_name(peer.role),
            "silent_for_seconds": peer.silent_for.as_secs(),
            "is_second_address": peer.is_second,
            "is_claimed": peer.is_claimed,
            "given_as": address,
            "hidden_because": reason,
        })
    };
    json!({
        "client_port": swarm.client.map(|client| client.port),
        "complete": swarm.counts.complete,
        "incomplete": swarm.counts.incomplete,
        "downloaded": swarm.counts.downloaded,
        "peers": swarm.peers.iter().map(peer).collect::<Vec<_>>(),
        "not_shown": swarm.more,
    })
}

fn forwarder_json(ForwarderExplanation { at, list }: &ForwarderExplanation) -> Value {
    let torrent = at.torrent.as_ref().map(|torrent| {
        json!({
            "clients": torrent.clients,
            "next_announce_in_seconds": torrent.due_in.map(|due| due.as_secs()),
            "exchanges_under_way": torrent.under_way,
            "list": torrent.list.as_ref().zip(list.as_ref()).map(|(peers, list)| json!({
                "good_for_seconds": torrent.list_good_for.as_secs(),
                "complete": peers.complete,
                "incomplete": peers.incomplete,
                "useful": list.useful,
                "unreachable": list.unreachable,
                "itself": list.itself,
                "local_already": list.local,
                "other_family": list.other_family,
                "left_out_at_arrival": peers.left_out,
            })),
        })
    });
    json!({
        "name": at.forwarder.name,
        "state": at.forwarder.state,
        "is_hidden": at.is_hidden,
        "last_error": at.forwarder.last_error.as_ref().map(|error| &error.text),
        "torrent": torrent,
    })
}

fn access_name(verdict: AccessVerdict) -> &'static str {
    match verdict {
        AccessVerdict::Admitted => "admitted",
        AccessVerdict::NetworkRefused => "network_refused",
        AccessVerdict::TorrentRefused => "torrent_refused",
        AccessVerdict::NeedsToken => "needs_token",
        AccessVerdict::DependsOnClient => "depends_on_client",
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Seed => "seed",
        Role::PartialSeed => "partial seed",
        Role::Leecher => "leecher",
    }
}

/// The name of the rule.
fn reason(hidden: HiddenPeer) -> &'static str {
    match hidden {
        HiddenPeer::Expired => "expired",
        HiddenPeer::Itself => "itself",
        HiddenPeer::BothSeeds => "both_seeds",
        HiddenPeer::FirstAddressServes => "first_address_serves",
        HiddenPeer::Unreachable => "unreachable",
        HiddenPeer::OtherFamily => "other_family",
        HiddenPeer::SameAddress => "same_address",
    }
}
