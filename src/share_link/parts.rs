//! What the loop works with.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::metrics::ShareMetrics;
use crate::share::{ShareState, SharedSwarms};
use crate::store::Store;
use crate::topology::Topology;

/// What the loop works with.
#[derive(Debug)]
pub struct ShareParts {
    /// The peers of this instance.
    pub store: Arc<Store>,
    /// The zones of this instance.
    pub topology: Topology,
    /// The clock that the tracker uses.
    pub clock: Clock,
    /// What announces have put in.
    pub shared: Arc<SharedSwarms>,
    /// Whether the loop gets through, for the pages.
    pub state: Arc<ShareState>,
    /// The handles of the metrics.
    pub metrics: ShareMetrics,
    /// How long the logs are kept.
    pub retention: Duration,
    /// Where this instance listens.
    pub addresses: Vec<String>,
}
