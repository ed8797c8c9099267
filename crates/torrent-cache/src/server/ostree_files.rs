//! Requests in absolute form, as clients send them to an HTTP proxy. The cache keeps what OSTree fetches. Everything
//! else of a listed server passes through.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::blobs;
use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::failure::RequestFailure;
use super::pass::{pass, passed_reply, reply_of};
use super::reply::{BodyChunk, BodyChunks, Served, describe_no_registry};
use crate::content::ContentName;
use crate::digest::Digest;
use crate::metrics::{RequestKind, RequestOutcome};
use crate::ostree::path::{DeltaFolder, OstreePath};
use crate::ostree::superblock::MAX_SUPERBLOCK;
use crate::upstream::{AskMethod, FetchBody, FetchError, UpstreamOrigin};

/// How long the body of a superblock may take, when this program fetches the superblock for itself.
const SUPERBLOCK_TIMEOUT: Duration = Duration::from_mins(1);

/// Returns the kind under which a request for this path is counted.
pub(super) fn kind(path: &OstreePath) -> RequestKind {
    if *path == OstreePath::Uncached { RequestKind::Proxied } else { RequestKind::Ostree }
}

/// Answers a request in absolute form.
pub(super) async fn serve(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    path: &OstreePath,
) -> Result<Served, RequestFailure> {
    let mut served = match path {
        _ if request.is_head => pass(context, request, at).await,
        OstreePath::Uncached => pass(context, request, at).await,
        OstreePath::MetadataObject(digest) => blobs::serve(context, request, at, *digest).await,
        OstreePath::FileObject(checksum) => {
            blobs::serve(context, request, at, ContentName::FileObject(*checksum)).await
        }
        OstreePath::Superblock(_) => superblock(context, request, at).await,
        OstreePath::DeltaPart(folder, index) => part(context, request, at, folder, *index).await,
    }?;
    describe_no_registry(served.reply.headers_mut());
    Ok(served)
}

/// Passes a superblock through, and remembers the digests of its parts.
async fn superblock(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
) -> Result<Served, RequestFailure> {
    let mut upstream = request.ask(context, at, AskMethod::Get, &request.headers).await?;
    let reply = if upstream.status == 200 {
        let length = upstream.content_length();
        let (status, headers) = (upstream.status, std::mem::take(&mut upstream.headers));
        let body = PassingSuperblock {
            body: upstream.body,
            copy: BytesMut::new(),
            context: Arc::clone(context),
            origin: at.origin.clone(),
            path: at.path.clone(),
        };
        reply_of(context, at, status, &headers, body, length)
    } else {
        passed_reply(context, at, upstream)
    };
    Ok(Served { reply, outcome: RequestOutcome::Passed })
}

/// Answers a request for a part. If the upstream's part has another digest than the remembered superblock says, the
/// delta may be new. So the superblock is then fetched again, once.
async fn part(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    folder: &DeltaFolder,
    index: u32,
) -> Result<Served, RequestFailure> {
    let path = folder.superblock_path();
    let Ok(index) = usize::try_from(index) else { return pass(context, request, at).await };
    let remembered = context.superblocks.parts(&at.origin, &path).and_then(|parts| parts.get(index).copied());
    let failure = match remembered {
        Some(digest) => match blobs::serve(context, request, at, digest).await {
            Err(failure) if failure.is_other_content() => Some(failure),
            result => return result,
        },
        None => None,
    };
    match (fetched_digest(context, request, at, &path, index).await, failure) {
        (digest, Some(failure)) if digest.is_none() || digest == remembered => Err(failure),
        (Some(digest), _) => blobs::serve(context, request, at, digest).await,
        (None, _) => pass(context, request, at).await,
    }
}

/// Fetches the superblock. Returns the digest of a part; `None` if the fetch fails or the superblock does not list the
/// part.
async fn fetched_digest(
    context: &CacheContext,
    request: &ClientRequest,
    at: &UpstreamPath,
    path: &str,
    index: usize,
) -> Option<Digest> {
    let path = path.to_owned();
    let superblock = UpstreamPath { path: path.clone(), ..at.clone() };
    let headers = request.headers.clone().unconditional();
    let reply = request.ask(context, &superblock, AskMethod::Get, &headers).await.ok()?;
    if reply.status != 200 {
        return None;
    }
    let bytes = reply.body.collect(MAX_SUPERBLOCK, SUPERBLOCK_TIMEOUT).await.ok()?;
    context.superblocks.learn(&at.origin, &path, &bytes);
    context.superblocks.parts(&at.origin, &path)?.get(index).copied()
}

/// A superblock on its way to a client. A copy of it is read once all bytes have come.
struct PassingSuperblock {
    body: FetchBody,
    copy: BytesMut,
    context: Arc<CacheContext>,
    origin: UpstreamOrigin,
    path: String,
}

impl BodyChunks for PassingSuperblock {
    type Fault = FetchError;

    async fn next(&mut self) -> Result<Option<BodyChunk>, FetchError> {
        let chunk = self.body.chunk().await?;
        match &chunk {
            // Copying stops beyond the limit, because `learn` refuses such a superblock anyway.
            Some(bytes) if self.copy.len() <= MAX_SUPERBLOCK => self.copy.extend_from_slice(bytes),
            Some(_) => {}
            None => self.context.superblocks.learn(&self.origin, &self.path, &self.copy),
        }
        Ok(chunk.map(BodyChunk::Bytes))
    }
}
