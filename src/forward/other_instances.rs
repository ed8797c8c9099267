//! What forwarding learns from the other instances of this tracker, and what it tells them.
//!
//! The instance that hears a client announces it upstream. When a client moves to another instance, the old instance
//! drops the client's sessions without a `stopped`. At a `stopped`, the upstream would remove a client that is still
//! there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::elsewhere::{ClientElsewhere, PeersElsewhere, VisitPeers};
use super::exchange::ExchangeReply;
use super::forwarder::Forwarder;
use super::own_peers::OwnPeers;
use super::state::ForwardState;
use super::torrent::Torrent;
use crate::clock;
use tracker_protocol::InfoHash;

/// The handle with which the other instances reach the forwarders.
#[derive(Clone, Debug)]
pub struct OtherInstances {
    shared: Arc<ForwardState>,
    /// Our name in `Via`.
    name: String,
    open_stops: TaskTracker,
}

impl OtherInstances {
    /// `visit` lists the peers of all instances. They are removed from the replies of upstream trackers.
    pub(super) fn new(shared: &Arc<ForwardState>, name: &str, open_stops: &TaskTracker, visit: VisitPeers) -> Self {
        // `set` fails only if an earlier call has set the peers.
        let _ = shared.elsewhere.set(PeersElsewhere::new(visit));
        Self { shared: Arc::clone(shared), name: name.to_owned(), open_stops: open_stops.clone() }
    }

    /// Takes note of what another instance heard of a client, this long `ago`. If this instance has heard the client
    /// since then, nothing changes. Otherwise the client's sessions end: with a `stopped` if the client left, without a
    /// `stopped` if the client announced to the other instance.
    pub fn heard(&self, client: &ClientElsewhere, ago: Duration) {
        let now = clock::now();
        // The clock cannot represent so early a time. So this process has heard the client later, or not at all.
        let Some(at) = now.checked_sub(ago) else { return };
        let heard = |torrent: &mut Torrent| torrent.heard_elsewhere(client, at, &self.open_stops, now);
        let exchanges = self.shared.torrents.with_known(client.info_hash, None, heard);
        exchanges.into_iter().flatten().for_each(|exchange| self.shared.send(exchange));
    }

    /// Returns our name in `Via`.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Sets the names of the other instances in `Via`. An announce that names one of them has come back to us.
    pub fn set_names(&self, names: Vec<String>) {
        *self.shared.names_elsewhere.write() = names;
    }

    /// Returns the URL of each forwarder, and our addresses as its upstream sees them.
    pub fn addresses(&self) -> Vec<(String, Vec<IpAddr>)> {
        let set = self.shared.set.read();
        set.forwarders.iter().map(|forwarder| (forwarder.url(), forwarder.own_addresses().here())).collect()
    }

    /// Sets the other instances' addresses as upstream trackers see them. `of` returns the addresses that the upstream
    /// at a URL sees.
    pub fn set_addresses(&self, of: impl Fn(&str) -> Vec<IpAddr>) {
        for forwarder in &self.shared.set.read().forwarders {
            let addresses = of(&forwarder.url());
            forwarder.own_addresses().set_elsewhere(addresses);
        }
    }
}

/// Returns those clients of the other instances that a reply may list. The caller adds this instance's clients.
pub(super) fn own_peers(
    shared: &ForwardState,
    forwarder: &Forwarder,
    info_hash: InfoHash,
    answer: &ExchangeReply,
) -> OwnPeers {
    let mut own = OwnPeers::in_reply(&answer.reply, forwarder.own_addresses().in_reply(answer));
    if !answer.reply.peers.is_empty() {
        shared.elsewhere.get().into_iter().for_each(|elsewhere| elsewhere.add_to(&mut own, info_hash));
    }
    own
}
