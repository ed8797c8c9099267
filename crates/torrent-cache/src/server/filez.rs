//! File objects of OSTree. Their name is not the digest of their file, so they are verified by inflating while they pass
//! through, and kept under the digest that the file turns out to have. Each client has its own fetch.

use std::io;
use std::mem;
use std::sync::Arc;

use actix_http::StatusCode;
use bytes::Bytes;
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::blobs;
use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::failure::RequestFailure;
use super::pass::{passed_reply, reply_of};
use super::reply::{BodyChunks, Served};
use crate::digest::Digest;
use crate::metrics::RequestOutcome;
use crate::ostree::filez::{FilezFault, FilezVerifier};
use crate::ostree::path::ObjectChecksum;
use crate::store::IncomingBlob;
use crate::upstream::{AskMethod, FetchBody, FetchError};

/// Answers a request for a file object.
pub(super) async fn serve(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    checksum: ObjectChecksum,
) -> Result<Served, RequestFailure> {
    if let Some(digest) = known(context, at, checksum).await {
        return blobs::serve(context, request, at, digest).await;
    }
    let headers = request.headers.clone().unconditional();
    let upstream = request.ask(context, at, AskMethod::Get, &headers).await?;
    if upstream.status.as_u16() != StatusCode::OK.as_u16() {
        let reply = passed_reply(context, at, upstream);
        return Ok(Served { reply, outcome: RequestOutcome::Passed });
    }
    let length = upstream.content_length();
    let incoming = context.store.clone();
    let incoming = spawn_blocking(move || incoming.begin_nameless(length)).await.map_err(io::Error::other).flatten();
    let incoming = incoming.inspect_err(|error| log::info!("{checksum}: not cached: {error}")).ok();
    let outcome = if incoming.is_some() { RequestOutcome::Miss } else { RequestOutcome::Passed };
    let body = FilezBody {
        body: upstream.body,
        checksum,
        state: Some(Verifying { verifier: FilezVerifier::new(checksum), incoming }),
        held_back: Bytes::new(),
        at: at.clone(),
        context: Arc::clone(context),
    };
    let reply = reply_of(context, at, upstream.status, &upstream.headers, body, length);
    Ok(Served { reply, outcome })
}

/// Under what the store has the digest of this object's file. Two servers may have compressed it in two ways.
fn key(at: &UpstreamPath, checksum: ObjectChecksum) -> String {
    format!("{} {} {}", at.origin, at.place(), checksum.key())
}

/// The digest of the file of this object that this server has delivered, if the store has it.
async fn known(context: &CacheContext, at: &UpstreamPath, checksum: ObjectChecksum) -> Option<Digest> {
    let at = at.clone();
    let find = move |store: &crate::store::BlobStore| {
        let Some(digest) = store.delta(&key(&at, checksum))? else { return Ok(None) };
        Ok(store.find_delivered(&at.delivery(digest))?.map(|_| digest))
    };
    context.with_store(find).await.flatten()
}

/// An object on its way to a client. The last piece is kept back until the object is verified.
struct FilezBody {
    body: FetchBody,
    checksum: ObjectChecksum,
    /// Absent while it is worked on, and at the end.
    state: Option<Verifying>,
    held_back: Bytes,
    at: UpstreamPath,
    context: Arc<CacheContext>,
}

struct Verifying {
    verifier: FilezVerifier,
    /// `None`: the store has no room.
    incoming: Option<IncomingBlob>,
}

/// How the reply about an object fails.
#[derive(Debug, Error)]
enum ObjectFault {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the upstream sent a wrong object: {0}")]
    Wrong(#[from] FilezFault),
    #[error("the cache could not finish this")]
    Abandoned,
}

impl Verifying {
    fn take(mut self, bytes: &Bytes) -> Result<Self, FilezFault> {
        self.verifier.update(bytes)?;
        let written = self.incoming.as_mut().map(|incoming| incoming.append(bytes));
        if let Some(Err(error)) = written {
            log::warn!("not cached: {error}");
            self.incoming = None;
        }
        Ok(self)
    }

    fn finish(self, checksum: ObjectChecksum, at: &UpstreamPath, context: &CacheContext) -> Result<(), FilezFault> {
        self.verifier.finish()?;
        if let Some(incoming) = self.incoming
            && let Err(error) = keep(incoming, checksum, at, context)
        {
            log::warn!("{checksum}: served but not stored: {error}");
        }
        Ok(())
    }
}

fn keep(incoming: IncomingBlob, checksum: ObjectChecksum, at: &UpstreamPath, context: &CacheContext) -> io::Result<()> {
    let verified = incoming.verify().map_err(io::Error::other)?;
    let digest = verified.digest();
    verified.commit()?;
    context.store.put_delivered(&at.delivery(digest))?;
    context.store.put_delta(&key(at, checksum), &digest)
}

impl BodyChunks for FilezBody {
    type Fault = ObjectFault;

    async fn next(&mut self) -> Result<Option<Bytes>, ObjectFault> {
        while let Some(state) = self.state.take() {
            let Some(bytes) = self.body.chunk().await? else {
                let (checksum, at, context) = (self.checksum, self.at.clone(), Arc::clone(&self.context));
                let finish = spawn_blocking(move || state.finish(checksum, &at, &context));
                finish.await.map_err(|_| ObjectFault::Abandoned)??;
                break;
            };
            let taken = bytes.clone();
            let take = spawn_blocking(move || state.take(&taken));
            self.state = Some(take.await.map_err(|_| ObjectFault::Abandoned)??);
            let ready = mem::replace(&mut self.held_back, bytes);
            if !ready.is_empty() {
                return Ok(Some(ready));
            }
        }
        Ok(Some(mem::take(&mut self.held_back)).filter(|bytes| !bytes.is_empty()))
    }
}
