//! A visit of all peers of a swarm.

use std::net::SocketAddr;

use super::client_id::Prefixes;
use super::peers::Peers;
use super::swarm::Swarm;
use super::time::{Tick, TtlTicks};
use tracker_protocol::{Ip, PeerId};

/// The most peers of each family that are visited. A longer visit would hold the lock too long.
const MOST: usize = 10_000;

impl Swarm {
    /// Calls `visit` with the peers that have not expired: their endpoints, and their ids if they are known.
    pub(super) fn visit_peers(
        &self,
        now: Tick,
        life: TtlTicks,
        prefixes: &Prefixes,
        visit: &mut dyn FnMut(SocketAddr, Option<PeerId>),
    ) {
        fn family<A: Ip>(
            peers: &Peers<A>,
            (now, life): (Tick, TtlTicks),
            prefixes: &Prefixes,
            visit: &mut dyn FnMut(SocketAddr, Option<PeerId>),
        ) {
            let unexpired = peers.iter().take(MOST).filter(|entry| !life.is_over(now.since(entry.seen())));
            unexpired.for_each(|entry| visit(entry.endpoint().into(), prefixes.restore(entry.id())));
        }
        family(self.v4(), (now, life), prefixes, visit);
        self.v6().into_iter().for_each(|v6| family(v6, (now, life), prefixes, visit));
    }
}
