//! The lists of peers that the forwarders returned for one torrent.

use std::sync::Arc;

use tokio::time::Instant;

use super::at_forwarder::AtForwarder;
use crate::forward::forwarder::{Exchange, Forwarder};
use crate::forward::list::UpstreamPeers;
use crate::forward::pending::UpstreamLists;
use crate::forward::set::{ForwarderSet, Generation};

/// The lists of one torrent.
#[derive(Debug, Default)]
pub(super) struct TorrentLists {
    at: Vec<AtForwarder>,
    combined: Combined,
    /// The exchanges under way, with all forwarders, that should bring a list.
    under_way: usize,
    /// Bytes of the peers in all lists.
    bytes: usize,
}

/// The lists of all forwarders combined. Nearly every announce is answered from here.
#[derive(Debug, Default)]
struct Combined {
    /// The configuration whose forwarders are combined.
    generation: Generation,
    /// First the list for clients that download, then the list for clients that do not.
    lists: [Option<Arc<UpstreamPeers>>; 2],
}

impl TorrentLists {
    /// Returns the torrent's state at a forwarder, if it exists.
    pub(super) fn known_at(&self, forwarder: &Arc<Forwarder>) -> Option<&AtForwarder> {
        self.at.iter().find(|at| Arc::ptr_eq(&at.forwarder, forwarder))
    }

    /// Returns the torrent's state at a forwarder. Creates the state if there is none.
    pub(super) fn at(&mut self, forwarder: &Arc<Forwarder>) -> Option<&mut AtForwarder> {
        let is_it = |at: &AtForwarder| Arc::ptr_eq(&at.forwarder, forwarder);
        if !self.at.iter().any(is_it) {
            // The torrent's first announce creates the states for all forwarders, so spare capacity is rarely used.
            self.at.reserve_exact(1);
            self.at.push(AtForwarder::new(forwarder));
        }
        self.at.iter_mut().find(|at| is_it(at))
    }

    /// Counts the exchanges that are expected to bring a list.
    pub(super) fn count_begun(&mut self, exchanges: &[Exchange]) {
        for exchange in exchanges.iter().filter(|exchange| exchange.brings_list()) {
            if let Some(at) = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, &exchange.forwarder)) {
                at.under_way += 1;
                self.under_way += 1;
            }
        }
    }

    pub(super) fn is_any_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Returns the lists of all forwarders in `set` as one list. `None` if no forwarder has a list.
    pub(super) fn combined(&mut self, set: &ForwarderSet, downloads: bool, now: Instant) -> Option<Arc<UpstreamPeers>> {
        if self.combined.generation != set.generation {
            self.combined = Combined { generation: set.generation, ..Combined::default() };
        }
        let [of_all, of_leechers] = &mut self.combined.lists;
        let combined = if downloads { of_all } else { of_leechers };
        combined.take_if(|list| !list.is_good(now));
        if combined.is_none() {
            let at = |forwarder: &Arc<Forwarder>| self.at.iter().find(|at| Arc::ptr_eq(&at.forwarder, forwarder));
            let lists = set.forwarders.iter().filter_map(at).filter_map(|at| at.lists.best(downloads, now).cloned());
            let lists: UpstreamLists = lists.collect();
            *combined = (!lists.is_empty()).then(|| UpstreamPeers::combined(&lists));
            let list = combined.clone();
            self.update_bytes();
            return list;
        }
        combined.clone()
    }

    /// Stores the list that an exchange brought, if any, and ends the waits for the exchange.
    pub(super) fn exchange_ended(&mut self, exchange: &Exchange, list: Option<&Arc<UpstreamPeers>>) {
        if let Some(at) = self.at.iter_mut().find(|at| Arc::ptr_eq(&at.forwarder, &exchange.forwarder)) {
            let ended = usize::from(exchange.brings_list());
            debug_assert!(
                at.under_way >= ended && self.under_way >= at.under_way,
                "each exchange that begins is counted"
            );
            let ended = ended.min(at.under_way);
            at.under_way -= ended;
            self.under_way -= ended;
            if let Some(list) = list {
                self.combined = Combined::default();
                at.put(exchange.request.role().downloads(), list);
            }
            at.drop_waiters(exchange.session);
        }
        self.update_bytes();
    }

    /// Drops lists that have expired, and the state at forwarders that are no longer configured.
    pub(super) fn expire(&mut self, now: Instant) {
        for combined in &mut self.combined.lists {
            combined.take_if(|list| !list.is_good(now));
        }
        self.at.retain_mut(|at| {
            at.expire(now);
            at.under_way > 0 || !at.forwarder.is_retired()
        });
        self.update_bytes();
    }

    fn update_bytes(&mut self) {
        let combined = self.combined.lists.iter().flatten().map(|list| list.size());
        self.bytes = self.at.iter().map(|at| at.lists.size()).chain(combined).sum();
    }

    /// Returns the number of forwarders at which the torrent has a state.
    pub(super) fn forwarder_count(&self) -> usize {
        self.at.len()
    }

    /// Returns how many bytes the peers in all lists take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
