//! What all exchanges of the process share: how many there may be at once, which proxies stand before upstream trackers,
//! and where the process itself listens.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::error::ForwardError;
use super::own::Listeners;
use super::proxy::Proxies;

/// Exchanges that may be under way at once, with all upstream trackers together, unless something else is said.
const MAX_EXCHANGES: usize = 1024;

/// The log is told no more often that exchanges fail on this side.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

/// See above.
#[derive(Debug)]
pub(super) struct ExchangeContext {
    permits: Semaphore,
    /// Exchanges that had to wait for others to end.
    delayed: Counter,
    pub(super) proxies: Proxies,
    pub(super) listeners: Listeners,
    reported: Mutex<Option<Instant>>,
}

impl Default for ExchangeContext {
    fn default() -> Self {
        Self::new(None, Proxies::default(), Counter::default())
    }
}

impl ExchangeContext {
    pub(super) fn new(max_exchanges: Option<usize>, proxies: Proxies, delayed: Counter) -> Self {
        let permits = max_exchanges.unwrap_or(MAX_EXCHANGES).min(Semaphore::MAX_PERMITS);
        let (listeners, reported) = (Listeners::default(), Mutex::default());
        Self { permits: Semaphore::new(permits), delayed, proxies, listeners, reported }
    }

    /// Takes note of where the process listens.
    pub(super) fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.listeners.set(addresses);
    }

    /// Waits until one more exchange may begin.
    pub(super) async fn permit(&self, longest: Duration) -> Result<SemaphorePermit<'_>, ForwardError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        self.delayed.inc();
        match timeout(longest, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ForwardError::Local("too many exchanges are under way, see --max-exchanges".to_owned())),
        }
    }

    /// Tells the log that an exchange failed on this side.
    pub(super) fn report(&self, error: &ForwardError) {
        let now = Instant::now();
        let mut reported = self.reported.lock();
        if reported.is_none_or(|reported| now - reported >= REPORT_PAUSE) {
            *reported = Some(now);
            log::warn!("upstream trackers cannot be asked: {error}; they are not held responsible, and asked again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn exchanges_wait_for_others_to_end_and_not_for_ever() {
        let context = ExchangeContext::new(Some(1), Proxies::default(), Counter::default());
        let first = context.permit(Duration::from_secs(1)).await.unwrap();
        assert_eq!(context.delayed.get(), 0);
        let error = context.permit(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!((error.label(), context.delayed.get()), ("local", 1));
        let second = tokio::join!(context.permit(Duration::from_secs(1)), async { drop(first) }).0;
        assert!(second.is_ok());
    }
}
