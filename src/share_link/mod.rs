//! The loop that writes what this instance hears into logs, and reads what all instances have written there. The logs
//! are in the engine: a Redis or a Valkey.
//!
//! The loop runs on a thread of its own. An announce only appends to a list in memory ([`crate::share`]), so no announce
//! waits or fails if the engine hangs, ends or comes back empty. Ten times a second, one pipeline writes the records that
//! wait and reads new entries. [`ShareLink`] says how lost records are repaired.

mod address;
mod connection;
mod entry;
mod error;
mod exchange;
mod follower;
mod forwarding;
mod instances;
mod keys;
mod link;
mod outbox;
mod parts;
mod probe;
mod reply;
mod sentinel;
mod stream;
mod survey;
mod target;

pub use link::ShareLink;
pub use parts::ShareParts;
pub use probe::{ShareVerdict, probe};
pub use target::{EnginePassword, EngineTarget, ShareOptions};
