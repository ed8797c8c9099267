//! Whether other hosts can connect to this one.

use crate::swarm_tracker::{PortReach, SwarmTracker, TrackerFault};

/// Has the tracker connect to this host's port, and logs the result. The connection fails, for example, if a container
/// publishes the port under another number, because the tracker only knows the number inside the container. Success
/// does not prove that `PEER_NETWORKS` is right, because this host accepts every connection before it looks at the
/// networks.
pub(super) async fn log_reachability(tracker: &SwarmTracker) {
    match tracker.reach().await {
        Ok(PortReach { address, reached: true }) => log::info!("other hosts reach this one at {address}"),
        Ok(PortReach { address, reached: false }) => log::warn!("{}", unreached(address.port(), &address.to_string())),
        // A tracker of an older version does not know this call.
        Err(error) if matches!(error.fault, TrackerFault::WrongReply(_)) => {
            log::debug!("it is not known whether other hosts reach this one: {error}");
        }
        Err(error) => log::info!("it is not known whether other hosts reach this one: {error}"),
    }
}

/// Returns the warning for a port that the tracker could not reach, with the remedies.
fn unreached(port: u16, address: &str) -> String {
    format!(
        "the tracker could not connect to {address}, so other hosts get no blobs from this one; in a container, publish the \
         ports with the same numbers, such as -p 6881-6891:6881-6891, or use the host's network; else open port {port} (TCP) \
         in the firewall"
    )
}
