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
    /// Records what another instance heard of a client at the time `at`. Returns the `stopped` exchanges that begin, if
    /// the client has left.
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

    /// The client now announces to another instance, which has told the upstream trackers. So this instance forgets
    /// what it has announced at the client's address: this client, its earlier port, and earlier clients at this port.
    /// A `stopped` for one of them would remove the client at upstream trackers that compare only ids or only
    /// endpoints.
    fn moved_elsewhere(
        &mut self,
        &ClientElsewhere { ip, peer_id, is_claim, .. }: &ClientElsewhere,
        port: NonZeroU16,
        at: Instant,
    ) {
        let replaced = self.endpoints.sole(&(ip, port)).map(|peer_id| ClientKey { peer_id, port });
        let earlier = self.ports.sole(&(peer_id, ip)).map(|port| ClientKey { peer_id, port });
        let key = ClientKey { peer_id, port };
        let predecessors = self.by_key.get(&key).map(|client| client.predecessors.clone()).unwrap_or_default();
        for key in [Some(key), replaced, earlier].into_iter().flatten().chain(predecessors) {
            let Some(client) = self.by_key.get_mut(&key) else { continue };
            let addresses = client.forget_host(ip, is_claim, at);
            let is_gone = client.is_gone();
            addresses.into_iter().for_each(|ip| self.vacate(key, ip));
            if is_gone {
                self.remove(key);
            }
        }
    }

    /// Another instance has heard that the client left. This instance sends `stopped` to the upstream trackers to which
    /// it has announced the client.
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
