//! What operations on a swarm need besides the announce.

use super::time::{Rhythm, Tick, TtlTicks};
use crate::clock::Timestamp;
use crate::topology::Topology;

/// The current time, the time limits and the topology for an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreContext<'a> {
    pub(super) now: Tick,
    pub(super) life: TtlTicks,
    pub(super) rhythm: Rhythm,
    pub(super) topology: &'a Topology,
    pub(super) hearer: Hearer,
}

/// Which instance has heard the announce.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hearer {
    /// This instance, which shares no swarms with other instances.
    Alone,
    /// This instance, which shares its swarms with other instances. The value is the present moment.
    Sharing(Timestamp),
    /// Another instance, which has sent a record of the announce.
    Another,
}
