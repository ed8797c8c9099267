//! What other instances have heard of the clients.

use std::num::NonZeroU16;

use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Clients;
use crate::forward::announce::ClientKey;
use crate::forward::client::ForwardedClient;
use crate::forward::elsewhere::{ClientElsewhere, ClientNews};
use crate::forward::forwarder::Exchange;

impl Clients {
    /// Records what another instance heard of a client at `at`. Returns the `stopped` exchanges that begin if it has
    /// left.
    pub(in crate::forward::torrent) fn heard_elsewhere(
        &mut self,
        client: &ClientElsewhere,
        at: Instant,
        open_stops: &TaskTracker,
        now: Instant,
    ) -> Vec<Exchange> {
        match client.news {
            ClientNews::Announced(port) => {
                self.moved_elsewhere(client, port, at);
                Vec::new()
            }
            ClientNews::Left(port) => self.left_elsewhere(client, port, at, open_stops, now),
        }
    }

    /// The client now announces to another instance, which told the upstream trackers. So this instance forgets the
    /// client, its earlier port, and an earlier client at this port. At upstream trackers that compare only ids or only
    /// endpoints, a `stopped` for one of the three would remove the client.
    fn moved_elsewhere(
        &mut self,
        &ClientElsewhere { ip, peer_id, is_claim, .. }: &ClientElsewhere,
        port: NonZeroU16,
        at: Instant,
    ) {
        let replaced = self.endpoints.sole(&(ip, port)).map(|peer_id| ClientKey { peer_id, port });
        let earlier = self.ports.sole(&(peer_id, ip)).map(|port| ClientKey { peer_id, port });
        for key in [Some(ClientKey { peer_id, port }), replaced, earlier].into_iter().flatten() {
            let Some(client) = self.by_key.get_mut(&key) else { continue };
            if client.forget_host(ip, is_claim, at) {
                let is_gone = client.is_gone();
                self.vacate(key, ip);
                if is_gone {
                    self.remove(key);
                }
            }
        }
    }

    /// The client has left. The instance that announced it upstream says so there.
    fn left_elsewhere(
        &mut self,
        &ClientElsewhere { ip, peer_id, is_claim, .. }: &ClientElsewhere,
        port: Option<NonZeroU16>,
        at: Instant,
        open_stops: &TaskTracker,
        now: Instant,
    ) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let ports: SmallVec<[NonZeroU16; 2]> = match port {
            Some(port) => std::iter::once(port).collect(),
            None => self.ports.all(&(peer_id, ip)).collect(),
        };
        for key in ports.into_iter().map(|port| ClientKey { peer_id, port }) {
            let has_left = |client: &&mut Box<ForwardedClient>| client.has_left_elsewhere(ip, is_claim, at);
            let Some(client) = self.by_key.get_mut(&key).filter(has_left) else { continue };
            client.host_left(ip, None, Some(open_stops), now);
            client.begin_stops(self.torrent, now, &mut exchanges);
            self.after_leaving(key, ip);
        }
        exchanges
    }
}
