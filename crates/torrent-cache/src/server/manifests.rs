//! Manifests by digest and by tag.
//!
//! The manifest of a digest never changes. So it comes from disk, if this upstream has delivered it and the client is
//! authorised. For the digest of a tag, the cache asks the upstream by HEAD each time. While the upstream fails, a tag
//! keeps its last digest for `TAG_STALE`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_http::StatusCode;
use actix_http::body::BoxBody;
use bytes::Bytes;

use super::blobs::admit;
use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::failure::RequestFailure;
use super::manifest_fetches::{FetchedManifest, ManifestAsk};
use super::pass::{head_reply, pass};
use super::reply::{HeadBody, Served, copy_headers, describe, not_modified, reply};
use super::upstream_fault::UpstreamFault;
use crate::authorization::{Permission, Speaker, UpstreamDenial};
use crate::digest::Digest;
use crate::metrics::{ByteSource, RequestOutcome};
use crate::registry::names::ImageTag;
use crate::store::{CachedManifest, TagEntry, TagKey};
use crate::upstream::{Ask, AskHeaders, AskMethod, FetchError, FetchFault, FetchReply, Redirects};

/// The largest manifest in bytes. Registries refuse larger manifests.
const LONGEST: usize = 4 << 20;
/// How long the body of a manifest may take.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// While the digest of a tag stays the same, the tag is written to the disk again only after this time.
const TAG_GRANULARITY: Duration = Duration::from_mins(1);

/// Answers a request for the manifest of this digest.
pub(super) async fn by_digest(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    digest: Digest,
) -> Result<Served, RequestFailure> {
    if let Some(manifest) = stored(context, at, digest).await {
        admit(context, request, at, &digest, Some(length(&manifest))).await?;
        return Ok(serve(context, request, &digest, manifest, RequestOutcome::Hit));
    }
    if request.is_head {
        return pass(context, request, at).await;
    }
    Ok(match fetch(context, request, at, Some(digest)).await? {
        FetchedManifest::Verified(digest, manifest) => serve(context, request, &digest, manifest, RequestOutcome::Miss),
        FetchedManifest::Passed(headers, bytes) => uncached(context, request, &headers, bytes),
    })
}

/// Answers a request for the manifest of a tag.
pub(super) async fn by_tag(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    tag: &ImageTag,
) -> Result<Served, RequestFailure> {
    let place = TagPlace::new(request, at, tag);
    let known = place.read(context).await;
    // If the digest of the tag is not known yet, HEAD would only cost time, because a GET must follow.
    if known.is_none() && !request.is_head {
        return match fetch(context, request, at, None).await? {
            FetchedManifest::Verified(digest, manifest) => {
                place.write(context, None, digest, &manifest.media_type).await;
                Ok(serve(context, request, &digest, manifest, RequestOutcome::Miss))
            }
            FetchedManifest::Passed(headers, bytes) => Ok(uncached(context, request, &headers, bytes)),
        };
    }
    let headers = request.headers.clone().unconditional();
    let reply = match request.ask(context, at, AskMethod::Head, &headers).await {
        Ok(reply) => reply,
        Err(error) => return stale(context, request, at, known, error).await,
    };
    match reply.status.as_u16() {
        200 => revalidated(context, request, at, &place, known, reply).await,
        401 | 403 | 404 => Err(RequestFailure::denied(at, UpstreamDenial::of(&reply))),
        // This registry does not support HEAD.
        405 | 501 => Ok(match fetch(context, request, at, None).await? {
            FetchedManifest::Verified(digest, manifest) => {
                serve(context, request, &digest, manifest, RequestOutcome::Passed)
            }
            FetchedManifest::Passed(headers, bytes) => uncached(context, request, &headers, bytes),
        }),
        _ => stale(context, request, at, known, reply.unexpected(&at.origin)).await,
    }
}

/// Answers a request for a tag after the upstream's reply to HEAD, which names the tag's digest.
async fn revalidated(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    place: &TagPlace,
    known: Option<TagEntry>,
    head: FetchReply,
) -> Result<Served, RequestFailure> {
    if let Some(digest) = told_digest(&head)
        && let Some(manifest) = stored(context, at, digest).await
    {
        context.authorization.granted(&request.speaker, &at.subject(&digest, Some(length(&manifest))));
        place.write(context, known, digest, &manifest.media_type).await;
        return Ok(serve(context, request, &digest, manifest, RequestOutcome::Hit));
    }
    if request.is_head {
        return Ok(Served { reply: head_reply(&head), outcome: RequestOutcome::Passed });
    }
    let (digest, manifest) = match fetch(context, request, at, None).await {
        Ok(FetchedManifest::Verified(digest, manifest)) => (digest, manifest),
        Ok(FetchedManifest::Passed(headers, bytes)) => return Ok(uncached(context, request, &headers, bytes)),
        // A registry that limits requests may refuse the GET although it has answered the HEAD.
        Err(RequestFailure::Fetch(error)) => return stale(context, request, at, known, error).await,
        Err(failure) => return Err(failure),
    };
    place.write(context, known, digest, &manifest.media_type).await;
    Ok(serve(context, request, &digest, manifest, RequestOutcome::Miss))
}

/// Answers a request for a tag while the upstream fails. The client gets the tag's last manifest, if the upstream named
/// it within `TAG_STALE` and this client may have it.
async fn stale(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    known: Option<TagEntry>,
    error: FetchError,
) -> Result<Served, RequestFailure> {
    let age = |entry: &TagEntry| SystemTime::now().duration_since(entry.checked_at).unwrap_or_default();
    let Some(entry) = known.filter(|entry| age(entry) < context.tag_stale) else { return Err(error.into()) };
    let Some(manifest) = stored(context, at, entry.digest).await else { return Err(error.into()) };
    let cause = error.to_string();
    let subject = at.subject(&entry.digest, Some(length(&manifest)));
    match context.authorization.remembered(&request.speaker, &subject, error) {
        Permission::Granted => {}
        Permission::Denied(denial) => return Err(RequestFailure::denied(at, denial)),
        Permission::Unknown(error) => return Err(error.into()),
    }
    log::warn!("{cause}; the client gets {} as it was {} s ago", at.path, age(&entry).as_secs());
    Ok(serve(context, request, &entry.digest, manifest, RequestOutcome::Stale))
}

/// Whether this is a manifest of schema 1. Such manifests are not cached: their digest leaves out their signatures, and
/// registries generate them anew for each client that accepts no other type.
fn is_schema_1(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.distribution.manifest.v1+")
}

/// Fetches a manifest, verifies it and keeps it. A manifest of schema 1 is neither verified nor kept. Clients that send
/// the same request with the same credentials share one fetch.
async fn fetch(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    expected: Option<Digest>,
) -> Result<FetchedManifest, RequestFailure> {
    let (headers, speaker) = (request.headers.clone().unconditional(), request.speaker.clone());
    let ask = ManifestAsk {
        origin: at.origin.clone(),
        path: at.path.clone(),
        accept: headers.accept().cloned().collect(),
        speaker: speaker.clone(),
    };
    let begin = || {
        let (context, at) = (Arc::clone(context), at.clone());
        async move {
            let attempt = || fetch_once(&context, &at, &headers, &speaker, expected);
            match attempt().await {
                Err(UpstreamFault::Fetch(error)) if matches!(error.fault, FetchFault::Body(_)) => {
                    log::info!("{}: the fetch is tried once more, because it failed: {error}", at.path);
                    attempt().await
                }
                fetched => fetched,
            }
        }
    };
    let fetched = context.manifest_fetches.join(ask, begin).await;
    fetched.map_err(|fault| RequestFailure::of_upstream(at, fault))
}

async fn fetch_once(
    context: &CacheContext,
    at: &UpstreamPath,
    headers: &AskHeaders,
    speaker: &Speaker,
    expected: Option<Digest>,
) -> Result<FetchedManifest, UpstreamFault> {
    let ask = Ask {
        method: AskMethod::Get,
        origin: &at.origin,
        path_and_query: &at.path,
        headers,
        redirects: Redirects::Follow,
    };
    let reply = context.authorization.send(ask, speaker, &at.repository).await?;
    match reply.status.as_u16() {
        200 => {}
        401 | 403 | 404 => return Err(UpstreamFault::Denied(UpstreamDenial::of(&reply))),
        _ => return Err(reply.unexpected(&at.origin).into()),
    }
    let media_type = reply.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or("application/octet-stream").to_owned();
    let told = told_digest(&reply);
    let FetchReply { headers, body, .. } = reply;
    let bytes = body.collect(LONGEST, BODY_TIMEOUT).await?;
    if is_schema_1(&media_type) {
        return Ok(FetchedManifest::Passed(headers, bytes));
    }
    let digest = Digest::of(&bytes);
    if let Some(expected) = expected.or(told).filter(|expected| *expected != digest) {
        let what = format!("{} sent a manifest with the digest {digest} instead of {expected}", at.origin);
        return Err(UpstreamFault::WrongManifest(what));
    }
    context.authorization.granted(speaker, &at.subject(&digest, Some(bytes.len() as u64)));
    let manifest = CachedManifest { media_type, bytes: bytes.to_vec() };
    let (kept, delivery) = (manifest.clone(), at.delivery(digest));
    context.with_store(move |store| store.put_manifest(&delivery, &kept)).await;
    log::info!("{}: {} bytes from {}", at.path, bytes.len(), at.origin);
    Ok(FetchedManifest::Verified(digest, manifest))
}

/// Replies with a manifest that is not kept, as the upstream has sent it.
fn uncached(context: &CacheContext, request: &ClientRequest, headers: &http::HeaderMap, bytes: Bytes) -> Served {
    let body = if request.is_head {
        BoxBody::new(HeadBody(Some(bytes.len() as u64)))
    } else {
        context.metrics.sent(ByteSource::Upstream).inc_by(bytes.len() as u64);
        BoxBody::new(bytes)
    };
    let mut reply = reply(StatusCode::OK, body);
    copy_headers(headers, reply.headers_mut());
    Served { reply, outcome: RequestOutcome::Passed }
}

fn told_digest(reply: &FetchReply) -> Option<Digest> {
    reply.headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// Returns the manifest from disk, if this upstream has delivered it.
async fn stored(context: &CacheContext, at: &UpstreamPath, digest: Digest) -> Option<CachedManifest> {
    let delivery = at.delivery(digest);
    context.with_store(move |store| store.manifest(&delivery)).await.flatten()
}

fn length(manifest: &CachedManifest) -> u64 {
    manifest.bytes.len() as u64
}

fn serve(
    context: &CacheContext,
    request: &ClientRequest,
    digest: &Digest,
    manifest: CachedManifest,
    outcome: RequestOutcome,
) -> Served {
    if request.has(digest) {
        return not_modified(digest);
    }
    let body = if request.is_head {
        BoxBody::new(HeadBody(Some(length(&manifest))))
    } else {
        let from = if outcome == RequestOutcome::Miss { ByteSource::Upstream } else { ByteSource::Disk };
        context.metrics.sent(from).inc_by(length(&manifest));
        BoxBody::new(Bytes::from(manifest.bytes))
    };
    let mut reply = reply(StatusCode::OK, body);
    describe(reply.headers_mut(), digest, Some(&manifest.media_type));
    Served { reply, outcome }
}

/// The key under which the store has the digest of a tag. The digest also depends on `Accept`.
#[derive(Clone)]
struct TagPlace {
    upstream: String,
    repository: String,
    tag: String,
    accept: String,
}

impl TagPlace {
    fn new(request: &ClientRequest, at: &UpstreamPath, tag: &ImageTag) -> Self {
        let accept: Vec<_> = request.headers.accept().filter_map(|line| line.to_str().ok()).collect();
        Self {
            upstream: at.origin.to_string(),
            repository: at.repository.clone(),
            tag: tag.to_string(),
            accept: accept.join(", "),
        }
    }

    fn key(&self) -> TagKey<'_> {
        TagKey { upstream: &self.upstream, repository: &self.repository, tag: &self.tag, accept: &self.accept }
    }

    async fn read(&self, context: &CacheContext) -> Option<TagEntry> {
        let place = self.clone();
        context.with_store(move |store| store.tag(&place.key())).await.flatten()
    }

    async fn write(&self, context: &CacheContext, known: Option<TagEntry>, digest: Digest, media_type: &str) {
        let now = SystemTime::now();
        let is_recent = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < TAG_GRANULARITY);
        if known.is_some_and(|known| known.digest == digest && is_recent(known.checked_at)) {
            return;
        }
        let (place, entry) = (self.clone(), TagEntry { digest, media_type: media_type.to_owned(), checked_at: now });
        context.with_store(move |store| store.put_tag(&place.key(), &entry)).await;
    }
}
