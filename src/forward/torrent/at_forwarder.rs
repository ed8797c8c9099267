//! A torrent's lists at one forwarder.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::forward::forwarder::Forwarder;
use crate::forward::list::{Lists, UpstreamPeers};

/// The state of a torrent at one forwarder.
#[derive(Debug)]
pub(super) struct AtForwarder {
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) lists: Lists,
    /// Exchanges that have begun and are expected to bring a list.
    pub(super) under_way: usize,
    waiters: Vec<Waiter>,
}

/// An announce that waits for a list.
#[derive(Debug)]
struct Waiter {
    /// The session whose exchange the announce waits for. Another session may bring the list sooner.
    session: u64,
    downloads: bool,
    list: oneshot::Sender<Arc<UpstreamPeers>>,
}

impl AtForwarder {
    pub(super) fn new(forwarder: &Arc<Forwarder>) -> Self {
        Self { forwarder: Arc::clone(forwarder), lists: Lists::default(), under_way: 0, waiters: Vec::new() }
    }

    pub(super) fn add_waiter(&mut self, session: u64, downloads: bool, list: oneshot::Sender<Arc<UpstreamPeers>>) {
        self.waiters.push(Waiter { session, downloads, list });
    }

    /// Drops the waiters for an exchange of this session. This ends their wait.
    pub(super) fn drop_waiters(&mut self, session: u64) {
        self.waiters.retain(|waiter| waiter.session != session);
    }

    /// Changes the lists, and updates the forwarder's count of lists.
    fn change(&mut self, change: impl FnOnce(&mut Lists)) {
        let before = self.lists.count();
        change(&mut self.lists);
        self.forwarder.count_lists(self.lists.count() - before);
    }

    /// Stores a list, and gives it to all announces that wait for one.
    pub(super) fn put(&mut self, downloads: bool, list: &Arc<UpstreamPeers>) {
        self.change(|lists| lists.put(downloads, Arc::clone(list)));
        for waiter in self.waiters.extract_if(.., |waiter| waiter.downloads == downloads) {
            // The send fails if the announce no longer waits.
            let _ = waiter.list.send(Arc::clone(list));
        }
    }

    /// Drops lists that have expired.
    pub(super) fn expire(&mut self, now: Instant) {
        self.change(|lists| lists.expire(now));
    }
}

impl Drop for AtForwarder {
    fn drop(&mut self) {
        self.change(|lists| *lists = Lists::default());
    }
}
