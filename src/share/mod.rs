//! Several instances, one swarm: each instance tells the others what it hears of peers.
//!
//! Each instance answers announces from its own memory. What it hears goes in batches into logs that all instances
//! follow. So an announce never waits for another instance. This module decides which announces are shared, and
//! writes and reads the batches. It does no I/O and reads no clock.

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
