//! What forwarding gives an announce: the lists that are there, and those that it may wait for.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::forwarder::Forwarder;
use super::list::UpstreamPeers;
use crate::metrics::WaitMetrics;

/// Lists, one of each forwarder that has given one.
pub(super) type UpstreamLists = SmallVec<[Arc<UpstreamPeers>; 4]>;

/// What the forwarders gave for an announce.
#[derive(Clone, Debug, Default)]
pub struct UpstreamPeerSet {
    /// Their lists, in the order of configuration as far as they were there already.
    pub lists: UpstreamLists,
    /// Whether a forwarder is being asked that has not answered yet: it may be worth to come back soon.
    pub pending: bool,
}

/// What an announce may wait for: lists of forwarders that are being asked and have given nothing yet.
#[derive(Debug)]
pub struct PendingLists {
    pub(super) gathered: UpstreamPeerSet,
    pub(super) waits: Vec<Wait>,
    pub(super) deadline: Instant,
    pub(super) metrics: WaitMetrics,
}

/// What an announce waits for: a list of one forwarder.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) list: oneshot::Receiver<Arc<UpstreamPeers>>,
    pub(super) forwarder: Arc<Forwarder>,
}

impl Wait {
    /// The list; none if the exchange brings none, or the forwarder turns out to be too late to be waited for.
    async fn list(&mut self) -> Option<Arc<UpstreamPeers>> {
        tokio::select! {
            list = &mut self.list => list.ok(),
            () = self.forwarder.becomes_late() => None,
        }
    }
}

impl PendingLists {
    /// Waits until there is a list of each forwarder that was asked or it has failed, the lists are `enough`, or the
    /// deadline has passed.
    pub async fn gather(self, enough: impl Fn(&[Arc<UpstreamPeers>]) -> bool) -> UpstreamPeerSet {
        let Self { gathered: UpstreamPeerSet { mut lists, pending }, waits, deadline, metrics } = self;
        let forwarders: Vec<_> = waits.iter().map(|wait| Arc::clone(&wait.forwarder)).collect();
        let each = waits.into_iter().zip(&forwarders).map(|(mut wait, forwarder)| async move {
            let list = wait.list().await;
            // Late is not done: its list is still to come.
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
                    missed |= list.is_none() && !forwarder.is_prompt();
                    lists.extend(list);
                }
                Ok(None) => break &metrics.done,
                Err(_) => {
                    open.iter().for_each(|forwarder| forwarder.is_late());
                    break &metrics.deadline;
                }
            }
        };
        ended.inc();
        UpstreamPeerSet { lists, pending: pending || missed || !waits.is_empty() }
    }
}
