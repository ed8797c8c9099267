//! A torrent as one forwarder knows it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::forward::forwarder::Forwarder;
use crate::forward::list::{Lists, UpstreamPeers};

/// The torrent at one forwarder.
#[derive(Debug)]
pub(super) struct AtForwarder {
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) lists: Lists,
    /// Exchanges that are to bring a list.
    pub(super) under_way: usize,
    pub(super) waiters: Vec<Waiter>,
}

/// An announce that waits for a list.
#[derive(Debug)]
pub(super) struct Waiter {
    /// The session whose exchange it waits for; another one's may be faster.
    pub(super) session: u64,
    pub(super) downloads: bool,
    pub(super) list: oneshot::Sender<Arc<UpstreamPeers>>,
}

impl AtForwarder {
    pub(super) fn new(forwarder: &Arc<Forwarder>) -> Self {
        Self { forwarder: Arc::clone(forwarder), lists: Lists::default(), under_way: 0, waiters: Vec::new() }
    }

    /// Changes the lists, and keeps count of them.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Lists)) {
        let before = self.lists.count();
        change(&mut self.lists);
        self.forwarder.count_lists(self.lists.count() - before);
    }

    /// A list has come: for all who wait for it.
    pub(super) fn put(&mut self, downloads: bool, list: &Arc<UpstreamPeers>) {
        self.change(|lists| lists.put(downloads, Arc::clone(list)));
        for waiter in self.waiters.extract_if(.., |waiter| waiter.downloads == downloads) {
            // Whoever waited may have given up.
            let _ = waiter.list.send(Arc::clone(list));
        }
    }
}

impl Drop for AtForwarder {
    fn drop(&mut self) {
        self.change(|lists| *lists = Lists::default());
    }
}
