//! Long polls: requests that are answered when something about a blob changes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

use super::busy::Busy;
use super::key::BlobKey;

/// The longest wait.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// The most long polls of one address.
const MAX_POLLS_PER_ADDRESS: usize = 64;

/// The long polls under way.
#[derive(Debug)]
pub(super) struct LongPolls {
    max: usize,
    table: Mutex<PollTable>,
}

#[derive(Debug, Default)]
struct PollTable {
    watched: HashMap<BlobKey, watch::Sender<()>>,
    by_address: HashMap<IpAddr, usize>,
    count: usize,
    is_closed: bool,
}

/// A long poll, which counts toward the limits until this value is dropped.
#[derive(Debug)]
pub(super) struct LongPoll {
    polls: Arc<LongPolls>,
    key: BlobKey,
    host: IpAddr,
    changes: watch::Receiver<()>,
}

impl LongPolls {
    pub(super) fn new(max: usize) -> Self {
        Self { max, table: Mutex::default() }
    }

    /// Begins to watch a blob.
    pub(super) fn begin(polls: &Arc<Self>, key: &BlobKey, host: IpAddr) -> Result<LongPoll, Busy> {
        let mut table = polls.table.lock();
        let of_address = table.by_address.get(&host).copied().unwrap_or_default();
        if table.is_closed || table.count >= polls.max || of_address >= MAX_POLLS_PER_ADDRESS {
            return Err(Busy);
        }
        table.count += 1;
        table.by_address.insert(host, of_address + 1);
        let changes = table.watched.entry(key.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Ok(LongPoll { polls: Arc::clone(polls), key: key.clone(), host, changes })
    }

    /// Wakes the long polls that watch this blob.
    pub(super) fn wake(&self, key: &BlobKey) {
        if let Some(sender) = self.table.lock().watched.get(key) {
            sender.send_replace(());
        }
    }

    /// Ends all long polls, and refuses new ones.
    pub(super) fn close(&self) {
        let mut table = self.table.lock();
        table.is_closed = true;
        table.watched.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.table.lock().count
    }
}

impl LongPoll {
    /// Waits until something about the blob changes.
    ///
    /// # Errors
    /// The process is stopping.
    pub(super) async fn changed(&mut self) -> Result<(), RecvError> {
        self.changes.changed().await
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        let mut table = self.polls.table.lock();
        table.count = table.count.saturating_sub(1);
        let left = table.by_address.get(&self.host).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            table.by_address.remove(&self.host);
        } else {
            table.by_address.insert(self.host, left);
        }
        // This poll's receiver still exists, so a count of 1 means that no other poll watches the blob.
        if table.watched.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            table.watched.remove(&self.key);
        }
    }
}
