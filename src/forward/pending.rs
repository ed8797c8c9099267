//! What an announce gets from the forwarders: lists that are there, and lists that it may wait for.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::forwarder::Forwarder;
use super::list::UpstreamPeers;
use crate::metrics::WaitMetrics;

/// One list for each forwarder that gave one, or one list that combines them all.
pub(super) type UpstreamLists = SmallVec<[Arc<UpstreamPeers>; 4]>;

/// The lists for an announce.
#[derive(Clone, Debug, Default)]
pub struct UpstreamPeerSet {
    /// The lists that were there at once, in the order of configuration, then the lists that the announce waited for.
    pub lists: UpstreamLists,
    /// Whether a list is still to come. Then the client is asked to announce again soon.
    pub pending: bool,
}

/// The lists that an announce may wait for: the next list of each forwarder that has no list for the client's role.
#[derive(Debug)]
pub struct PendingLists {
    pub(super) gathered: UpstreamPeerSet,
    pub(super) waits: Vec<Wait>,
    pub(super) deadline: Instant,
    pub(super) metrics: WaitMetrics,
}

/// A wait for the list of one forwarder.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) list: oneshot::Receiver<Arc<UpstreamPeers>>,
    pub(super) forwarder: Arc<Forwarder>,
}

impl Wait {
    /// Waits for the list. `None` if the exchange brings no list, or if announces no longer wait for the forwarder.
    async fn list(&mut self) -> Option<Arc<UpstreamPeers>> {
        tokio::select! {
            list = &mut self.list => list.ok(),
            () = self.forwarder.promptness().becomes_late() => None,
        }
    }
}

impl PendingLists {
    /// Waits until each exchange has brought its list or failed, the lists are `enough`, or the deadline passes.
    pub async fn gather(self, enough: impl Fn(&[Arc<UpstreamPeers>]) -> bool) -> UpstreamPeerSet {
        let Self { gathered: UpstreamPeerSet { mut lists, pending }, waits, deadline, metrics } = self;
        let forwarders: Vec<_> = waits.iter().map(|wait| Arc::clone(&wait.forwarder)).collect();
        let each = waits.into_iter().zip(&forwarders).map(|(mut wait, forwarder)| async move {
            let list = wait.list().await;
            // `None`: the exchange has failed, or the forwarder is late. The loop below asks the forwarder which of the
            // two it is.
            (list, forwarder)
        });
        let mut waits: FuturesUnordered<_> = each.collect();
        let mut open: Vec<_> = forwarders.iter().collect();
        let mut missed = false;
        let ended = loop {
            if enough(&lists) {
                break &metrics.enough;
            }
            match timeout_at(deadline, waits.next()).await {
                Ok(Some((list, forwarder))) => {
                    open.retain(|other| !Arc::ptr_eq(other, forwarder));
                    missed |= list.is_none() && !forwarder.promptness().is_prompt();
                    lists.extend(list);
                }
                Ok(None) => break &metrics.done,
                Err(_) => {
                    open.iter().for_each(|forwarder| forwarder.set_late());
                    break &metrics.deadline;
                }
            }
        };
        ended.inc();
        UpstreamPeerSet { lists, pending: pending || missed || !waits.is_empty() }
    }
}
