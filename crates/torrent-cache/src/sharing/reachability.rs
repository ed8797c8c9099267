//! Whether other hosts can connect to this one.

use crate::swarm_tracker::{PortReach, SwarmTracker, TrackerFault};

/// Has the tracker connect to this host's port, and says in the log how that went. In a container, the port can be published
/// under another number, and then peers try one at which nothing listens. The engine takes the connection of every host and
/// closes it if the host is in none of `PEER_NETWORKS`, so success does not prove that these are right.
pub(super) async fn log_reachability(tracker: &SwarmTracker) {
    match tracker.reach().await {
        Ok(PortReach { address, reached: true }) => log::info!("other hosts reach this one at {address}"),
        Ok(PortReach { address, reached: false }) => log::warn!("{}", unreached(address.port(), &address.to_string())),
        // A tracker of an older version does not have this call.
        Err(error) if matches!(error.fault, TrackerFault::WrongReply(_)) => {
            log::debug!("it is not known whether other hosts reach this one: {error}");
        }
        Err(error) => log::info!("it is not known whether other hosts reach this one: {error}"),
    }
}

/// What the operator reads.
fn unreached(port: u16, address: &str) -> String {
    format!(
        "the tracker could not connect to {address}, so other hosts get no blobs from this one; in a container, publish the \
         ports with the same numbers, such as -p 6881-6891:6881-6891, or use the host's network; else open port {port} (TCP) \
         in the firewall"
    )
}
