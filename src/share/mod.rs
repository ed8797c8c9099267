//! Several instances, one swarm: each instance tells the others what it hears of peers.
//!
//! Each instance answers announces from its own memory, so no announce waits for another instance. The instance writes
//! what it hears of peers into logs, as batches of records, and all instances follow the logs. The server that keeps the
//! logs is a Redis or a Valkey; the code calls it the engine. This module decides which announces are shared, and encodes
//! and decodes the batches. It does no I/O and reads no clock.

mod batch;
mod gate;
mod pending;
mod receive;
#[cfg(test)]
mod simulation;
mod state;
mod swarms;
mod time;
mod zones;

pub use batch::{BatchError, DecodedBatch, Faults, MAX_RECORDS, RecordBatch, SharedRecord};
pub use gate::{ShareGate, ShareReason};
pub use pending::{PARTITIONS, Partition, PendingBatch, PendingRecords};
pub use receive::{Receipt, receive};
pub use state::{Alone, ShareState};
pub use swarms::SharedSwarms;
pub use time::{EngineClock, EngineTime, ago};
pub use zones::{UnknownZone, ZoneMap, fingerprint};
