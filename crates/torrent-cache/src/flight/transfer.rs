//! What fetches with the swarm and without it have in common.

use std::io;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::source::FlightFault;
use super::state::Flight;
use crate::store::IncomingBlob;

/// How long a fetch goes on without a reader, if less than half of the blob is there.
pub(super) const GRACE: Duration = Duration::from_mins(1);

/// What has arrived, and how the transfer ended.
pub(super) struct Transferred<E> {
    pub(super) incoming: IncomingBlob,
    /// Whether the upstream sent everything.
    pub(super) received: Result<(), FlightFault<E>>,
    /// Whether the disk took everything.
    pub(super) written: io::Result<()>,
}

/// Returns when there has been no reader for [`GRACE`] and less than half of the blob is there.
pub(super) async fn unwanted<E>(flight: &Flight<E>) {
    loop {
        flight.state.closed().await;
        sleep(GRACE).await;
        if flight.is_unwanted() {
            return;
        }
    }
}

/// Runs blocking work on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static, E>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FlightFault<E>> {
    spawn_blocking(work).await.map_err(|_| FlightFault::Abandoned)
}
