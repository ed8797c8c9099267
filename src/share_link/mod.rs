//! The loop that writes what this instance hears into the logs of a Redis or Valkey, and follows the logs of all
//! instances.
//!
//! It runs on a thread of its own. An announce only appends to a list in memory ([`crate::share`]), so the engine may
//! hang, end or come back empty, and no announce waits or fails. Ten times a second, one pipeline writes what has
//! gathered and reads what is new. Whatever is lost is repaired: see [`ShareLink`].

mod address;
mod connection;
mod entry;
mod error;
mod exchange;
mod follower;
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
