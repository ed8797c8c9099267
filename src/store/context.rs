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

/// Who has heard the announce.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hearer {
    /// This instance, which tells no other instance.
    Alone,
    /// This instance, which tells others. With the present moment.
    Sharing(Timestamp),
    /// Another instance, which has told this one.
    Another,
}
