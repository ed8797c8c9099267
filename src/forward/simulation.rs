//! An upstream tracker in the test's own process, for tests in which time is simulated.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout;
use url::Url;

use super::error::ForwardError;
use super::forwarder::Forwarder;
use super::own::Teller;
use super::upstream::{Ask, UpstreamAnswer};
use super::{AnnouncedIp, Engine, ForwardOptions, ForwarderOptions, Forwarders, Torrents};
use crate::metrics::Metrics;
use tracker_protocol::upstream::UpstreamReply;
use tracker_protocol::{AnnounceRequest, Event};

type Behaviour = dyn Fn(AnnounceRequest) -> LocalBoxFuture<'static, Result<UpstreamReply, ForwardError>> + Send + Sync;

/// Answers as it is told to, and keeps what it was asked.
#[derive(Clone)]
pub(crate) struct Upstream {
    behaviour: Arc<Behaviour>,
    asked: Arc<Mutex<Vec<AnnounceRequest>>>,
}

impl Upstream {
    pub(crate) fn new(
        behaviour: impl Fn(AnnounceRequest) -> LocalBoxFuture<'static, Result<UpstreamReply, ForwardError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { behaviour: Arc::new(behaviour), asked: Arc::default() }
    }

    pub(super) async fn announce(&self, ask: &Ask<'_>, time: Duration) -> Result<UpstreamAnswer, ForwardError> {
        self.asked.lock().push(ask.request.clone());
        let reply = timeout(time, (self.behaviour)(ask.request.clone())).await.unwrap_or(Err(ForwardError::Timeout))?;
        let from = SocketAddr::from(([192, 0, 2, 1], 80));
        Ok(UpstreamAnswer { reply, from, teller: Teller::at(from.ip()) })
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<AnnounceRequest> {
        self.asked.lock().clone()
    }

    /// How often it was told of this event.
    pub(crate) fn told(&self, event: Option<Event>) -> usize {
        self.asked.lock().iter().filter(|request| request.event == event).count()
    }
}

impl Forwarders {
    /// With these upstream trackers, by name. The engine must run.
    pub(crate) fn simulated(
        upstreams: &[(&str, &Upstream)],
        options: &ForwardOptions,
        metrics: &Metrics,
    ) -> (Self, Engine) {
        let (forwarders, engine) = Self::none(options, metrics);
        let forwarder = |(name, upstream): &(&str, &Upstream)| {
            let entry = ForwarderOptions {
                name: (*name).to_owned(),
                uri: Url::parse("http://192.0.2.1/announce").unwrap(),
                ip: AnnouncedIp::AsSeen,
                host: None,
                timeout: None,
                numwant: None,
                rate: None,
                ca: None,
                torrents: Torrents::All,
            };
            let upstream = super::upstream::Upstream::simulated((*upstream).clone());
            forwarders.shared.start(Forwarder::new(&entry, forwarders.shared.timeout, upstream, metrics))
        };
        forwarders.shared.set.write().put(upstreams.iter().map(forwarder).collect());
        (forwarders, engine)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}
