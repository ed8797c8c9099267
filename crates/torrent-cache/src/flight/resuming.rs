//! A body that is continued where it broke.

use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::{sleep, timeout};

use super::source::{BlobBody, BlobSource, FlightFault, OpenedBody};

/// The most attempts to continue without a new byte.
pub(super) const ATTEMPTS: u32 = 5;
/// The pause before the first attempt. It doubles with each further attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// The bytes of a blob from one place to its end, from as many replies as it takes.
pub(super) struct ResumingBody<S: BlobSource> {
    source: S,
    body: Option<S::Body>,
    length: Option<u64>,
    /// The place in the blob of the next byte.
    position: u64,
    /// Bytes of the body that are before this place.
    skip: u64,
    ignores_ranges: bool,
    /// Attempts since the last new byte.
    attempts: u32,
}

type SourceFault<S> = FlightFault<<S as BlobSource>::Error>;

impl<S: BlobSource> ResumingBody<S> {
    /// Opens nothing yet. `length` is the whole blob's, if it is known.
    pub(super) fn new(source: S, position: u64, length: Option<u64>) -> Self {
        Self { source, body: None, length, position, skip: 0, ignores_ranges: false, attempts: 0 }
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Gives the opened body back to the source. Only for a body of which nothing was read.
    pub(super) fn give_back(self) {
        if let Some(body) = self.body {
            let unread = OpenedBody { offset: self.position - self.skip, length: self.length, body };
            self.source.take_back(unread);
        }
    }

    /// Whether a reply is being read.
    pub(super) fn is_open(&self) -> bool {
        self.body.is_some()
    }

    /// Whether the upstream has sent the whole blob although it was asked for a part.
    pub(super) fn ignores_ranges(&self) -> bool {
        self.ignores_ranges
    }

    /// One attempt to open the body.
    pub(super) async fn open(&mut self) -> Result<(), SourceFault<S>> {
        let opened = timeout(self.source.longest_silence(), self.source.open(self.position)).await;
        let OpenedBody { offset, length, body } =
            opened.map_err(|_| FlightFault::Silent)?.map_err(FlightFault::Source)?;
        let (asked, got) = (self.position, offset);
        self.skip = asked.checked_sub(got).ok_or(FlightFault::Misplaced { asked, got })?;
        self.ignores_ranges = self.skip > 0;
        if let (Some(first), Some(then)) = (self.length, length)
            && first != then
        {
            return Err(FlightFault::LengthChanged { first, then });
        }
        self.length = self.length.or(length);
        self.body = Some(body);
        Ok(())
    }

    /// The next bytes, never empty; `None` at the blob's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SourceFault<S>> {
        while self.length != Some(self.position) {
            match self.attempt().await {
                Ok(Some(bytes)) => {
                    self.attempts = 0;
                    return Ok(Some(bytes));
                }
                Ok(None) => {}
                Err(fault) if fault.is_temporary() && self.attempts < ATTEMPTS => {
                    log::info!("a fetch broke at byte {}, and continues there: {fault}", self.position);
                    self.body = None;
                    sleep(PAUSE * (1 << self.attempts)).await;
                    self.attempts += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    /// `None`: nothing new this time.
    async fn attempt(&mut self) -> Result<Option<Bytes>, SourceFault<S>> {
        let Some(body) = &mut self.body else {
            self.open().await?;
            return Ok(None);
        };
        let chunk = timeout(self.source.longest_silence(), body.chunk()).await.map_err(|_| FlightFault::Silent)?;
        let Some(mut bytes) = chunk.map_err(FlightFault::Source)? else {
            return self.end_of_body();
        };
        let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        bytes.advance(skipped);
        self.skip -= skipped as u64;
        let position = self.position + bytes.len() as u64;
        if let Some(length) = self.length.filter(|length| *length < position) {
            return Err(FlightFault::TooLong { length });
        }
        self.position = position;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Without a length, the blob ends where the body ends, once it was read up to its place.
    fn end_of_body(&mut self) -> Result<Option<Bytes>, SourceFault<S>> {
        match self.length {
            Some(length) => Err(FlightFault::TooShort { length, got: self.position }),
            None if self.skip > 0 => {
                Err(FlightFault::TooShort { length: self.position, got: self.position - self.skip })
            }
            None => {
                self.length = Some(self.position);
                Ok(None)
            }
        }
    }
}
