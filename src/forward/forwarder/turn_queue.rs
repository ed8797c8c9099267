//! Exchanges that wait for their turn with one forwarder.

use std::future::pending;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::forward::queue::{ExchangeRate, FairQueue, MAX_WAITING, RequestSource};

/// The most exchanges under way with one forwarder. This bounds the descriptors that a silent upstream takes.
const MAX_IN_FLIGHT: usize = 256;

/// A queue from which items are taken at a bounded rate, each with one of a bounded number of permits.
#[derive(Debug)]
pub(super) struct TurnQueue<T> {
    waiting: Mutex<FairQueue<T>>,
    /// Notified when an item is added.
    added: Notify,
    pace: Mutex<ExchangeRate>,
    permits: Arc<Semaphore>,
}

impl<T> TurnQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(FairQueue::new(MAX_WAITING)),
            added: Notify::new(),
            pace: Mutex::new(ExchangeRate::new(Instant::now())),
            permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
        }
    }

    /// Adds an item. If too many items wait, one of them is dropped and returned.
    pub(super) fn add(&self, source: RequestSource, item: T) -> Option<T> {
        let dropped = self.waiting.lock().push(source, item);
        self.added.notify_one();
        dropped
    }

    /// Waits until `rate` and a permit allow one more item, and returns the item with the permit.
    pub(super) async fn next(&self, rate: impl Fn() -> u32) -> (T, OwnedSemaphorePermit) {
        loop {
            while self.waiting() == 0 {
                self.added.notified().await;
            }
            // `acquire_owned` fails only if the semaphore is closed. This one never is.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { pending().await };
            let turn = self.pace.lock().take(rate(), Instant::now());
            sleep_until(turn).await;
            // The item is taken only after the wait, so that items that were added meanwhile take turns with the
            // others.
            let next = self.waiting.lock().pop();
            if let Some(item) = next {
                return (item, permit);
            }
        }
    }

    /// Returns how many items wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Returns how many permits are in use.
    pub(super) fn in_flight(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.permits.available_permits())
    }
}
