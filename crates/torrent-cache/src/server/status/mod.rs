//! Shows the operator what the cache is doing: `/`, `/status` and `/api/v1/status`.
//!
//! The page names private repositories. So only clients on this host and in `CLIENT_NETWORKS` get it, and web pages of
//! other sites cannot read it.

mod page;
mod view;

use std::net::{IpAddr, Ipv4Addr};

use actix_http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_http::{Request, StatusCode};

use super::context::CacheContext;
use super::failure::RequestFailure;
use super::own_host::is_unreadable_for_other_sites;
use super::reply::{Served, text_reply};
use crate::metrics::RequestOutcome;
use crate::registry::errors::RegistryErrorKind;
use view::CacheStatus;

/// Makes a browser load no other resource into the page, and never show the page inside another page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
/// The header that makes a browser hide the reply from other sites (Fetch Standard, "CORP").
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Replies with the status as a page.
pub(super) async fn page(context: &CacheContext, request: &Request) -> Result<Served, RequestFailure> {
    let status = look(context, request).await?;
    Ok(guarded("text/html; charset=utf-8", page::html(&status)))
}

/// Replies with the status as JSON.
pub(super) async fn json(context: &CacheContext, request: &Request) -> Result<Served, RequestFailure> {
    let status = look(context, request).await?;
    Ok(guarded("application/json", status.json().to_string()))
}

async fn look(context: &CacheContext, request: &Request) -> Result<CacheStatus, RequestFailure> {
    let refused = |message| RequestFailure::refused(RegistryErrorKind::Denied, message);
    let client = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    if !context.authorization.is_of_operator(client) {
        return Err(refused("this page is for clients on the host of the cache, and for those in CLIENT_NETWORKS"));
    }
    if !is_unreadable_for_other_sites(request) {
        return Err(refused(
            "open this page directly, by an address of the cache's host, by localhost or by that host's own name",
        ));
    }
    Ok(CacheStatus::now(context).await)
}

fn guarded(media_type: &'static str, text: String) -> Served {
    let mut reply = text_reply(StatusCode::OK, media_type, text);
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Served { reply, outcome: RequestOutcome::Answered }
}
