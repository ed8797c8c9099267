//! Builds the parts with which this instance shares its swarms with other instances.

use std::sync::Arc;
use std::time::SystemTime;

use crate::forward::VisitPeers;
use crate::frontend::listen::Audience;
use crate::metrics::ShareMetrics;
use crate::share::{ShareGate, ShareState, SharedSwarms};
use crate::share_link::{ShareLink, ShareOptions, ShareParts};
use crate::store::{Store, StoreOptions};
use crate::topology::Topology;
use crate::tracker::Tracker;

/// The parts that the tracker, the pages and the loop of [`ShareLink`] have in common.
pub(super) struct SharedParts {
    options: StoreOptions,
    swarms: Arc<SharedSwarms>,
    state: Arc<ShareState>,
    metrics: ShareMetrics,
}

impl SharedParts {
    pub(super) fn new(store: &StoreOptions, share: &ShareOptions, metrics: ShareMetrics) -> Self {
        Self {
            options: *store,
            swarms: Arc::new(SharedSwarms::new(store.peer_age)),
            state: Arc::new(ShareState::new(share.warm_up, SystemTime::now())),
            metrics,
        }
    }

    /// Returns three parts: the tracker, which now shares its announces with the other instances; the state, which says
    /// whether this instance hears the others; and the link, whose loop does not run yet.
    pub(super) fn build(
        self,
        options: ShareOptions,
        tracker: Tracker,
        store: Arc<Store>,
        topology: Topology,
        listening: &[(String, Audience)],
    ) -> (Tracker, Option<Arc<ShareState>>, Option<ShareLink>) {
        let (tracker, state) = (self.tracker(tracker), Arc::clone(&self.state));
        let link = self.link(options, &tracker, store, topology, listening);
        (tracker, Some(state), Some(link))
    }

    /// Makes the tracker share its announces with the other instances.
    fn tracker(&self, tracker: Tracker) -> Tracker {
        tracker.sharing(Arc::clone(&self.swarms), self.metrics.sent.clone())
    }

    /// Makes the link, without starting its loop.
    fn link(
        self,
        options: ShareOptions,
        tracker: &Tracker,
        store: Arc<Store>,
        topology: Topology,
        listening: &[(String, Audience)],
    ) -> ShareLink {
        let Self { options: StoreOptions { peer_age, announce_interval, .. }, swarms, state, metrics } = self;
        // An upstream tracker may list clients of any instance. The store knows the clients of all instances, so
        // forwarding recognises them with the help of the store.
        let (known, clock) = (Arc::clone(&store), tracker.clock());
        let visit: VisitPeers = Box::new(move |info_hash, visit| known.visit_peers(clock.now(), info_hash, visit));
        let forwarding = tracker.forwarders().map(|forwarders| forwarders.other_instances(visit));
        let of_clients = listening.iter().filter(|(_, audience)| *audience == Audience::Clients);
        let parts = ShareParts {
            store,
            topology,
            clock: tracker.clock(),
            shared: swarms,
            state,
            metrics,
            retention: ShareGate::retention(peer_age, announce_interval),
            addresses: of_clients.map(|(address, _)| address.clone()).collect(),
            forwarding,
        };
        ShareLink::new(options, parts)
    }
}
