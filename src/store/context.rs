//! What operations on a swarm need besides the announce.

use super::time::{Rhythm, Tick, TtlTicks};
use crate::topology::Topology;

/// The current time, the time limits and the topology for an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreContext<'a> {
    pub(super) now: Tick,
    pub(super) life: TtlTicks,
    pub(super) rhythm: Rhythm,
    pub(super) topology: &'a Topology,
}
