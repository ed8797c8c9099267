//! The rest of a reply that cannot come from the store. The bytes come from the upstream, and the reader verifies them.

use std::mem;
use std::ops::Range;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::resuming::ResumingBody;
use super::source::{BlobSource, FlightFault};
use crate::content::ContentVerifier;

/// Wanted bytes of a blob. The last chunk of them is kept back until the whole blob is verified.
pub(super) struct PassThrough<S: BlobSource> {
    /// The blob's bytes, from the first byte that the verifier does not have.
    body: ResumingBody<S>,
    /// `None` while another thread verifies bytes.
    verifier: Option<ContentVerifier>,
    wanted: Range<u64>,
    held_back: Bytes,
}

impl<S: BlobSource> PassThrough<S> {
    /// Opens nothing yet. `verifier` has all bytes before the body. `held_back` is the part of these bytes that the
    /// client wants and did not get yet.
    pub(super) fn new(body: ResumingBody<S>, verifier: ContentVerifier, wanted: Range<u64>, held_back: Bytes) -> Self {
        Self { body, verifier: Some(verifier), wanted, held_back }
    }

    /// Returns the next bytes, at least one; `None` at the reply's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FlightFault<S::Error>> {
        while let Some(bytes) = self.body.next().await? {
            self.verify(bytes.clone()).await?;
            let part = part_of(&bytes, self.body.position() - bytes.len() as u64, &self.wanted);
            if !part.is_empty() {
                let ready = mem::replace(&mut self.held_back, part);
                if !ready.is_empty() {
                    return Ok(Some(ready));
                }
            }
        }
        let verifier = self.verifier.as_ref().ok_or(FlightFault::Abandoned)?;
        verifier.clone().finish()?;
        Ok(Some(mem::take(&mut self.held_back)).filter(|bytes| !bytes.is_empty()))
    }

    async fn verify(&mut self, bytes: Bytes) -> Result<(), FlightFault<S::Error>> {
        let mut verifier = self.verifier.take().ok_or(FlightFault::Abandoned)?;
        let update = move || {
            verifier.update(&bytes);
            verifier
        };
        self.verifier = Some(spawn_blocking(update).await.map_err(|_| FlightFault::Abandoned)?);
        Ok(())
    }
}

/// Returns the wanted part of `bytes`, which begin at the place `at` of the blob.
fn part_of(bytes: &Bytes, at: u64, wanted: &Range<u64>) -> Bytes {
    let inside = |place: u64| usize::try_from(place.saturating_sub(at)).map_or(bytes.len(), |at| at.min(bytes.len()));
    let (start, end) = (inside(wanted.start), inside(wanted.end));
    bytes.slice(start..end.max(start))
}
