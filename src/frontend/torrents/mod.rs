//! The calls about shared blobs (`--torrents`): torrent files and leases, for hosts that share blobs by BitTorrent. See
//! docs/torrent-cache.md.

mod call;
mod gate;
mod lease_calls;
mod metainfo_calls;
mod node_calls;
mod part;
mod reach_calls;
mod reply;
pub(in crate::frontend) mod request;

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};

pub use self::gate::{BearerToken, Gate, GateOptions, NotABearerToken};
pub use self::part::TorrentsPart;

use self::call::Call;
use self::request::{TorrentsRequest, UploadedBody};
use crate::frontend::context::Context;

/// Adds the routes of the calls to the routes for clients.
pub(in crate::frontend) fn routes(config: &mut web::ServiceConfig) {
    for path in ["/torrents{rest:.*}", "/leases{rest:.*}", "/v2/keys/torrents{rest:.*}"] {
        config.route(path, web::to(serve));
    }
}

/// Answers a call. The fast path has read the head and the body.
pub(in crate::frontend) async fn serve(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    let read = request.extensions_mut().remove::<TorrentsRequest>();
    let body = request.extensions_mut().remove::<UploadedBody>().unwrap_or_default().0;
    let (Some(part), Some(TorrentsRequest { call, ip })) = (&context.torrents, read) else {
        return HttpResponse::NotFound().finish();
    };
    let blobs = &part.blobs;
    let call = match call {
        Ok(call) => call,
        Err(refused) => {
            log::debug!("{} {} of {ip} is refused: {refused:?}", request.method(), request.path());
            return reply::refused(blobs, refused);
        }
    };
    match &call {
        Call::ReadMetainfo(key) => metainfo_calls::read(&context, blobs, key, request.headers()),
        Call::WriteMetainfo(key) => metainfo_calls::write(&context, blobs, key, body),
        Call::RemoveMetainfo(key) => metainfo_calls::remove(blobs, key),
        Call::Complain(key) => metainfo_calls::complain(blobs, key, ip),
        Call::ListMissing => metainfo_calls::list_missing(&context, blobs, ip, &body),
        Call::Reach => reach_calls::check(blobs, ip, &body).await,
        Call::Claim(key) => lease_calls::claim(&context, blobs, key, ip, &body),
        Call::Watch { key, wait } => lease_calls::watch(&context, blobs, key, ip, *wait).await,
        Call::Renew(key, generation) => lease_calls::renew(blobs, key, *generation, &body),
        Call::Release(key, generation) => lease_calls::release(blobs, key, *generation),
        Call::ReadNode(key) => node_calls::read(&context, blobs, key),
        Call::WriteNode(key) => node_calls::write(&context, blobs, key, &body),
    }
}
