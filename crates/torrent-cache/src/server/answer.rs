//! Sends each request to its handler, counts it and logs it.

use std::sync::Arc;

use actix_http::body::{BodySize, MessageBody as _};
use actix_http::header::{ALLOW, HeaderValue};
use actix_http::uri::Uri;
use actix_http::{ConnectionType, Method, Request, StatusCode, Version};
use tokio::time::Instant;

use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::failure::RequestFailure;
use super::pass::{pass, passed};
use super::reply::{CacheReply, HeadBody, Served, describe_api, rewrite_links, text_reply};
use super::{blobs, manifests, ostree_files, pages, status};
use crate::authorization::Speaker;
use crate::metrics::{RequestKind, RequestOutcome};
use crate::ostree::path::OstreePath;
use crate::registry::errors::RegistryErrorKind;
use crate::registry::names::ContentDigest;
use crate::registry::path::{ManifestReference, RegistryPath, RegistryRequest};
use crate::upstream::{AskMethod, FetchFault, UpstreamOrigin};

/// Answers a request, counts it and logs it.
pub(super) async fn answer(context: &Arc<CacheContext>, request: Request) -> CacheReply {
    let begun = Instant::now();
    let (kind, result) = route(context, &request).await;
    let (mut reply, outcome, cause) = match result {
        Ok(Served { reply, outcome }) => (reply, outcome, None),
        Err(failure) => {
            let outcome = if failure.is_fault() { RequestOutcome::Failed } else { RequestOutcome::Refused };
            (failure.reply(), outcome, Some(failure))
        }
    };
    let status = reply.status().as_u16();
    if status == StatusCode::METHOD_NOT_ALLOWED.as_u16() {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if *request.method() == Method::HEAD && cause.is_some() {
        // A reply to HEAD has no body, but `Content-Length` stays the length of the error text.
        reply = reply.map_body(|_, body| {
            let length = match body.size() {
                BodySize::Sized(length) => Some(length),
                _ => None,
            };
            actix_http::body::BoxBody::new(HeadBody(length))
        });
    }
    if request.version() == Version::HTTP_10 && reply.body().size() == BodySize::Stream {
        // HTTP/1.0 has no chunked encoding. The end of the connection marks the end of the body (RFC 9112, section
        // 6.3).
        reply.head_mut().no_chunking(true);
        reply.head_mut().set_connection_type(ConnectionType::Close);
    }
    context.metrics.request(kind, outcome);
    context.metrics.status(status);
    let line = |cause: &RequestFailure| {
        let (method, target) = (request.method(), target(request.uri()));
        format!("{method} {target} of {}: {status}: {cause}", client(&request))
    };
    match &cause {
        Some(cause) if cause.is_fault() => log::warn!("{}", line(cause)),
        Some(cause) => log::debug!("{}", line(cause)),
        None => log::debug!(
            "{} {} of {}: {status}, {outcome:?}, {} ms",
            request.method(),
            target(request.uri()),
            client(&request),
            begun.elapsed().as_millis()
        ),
    }
    reply
}

fn client(request: &Request) -> String {
    request.peer_addr().map_or_else(|| "unknown".to_owned(), |address| address.ip().to_canonical().to_string())
}

/// Returns the target of a request for the log, without query and login, because these can be credentials. Escaping
/// keeps the text on one line.
fn target(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    format!("{host}{}", uri.path()).escape_default().to_string()
}

/// Sends a request to its handler. Returns the kind under which the request is counted, and the handler's reply.
async fn route(context: &Arc<CacheContext>, request: &Request) -> (RequestKind, Result<Served, RequestFailure>) {
    let is_head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => return (RequestKind::Other, Err(unsupported(request.method()))),
    };
    let uri = request.uri();
    match (uri.authority(), uri.path()) {
        (Some(_), _) => absolute(context, request, is_head).await,
        (None, "/health") => (RequestKind::Page, Ok(pages::health(context))),
        (None, "/metrics") => (RequestKind::Page, pages::metrics(context).await),
        (None, "/" | "/status") => (RequestKind::Page, status::page(context, request).await),
        (None, "/api/v1/status") => (RequestKind::Page, status::json(context, request).await),
        (None, _) => {
            let target = uri.path_and_query().map_or("/", |target| target.as_str());
            let parsed = RegistryRequest::parse(target, |host| context.upstreams.find(host).cloned());
            let RegistryRequest { upstream, naming, path } = match parsed {
                Ok(parsed) => parsed,
                Err(refusal) => return (RequestKind::Other, Err(refusal.into())),
            };
            let at = registry_path(upstream.unwrap_or_else(|| context.upstreams.default_origin().clone()), &path);
            let request = ClientRequest::new(context, request, is_head);
            let (kind, result) = registry(context, &request, &at, &path).await;
            let result = result.map(|mut served| {
                rewrite_links(served.reply.headers_mut(), |link| naming.link(link));
                served
            });
            (kind, result)
        }
    }
}

fn registry_path(origin: UpstreamOrigin, path: &RegistryPath) -> UpstreamPath {
    let repository = path.repository().map(ToString::to_string).unwrap_or_default();
    UpstreamPath { origin, repository, path: path.to_string() }
}

fn unsupported(method: &Method) -> RequestFailure {
    let message = if *method == Method::CONNECT {
        "this cache cannot read https that passes through a proxy; set this cache as a registry mirror, or use http \
         URLs, such as contenturl of OSTree, for everything that should be cached"
    } else {
        "this cache only reads; push to the registry itself"
    };
    RequestFailure::refused(RegistryErrorKind::Unsupported, message)
}

async fn registry(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    path: &RegistryPath,
) -> (RequestKind, Result<Served, RequestFailure>) {
    match path {
        RegistryPath::Ping => (RequestKind::Ping, ping(context, request, at).await),
        RegistryPath::Blob { digest: ContentDigest::Sha256(digest), .. } => {
            (RequestKind::Blob, blobs::serve(context, request, at, *digest).await)
        }
        RegistryPath::Manifest { reference: ManifestReference::Digest(ContentDigest::Sha256(digest)), .. } => {
            (RequestKind::Manifest, manifests::by_digest(context, request, at, *digest).await)
        }
        RegistryPath::Manifest { reference: ManifestReference::Tag(tag), .. } => {
            (RequestKind::Manifest, manifests::by_tag(context, request, at, tag).await)
        }
        RegistryPath::Blob { .. } => (RequestKind::Blob, pass(context, request, at).await),
        RegistryPath::Manifest { .. } => (RequestKind::Manifest, pass(context, request, at).await),
        RegistryPath::TagList { .. } | RegistryPath::Referrers { .. } => {
            (RequestKind::List, pass(context, request, at).await)
        }
    }
}

/// Answers the ping with the upstream's reply, which tells a client how to log in. While the upstream cannot be
/// reached, the cache answers that it is a registry. Clients then go on to ask for what is on disk. A status 5xx
/// becomes a failure.
async fn ping(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
) -> Result<Served, RequestFailure> {
    let method = if request.is_head { AskMethod::Head } else { AskMethod::Get };
    match request.ask(context, at, method, &request.headers).await {
        // The body of a 5xx reply is about the registry's own server, so the client gets our error instead.
        Ok(reply) if reply.status.is_server_error() => Err(reply.unexpected(&at.origin).into()),
        Ok(reply) => Ok(passed(context, request, at, reply)),
        Err(error) => {
            if let (FetchFault::Token(_) | FetchFault::Credentials(_), Speaker::Own) = (&error.fault, &request.speaker)
            {
                return Err(error.into());
            }
            log::warn!("{error}; the cache answers the ping itself");
            let mut reply = text_reply(StatusCode::OK, "application/json", "{}".to_owned());
            describe_api(reply.headers_mut());
            Ok(Served { reply, outcome: RequestOutcome::Stale })
        }
    }
}

/// Answers a request in absolute form, as clients send it to an HTTP proxy.
async fn absolute(
    context: &Arc<CacheContext>,
    request: &Request,
    is_head: bool,
) -> (RequestKind, Result<Served, RequestFailure>) {
    let uri = request.uri();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let Some(origin) = context.upstreams.find(host).cloned() else {
        let host = host.rsplit('@').next().unwrap_or_default();
        return (RequestKind::Other, Err(RequestFailure::not_listed(host)));
    };
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let request = ClientRequest::new(context, request, is_head);
    // Docker with a proxy sends requests to a registry without TLS in absolute form.
    if let Ok(RegistryRequest::<()> { path, .. }) = RegistryRequest::parse(&target, |_| None) {
        let at = registry_path(origin, &path);
        return registry(context, &request, &at, &path).await;
    }
    let path = OstreePath::parse(&target);
    let kind = ostree_files::kind(&path);
    let at = UpstreamPath { origin, repository: String::new(), path: target };
    let request = request.without_own_credentials();
    (kind, ostree_files::serve(context, &request, &at, &path).await)
}
