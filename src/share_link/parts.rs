//! The parts of the tracker that the loop needs.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::forward::OtherInstances;
use crate::metrics::ShareMetrics;
use crate::share::{ShareState, SharedSwarms};
use crate::store::Store;
use crate::topology::Topology;

/// The parts that the loop needs.
#[derive(Debug)]
pub struct ShareParts {
    /// The peers of this instance.
    pub store: Arc<Store>,
    /// The zones of this instance.
    pub topology: Topology,
    /// The clock that the tracker uses.
    pub clock: Clock,
    /// The records of announces, which the loop writes.
    pub shared: Arc<SharedSwarms>,
    /// Whether this instance hears the others. The loop sets the state, and the pages show it.
    pub state: Arc<ShareState>,
    /// The handles of the metrics.
    pub metrics: ShareMetrics,
    /// How long the logs are kept.
    pub retention: Duration,
    /// The addresses on which this instance listens.
    pub addresses: Vec<String>,
    /// Tells the forwarders about the other instances. `None` if there are no forwarders.
    pub forwarding: Option<OtherInstances>,
}
