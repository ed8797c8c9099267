//! What all exchanges of the process share: the limit on exchanges, the proxies, and our listening addresses.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::error::ForwardError;
use super::own::Listeners;
use super::proxy::UpstreamProxies;
use super::status::LimitUse;

/// The most exchanges with all upstream trackers together, if the options name no bound.
const MAX_EXCHANGES: usize = 1024;

/// The shortest time between two log lines about failures of this host.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

/// What all exchanges share.
#[derive(Debug)]
pub(super) struct ExchangeContext {
    permits: Semaphore,
    /// How many permits there are.
    most: usize,
    /// Counts exchanges that had to wait for others to end.
    delayed: Counter,
    pub(super) proxies: UpstreamProxies,
    pub(super) listeners: Listeners,
    /// When a failure of this host was logged last.
    reported: Mutex<Option<Instant>>,
}

impl Default for ExchangeContext {
    fn default() -> Self {
        Self::new(None, UpstreamProxies::default(), Counter::default())
    }
}

impl ExchangeContext {
    pub(super) fn new(max_exchanges: Option<usize>, proxies: UpstreamProxies, delayed: Counter) -> Self {
        let permits = max_exchanges.unwrap_or(MAX_EXCHANGES).min(Semaphore::MAX_PERMITS);
        let (listeners, reported) = (Listeners::default(), Mutex::default());
        Self { permits: Semaphore::new(permits), most: permits, delayed, proxies, listeners, reported }
    }

    /// Returns the bound on exchanges, how many are under way, and how many had to wait.
    pub(super) fn limit(&self) -> LimitUse {
        let in_use = self.most.saturating_sub(self.permits.available_permits());
        LimitUse { most: self.most as u64, in_use: in_use as u64, bites: self.delayed.get() }
    }

    /// Sets the addresses that the process listens on.
    pub(super) fn listens_at(&self, addresses: Vec<SocketAddr>) {
        self.listeners.set(addresses);
    }

    /// Waits for at most `longest` until one more exchange may begin.
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

    /// Logs that this host failed, so that an exchange could not be made. At most one line in each [`REPORT_PAUSE`].
    pub(super) fn report(&self, what: &str) {
        let now = Instant::now();
        let mut reported = self.reported.lock();
        if reported.is_none_or(|reported| now - reported >= REPORT_PAUSE) {
            *reported = Some(now);
            log::warn!(
                "cannot ask upstream trackers: {}; the fault is on this host, so it does not count as a failure of the \
                 trackers; they will be asked again",
                what.as_bytes().escape_ascii()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_exchange_waits_for_others_to_end_until_its_timeout() {
        let context = ExchangeContext::new(Some(1), UpstreamProxies::default(), Counter::default());
        let first = context.permit(Duration::from_secs(1)).await.unwrap();
        assert_eq!(context.delayed.get(), 0);
        let error = context.permit(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!((error.label(), context.delayed.get()), ("local", 1));
        let second = tokio::join!(context.permit(Duration::from_secs(1)), async { drop(first) }).0;
        assert!(second.is_ok());
    }
}
