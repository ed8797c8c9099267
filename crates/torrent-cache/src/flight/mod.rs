//! One fetch of a blob for any number of clients.
//!
//! A *flight* is one fetch of one blob from one upstream ([`FlightKey`]). A blob is here whatever a `ContentName` names, a
//! file object of OSTree as well: `ContentVerifier` decides which bytes are right. The first client that asks starts it,
//! and those who ask while it lasts join it ([`Flights::join`]). Its task writes what arrives to a file of the store (the
//! *spool*), and each client's [`FlightReader`] reads from that file, which is in the page cache.
//!
//! - **The store is asked first.** For a blob that it has no source is opened, unless the source may not take it from there
//!   ([`BlobSource::stored_digest`]). The first flight of it in a process verifies it while readers read (`stored.rs`).
//! - **No complete reply is wrong.** Every reader keeps back the last byte of its reply until the whole blob is verified.
//!   A reply about a wrong blob is cut off. A flight whose blob is empty opens only when that is known.
//! - **The task owes nothing to a client.** It goes on when all readers have left, unless less than half of the blob is
//!   there and it has no reader for a minute. It ends in every case: each wait for the upstream has a limit, and if the task
//!   is dropped, its readers get an error. There are at most 128 fetches at once.
//! - **A fetch that breaks is continued** where it stopped (`resuming.rs`), with the source of the client that started
//!   the flight. An upstream that sends the whole blob again is read up to that place. Bytes of two replies can so make
//!   one blob: the verifier decides. If the upstream refuses that client now, because its token has ended, the flight ends
//!   as *uncached*.
//! - **Without the store** (no room at the start, a disk that fails midway), or without a source, the flight ends as
//!   *uncached*. Its readers read what is in the spool, and then the rest from their own source (`pass_through.rs`). A body
//!   that was opened before the lack of room was known goes back to its source ([`BlobSource::take_back`]), so that its
//!   client's reader gets it. The verifier at the end of the spool goes to each reader, so each one verifies the whole blob
//!   by itself. For this a reader of a range reads up to the blob's end. The server does better if it answers the whole
//!   blob to a request with a range when [`Flight::is_uncached`].
//! - **Memory**: 1 MiB and one chunk of the source for the task, one chunk for each reader.
//! - **Threads**: disk work and verifying are done in `spawn_blocking`.
//!
//! The task is spawned by `spawn_local`, as sources need not be `Send`. Everything that clients share is `Send + Sync`.

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

/// The most bytes that a reader reads at a time, and the most that the task of a flight holds in memory until they are on
/// disk.
const CHUNK: u32 = 1 << 20;
