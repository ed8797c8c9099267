//! Serves blobs by their digest, and file objects of OSTree by their name. The bytes come from disk, or from a flight
//! that any number of clients share.

use std::sync::Arc;

use actix_http::StatusCode;
use actix_http::body::BoxBody;
use actix_http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::client_request::{ClientRequest, UpstreamPath};
use super::context::CacheContext;
use super::failure::RequestFailure;
use super::file_sender::FileSender;
use super::pass::pass;
use super::reply::{
    BodyChunk, BodyChunks, CacheReply, HeadBody, Served, body, describe, describe_part, not_modified, reply,
    reply_from_files,
};
use super::upstream_blob::UpstreamBlob;
use super::upstream_fault::UpstreamFault;
use crate::authorization::Permission;
use crate::content::ContentName;
use crate::digest::Digest;
use crate::flight::{Flight, FlightFault, FlightKey, FlightReader};
use crate::metrics::{ByteSource, RequestOutcome};
use crate::registry::range::{BlobPart, RequestedRange, SelectedRange};
use crate::store::{BlobStore, StoredBlob};

/// The media type of blobs.
const OCTET_STREAM: &str = "application/octet-stream";

/// Answers a request for a blob, or for the file of a file object.
///
/// The upstream authorises a client before the client gets bytes from disk or from another client's fetch. If the fetch
/// is the client's own, the upstream's reply to the fetch authorises the client. A blob that only another upstream has
/// delivered is fetched again from this upstream: see the module `store`.
pub(super) async fn serve(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    name: impl Into<ContentName>,
) -> Result<Served, RequestFailure> {
    let name = name.into();
    let stored = find(context, at, name).await;
    let digest = name.digest().or(stored.as_ref().map(StoredBlob::digest));
    let identity = digest.unwrap_or_else(|| name.identity());
    let had = digest.filter(|digest| request.has(digest));
    let is_admitted = stored.is_some() || had.is_some();
    if is_admitted {
        admit(context, request, at, &identity, stored.as_ref().map(StoredBlob::length)).await?;
    }
    if let Some(digest) = had {
        return Ok(not_modified(&digest));
    }
    if request.is_head {
        return match stored {
            Some(stored) => Ok(Served { reply: head(&stored), outcome: RequestOutcome::Hit }),
            None => pass(context, request, at).await,
        };
    }
    let key = FlightKey { upstream: format!("{} {}", at.origin, at.place()).into(), name };
    let what = if at.repository.is_empty() { name.to_string() } else { format!("{name} of {}", at.repository) };
    let source = UpstreamBlob::new(context, at, name, what, request);
    let flight = context.flights.join(&key, &source).await;
    let flight = flight.map_err(|fault| RequestFailure::of_flight(at, fault))?;
    if !is_admitted && !source.is_opened() {
        // A length that comes from another host of the network is not proved, so the upstream's reply is not compared
        // with it.
        let length = flight.length().filter(|_| !flight.is_shared());
        admit(context, request, at, &identity, length).await?;
    }
    from_flight(context, request, at, &flight, source, digest.as_ref(), stored.is_some())
}

/// Returns the complete content from the store. Returns `None` if the store lacks it, if this upstream has not
/// delivered it, or if the disk fails.
async fn find(context: &CacheContext, at: &UpstreamPath, name: ContentName) -> Option<StoredBlob> {
    let at = at.clone();
    let find = move |store: &BlobStore| match at.delivered(store, &name)? {
        Some(digest) => store.find(&digest),
        None => Ok(None),
    };
    context.with_store(find).await.flatten()
}

/// Asks upstream whether this client may have the content of this digest.
pub(super) async fn admit(
    context: &CacheContext,
    request: &ClientRequest,
    at: &UpstreamPath,
    digest: &Digest,
    length: Option<u64>,
) -> Result<(), RequestFailure> {
    let subject = at.subject(digest, length);
    match context.authorization.admit(&request.speaker, &subject, &request.headers).await {
        Permission::Granted => Ok(()),
        Permission::Denied(denial) => Err(RequestFailure::denied(at, denial)),
        Permission::Unknown(error) => Err(error.into()),
    }
}

fn head(stored: &StoredBlob) -> CacheReply {
    let mut reply = reply(StatusCode::OK, BoxBody::new(HeadBody(Some(stored.length()))));
    describe_blob(reply.headers_mut(), Some(&stored.digest()), None);
    reply
}

fn describe_blob(headers: &mut HeaderMap, digest: Option<&Digest>, part: Option<&BlobPart>) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
    if let Some(digest) = digest {
        describe(headers, digest, None);
    }
    describe_part(headers, part);
}

fn from_flight(
    context: &Arc<CacheContext>,
    request: &ClientRequest,
    at: &UpstreamPath,
    flight: &Arc<Flight<UpstreamFault>>,
    source: UpstreamBlob,
    digest: Option<&Digest>,
    is_hit: bool,
) -> Result<Served, RequestFailure> {
    // An uncached blob bypasses the store, and each reader fetches all of it anyway (see the module `flight`).
    let range = if flight.is_uncached() { RequestedRange::Whole } else { request.range(digest) };
    let selected = flight.length().map_or(SelectedRange::Whole, |length| range.of(length));
    let part = match selected {
        SelectedRange::Whole => None,
        SelectedRange::Part(part) => Some(part),
        SelectedRange::Unsatisfiable { length } => return Err(RequestFailure::OutsideBlob { length }),
    };
    let (status, start, end, count) = match &part {
        None => (StatusCode::OK, 0, None, flight.length()),
        Some(part) => {
            (StatusCode::PARTIAL_CONTENT, part.first(), Some(part.last().saturating_add(1)), Some(part.count()))
        }
    };
    let (from, outcome) = match (is_hit, flight.is_uncached()) {
        (true, _) => (ByteSource::Disk, RequestOutcome::Hit),
        (false, true) => (ByteSource::Upstream, RequestOutcome::Passed),
        (false, false) => (ByteSource::Upstream, RequestOutcome::Miss),
    };
    let what = source.what().to_owned();
    let mut chunks = BlobChunks {
        reader: FlightReader::new(flight, start, end, source),
        files: None,
        context: Arc::clone(context),
        at: at.clone(),
    };
    let sent = context.metrics.sent(from);
    let mut reply = match (&request.files, count) {
        (Some(files), Some(count)) => {
            chunks.files = Some(files.clone());
            reply_from_files(status, chunks, count, sent, what)
        }
        _ => reply(status, body(chunks, count, sent, what)),
    };
    describe_blob(reply.headers_mut(), digest, part.as_ref());
    Ok(Served { reply, outcome })
}

/// The bytes of a reply about a blob.
struct BlobChunks {
    reader: FlightReader<UpstreamBlob>,
    /// Sends by sendfile the bytes that the system has in memory; `None` if the connection cannot do this.
    files: Option<FileSender>,
    context: Arc<CacheContext>,
    at: UpstreamPath,
}

impl BodyChunks for BlobChunks {
    type Fault = Arc<FlightFault<UpstreamFault>>;

    async fn next(&mut self) -> Result<Option<BodyChunk>, Self::Fault> {
        if let Some(sent) = self.send_from_memory().await {
            return Ok(Some(BodyChunk::SentFromFile(sent)));
        }
        let next = self.reader.next().await;
        if next.as_ref().is_err_and(|fault| fault.is_other_content()) {
            // A newer superblock may have the digest of these bytes. So the known superblock is forgotten, and the next
            // request fetches it again.
            self.context.superblocks.doubt(&self.at.origin, &self.at.path);
        }
        if let Ok(Some(bytes)) = &next {
            self.context.metrics.blob_sent(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        Ok(next?.map(BodyChunk::Bytes))
    }
}

impl BlobChunks {
    /// Sends the next bytes from their file, if the system has them in memory. For bytes that are only on disk,
    /// sendfile would block all clients of this worker.
    async fn send_from_memory(&mut self) -> Option<u64> {
        let sent = match self.files.as_ref()?.send(self.reader.in_memory()?).await {
            Ok(sent) => sent,
            Err(error) => {
                log::debug!("sendfile fails, so the rest of this reply is read from the files: {error}");
                self.files = None;
                return None;
            }
        };
        self.reader.skip(sent);
        self.context.metrics.blob_sent(sent);
        Some(sent)
    }
}
