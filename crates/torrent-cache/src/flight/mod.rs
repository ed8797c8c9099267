//! One fetch of a blob for any number of clients.
//!
//! A *flight* is one fetch of one blob from one upstream ([`FlightKey`]). Here, a blob is anything that a `ContentName`
//! names, also a file object of OSTree. `ContentVerifier` decides which bytes are right. The first client that asks
//! starts the flight, and later clients join it ([`Flights::join`]). The flight's task writes what arrives to a file of
//! the store (the *spool*). Each client's [`FlightReader`] reads from the spool, which is in the page cache.
//!
//! - **The store is asked first.** If the store has the blob, the flight opens no source, unless
//!   [`BlobSource::stored_digest`] forbids the store's copy. The first flight of a stored blob in a process verifies
//!   the file while readers read (`stored.rs`).
//! - **No complete reply is wrong.** Every reader keeps back the last byte of its reply until the whole blob is
//!   verified. A reply about a wrong blob is cut off. An empty reply has no last byte, so the flight of an empty blob
//!   opens only when the blob is verified.
//! - **The task depends on no client.** It gives up only if the flight has no reader for a minute and less than half of
//!   the blob is there. It always ends, because each wait for the upstream has a limit. If the task is dropped, its
//!   readers get an error. At most 128 fetches run at once.
//! - **A fetch that breaks is continued** at the byte where it broke (`resuming.rs`), with the source of the client
//!   that started the flight. If the upstream sends the whole blob again, the bytes before that place are skipped.
//!   Bytes of two replies can make one blob, because the verifier checks the whole. If the upstream now refuses the
//!   client, because its token has expired, the flight ends as *uncached*.
//! - **A flight ends as *uncached*** if the store has no room, the disk fails midway, or the source fails for its own
//!   client only. The readers read what is in the spool, and then the rest from their own sources (`pass_through.rs`).
//!   If the lack of room shows after a body was opened, the body goes back to its source ([`BlobSource::take_back`])
//!   for the client's own reader. Each reader gets a copy of the verifier as it was at the end of the spool, and
//!   verifies the rest itself. So a reader of a range must read to the blob's end. The server should send the whole
//!   blob if [`Flight::is_uncached`].
//! - **Memory**: the task holds 1 MiB and one chunk of the source. Each reader holds one chunk.
//! - **Threads**: disk work and verifying run in `spawn_blocking`.
//!
//! `spawn_local` runs the task, because sources need not be `Send`. Everything that clients share is `Send + Sync`.

mod fetch;
mod flights;
mod pass_through;
mod reader;
mod resuming;
mod shared;
mod source;
mod state;
mod stored;
mod summary;
#[cfg(test)]
mod tests;
mod transfer;

pub use flights::Flights;
pub use reader::{FilePart, FlightReader};
pub use source::{BlobBody, BlobSource, FlightFault, LONGEST_SILENCE, LandedContent, OpenedBody, SourceError};
pub use state::{Flight, FlightKey};
pub use summary::FlightSummary;

/// The most bytes that a reader reads at a time, and that a flight's task holds in memory until they are on disk.
const CHUNK: u32 = 1 << 20;
