//! An upstream tracker, whatever it speaks: what is sent, and what comes back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::context::ExchangeContext;
use super::error::ForwardError;
use super::http::{HttpUpstream, PassedHeaders};
use super::own::Teller;
use super::udp::UdpUpstream;
use super::{AnnouncedIp, ForwarderOptions};
use tracker_protocol::AnnounceRequest;
use tracker_protocol::upstream::{self, UpstreamReply};

/// One announce as it goes to an upstream tracker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// The announce, with the event that is to be told.
    pub(super) request: &'a AnnounceRequest,
    /// How many peers are asked for.
    pub(super) numwant: u32,
    /// The address that the upstream is to record.
    pub(super) ip: Option<IpAddr>,
    /// What it gave with its last reply, to be sent back. Over HTTP only.
    pub(super) tracker_id: Option<&'a [u8]>,
    /// Headers; over UDP `Via` alone.
    pub(super) along: &'a PassedHeaders,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamAnswer {
    /// The reply.
    pub(super) reply: UpstreamReply,
    /// The address that gave it; a proxy's, if one stands between.
    pub(super) from: SocketAddr,
    /// What it can know.
    pub(super) teller: Teller,
}

/// An upstream tracker, and what all exchanges share.
pub(super) struct Upstream {
    speaks: Protocol,
    context: Arc<ExchangeContext>,
}

/// How an upstream tracker is spoken to.
enum Protocol {
    Http(Box<HttpUpstream>),
    Udp(Box<UdpUpstream>),
    /// In place of both, where time is simulated.
    #[cfg(test)]
    Simulated(super::simulation::Upstream),
}

impl Upstream {
    /// The error is a sentence for the operator that continues one which names the forwarder.
    pub(super) fn new(options: &ForwarderOptions, context: &Arc<ExchangeContext>) -> Result<Self, String> {
        let ForwarderOptions { uri, host, ip, ca, .. } = options;
        let context = Arc::clone(context);
        if uri.scheme() != "udp" {
            let http = HttpUpstream::new(uri, host.as_deref(), ca.as_ref(), Arc::clone(&context))?;
            return Ok(Self { speaks: Protocol::Http(Box::new(http)), context });
        }
        if host.is_some() {
            return Err("it has a host, which means nothing over UDP".to_owned());
        }
        if ca.is_some() {
            return Err("it has a ca, which means nothing over UDP".to_owned());
        }
        if matches!(ip, AnnouncedIp::Fixed(IpAddr::V6(_))) {
            return Err("its ip is an IPv6 address, for which there is no room in UDP announces".to_owned());
        }
        Ok(Self { speaks: Protocol::Udp(Box::new(UdpUpstream::new(uri)?)), context })
    }

    /// How it is asked, if there are proxies: a sentence for the log that continues one which names the forwarder.
    pub(super) fn way(&self) -> Option<String> {
        match &self.speaks {
            Protocol::Http(http) => http.proxy().map(|proxy| format!("asked through the proxy {proxy}")),
            Protocol::Udp(_) => {
                self.context.proxies.any().then(|| "asked directly, as no proxy passes UDP on".to_owned())
            }
            #[cfg(test)]
            Protocol::Simulated(_) => None,
        }
    }

    /// In place of a real one.
    #[cfg(test)]
    pub(super) fn simulated(upstream: super::simulation::Upstream) -> Self {
        Self { speaks: Protocol::Simulated(upstream), context: Arc::default() }
    }

    /// Sends one announce, once there is room for one more exchange, and reads the reply. `timeout` covers everything but
    /// that wait.
    pub(super) async fn announce(&self, ask: &Ask<'_>, timeout: Duration) -> Result<UpstreamAnswer, ForwardError> {
        let _permit = self.context.permit(timeout).await?;
        let answered = match &self.speaks {
            Protocol::Http(http) => {
                let mut query = String::with_capacity(512);
                upstream::put_query(&mut query, ask.request, ask.numwant, ask.ip, ask.tracker_id);
                http.announce(&query, ask.along, timeout).await
            }
            Protocol::Udp(udp) => udp.announce(ask, timeout).await,
            #[cfg(test)]
            Protocol::Simulated(upstream) => return upstream.announce(ask, timeout).await,
        };
        let mut answer = answered.inspect_err(|error| {
            if matches!(error, ForwardError::Local(_)) {
                self.context.report(error);
            }
        })?;
        self.context.listeners.strike(&mut answer.reply.peers, answer.teller);
        Ok(answer)
    }
}
