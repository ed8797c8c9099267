//! An upstream tracker within the test's process, for tests with simulated time.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::error::ForwardError;
use super::exchange::{ExchangeReply, ExchangeRequest};
use super::own::ReplyOrigin;
use tracker_protocol::upstream::UpstreamReply;
use tracker_protocol::{AnnounceRequest, Event};

type ReplyFn = dyn Fn(AnnounceRequest) -> LocalBoxFuture<'static, Result<UpstreamReply, ForwardError>> + Send + Sync;

/// Replies with the results of a function, and keeps the announces that it received.
#[derive(Clone)]
pub(crate) struct SimulatedUpstream {
    reply: Arc<ReplyFn>,
    asked: Arc<Mutex<Vec<AnnounceRequest>>>,
}

impl SimulatedUpstream {
    pub(crate) fn new(
        reply: impl Fn(AnnounceRequest) -> LocalBoxFuture<'static, Result<UpstreamReply, ForwardError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { reply: Arc::new(reply), asked: Arc::default() }
    }

    pub(super) async fn announce(
        &self,
        request: &ExchangeRequest<'_>,
        time: Duration,
    ) -> Result<ExchangeReply, ForwardError> {
        let request = request.request.clone();
        self.asked.lock().push(request.clone());
        let reply = timeout(time, (self.reply)(request)).await.unwrap_or(Err(ForwardError::Timeout))?;
        let from = SocketAddr::from(([192, 0, 2, 1], 80));
        Ok(ExchangeReply { reply, from, origin: ReplyOrigin::at(from.ip()) })
    }

    /// Returns the announces that this upstream has received so far.
    pub(crate) fn asked(&self) -> Vec<AnnounceRequest> {
        self.asked.lock().clone()
    }

    /// Returns how many announces with this event this upstream has received.
    pub(crate) fn count_of(&self, event: Option<Event>) -> usize {
        self.asked.lock().iter().filter(|request| request.event == event).count()
    }
}

impl fmt::Debug for SimulatedUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedUpstream")
    }
}
