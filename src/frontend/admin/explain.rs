//! `/explain`: what a client at an address would get of a torrent now, and why. As text for people, or as JSON.

mod text;

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use tracker_protocol::InfoHash;
use tracker_protocol::query::{unescaped, values};

use super::torrent::{self, role_name};
use super::{foreign_host, is_host_known};
use crate::access::{AccessVerdict, ClientPrefix, DescribedAnnounce};
use crate::frontend::client_at::ClientAt;
use crate::frontend::context::Context;
use crate::tracker::{Explanation, HiddenPeer, PeerExplanation, PeerVerdict, SwarmExplanation};

struct Question {
    info_hash: InfoHash,
    at: ClientAt,
    /// The beginning of the client's peer id.
    client: Option<ClientPrefix>,
    token: Option<Vec<u8>>,
}

const EXPECTED: &str = "expected /explain?torrent=HASH&as=ADDRESS: the 40 hexadecimal digits of an info-hash, and the \
                        address of a client such as 192.168.1.7 or 192.168.1.7:6881. If access rules are in force, \
                        &client= is the beginning of the client's peer id, such as -TR4050-, and &token= is the JWT of \
                        its announces\n";

pub(super) async fn explain(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    if !is_host_known(&request, &context) {
        return foreign_host();
    }
    let Some(question) = Question::read(request.query_string()) else {
        return HttpResponse::BadRequest().content_type("text/plain; charset=utf-8").body(EXPECTED);
    };
    let Question { info_hash, at: ClientAt { ip, port }, client, token } = question;
    let explanation = context.tracker.explain(ip, port, info_hash);
    let described = DescribedAnnounce { ip, info_hash, client: client.as_ref(), token: token.as_deref() };
    let verdict = context.access.as_ref().map(|access| access.verdict(described));
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
        // Blank values count as missing, because a form also sends the fields that were left blank.
        let value = |name: &[u8]| {
            let value: Vec<u8> = unescaped(values(query.as_bytes(), name).next()?).collect();
            Some(value.trim_ascii().to_vec()).filter(|value| !value.is_empty())
        };
        let text = |name| value(name).map(|value| String::from_utf8_lossy(&value).into_owned());
        let client = match text(b"client") {
            Some(start) => Some(start.parse().ok()?),
            None => None,
        };
        Some(Self {
            info_hash: text(b"torrent")?.parse().ok()?,
            at: text(b"as")?.parse().ok()?,
            client,
            token: value(b"token"),
        })
    }
}

fn to_json(info_hash: InfoHash, explanation: &Explanation, access: Option<AccessVerdict>, context: &Context) -> Value {
    let Explanation { ip, zone, role, usual, swarm, forwarders } = explanation;
    json!({
        "torrent": info_hash.to_string(),
        "client": { "ip": ip.to_string(), "zone": zone, "role": role_name(*role) },
        "usual_numwant": usual,
        "access": access.map(access_name),
        "token_refused_because": access.and_then(token_fault),
        "swarm": swarm.as_ref().map(|swarm| swarm_json(swarm, context)),
        "forwarders": forwarders.iter().map(|found| torrent::forwarder(&found.at, found.list.as_ref())).collect::<Vec<_>>(),
    })
}

fn swarm_json(swarm: &SwarmExplanation, context: &Context) -> Value {
    let peer = |PeerExplanation { peer, verdict }: &PeerExplanation| {
        let (given_as, reason) = match verdict {
            PeerVerdict::Given(address) => (Some(address.to_string()), None),
            PeerVerdict::Hidden(hidden) => (None, Some(reason(*hidden))),
        };
        let mut about = torrent::peer(peer, context);
        about.insert("given_as".to_owned(), json!(given_as));
        about.insert("hidden_because".to_owned(), json!(reason));
        about
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

fn access_name(verdict: AccessVerdict) -> &'static str {
    match verdict {
        AccessVerdict::Admitted => "admitted",
        AccessVerdict::NetworkRefused => "network_refused",
        AccessVerdict::ClientRefused => "client_refused",
        AccessVerdict::TorrentRefused => "torrent_refused",
        AccessVerdict::NeedsToken => "needs_token",
        AccessVerdict::TokenRefused(_) => "token_refused",
        AccessVerdict::DependsOnClient => "depends_on_client",
    }
}

fn token_fault(verdict: AccessVerdict) -> Option<&'static str> {
    if let AccessVerdict::TokenRefused(fault) = verdict { Some(fault) } else { None }
}

/// Returns the name of the rule that hides the peer.
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
