//! An upstream tracker, whatever its protocol.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::context::ExchangeContext;
use super::error::ForwardError;
use super::exchange::{ExchangeReply, ExchangeRequest};
use super::http::HttpUpstream;
use super::options::{AnnouncedIp, ForwarderOptions};
#[cfg(test)]
use super::simulation::SimulatedUpstream;
use super::udp::UdpUpstream;
use tracker_protocol::upstream;

/// Checks whether an entry can be used. The error is a sentence for the operator, and shows no secret.
pub fn check(options: &ForwarderOptions) -> Result<(), String> {
    UpstreamClient::new(options, &Arc::default()).map(drop)
}

/// An upstream tracker, and what all exchanges share.
pub(super) struct UpstreamClient {
    client: ProtocolClient,
    context: Arc<ExchangeContext>,
}

/// The client for an upstream's protocol.
enum ProtocolClient {
    Http(Box<HttpUpstream>),
    Udp(Box<UdpUpstream>),
    /// For tests with simulated time.
    #[cfg(test)]
    Simulated(SimulatedUpstream),
}

impl UpstreamClient {
    /// Checks an entry and makes its client. The error is for the operator, and continues a sentence that names the
    /// forwarder.
    pub(super) fn new(options: &ForwarderOptions, context: &Arc<ExchangeContext>) -> Result<Self, String> {
        let ForwarderOptions { uri, host, ip, ca, .. } = options;
        let context = Arc::clone(context);
        if uri.scheme() != "udp" {
            let http = HttpUpstream::new(uri, host.as_deref(), ca.as_ref(), Arc::clone(&context))?;
            return Ok(Self { client: ProtocolClient::Http(Box::new(http)), context });
        }
        if host.is_some() {
            return Err("host cannot be used with udp://".to_owned());
        }
        if ca.is_some() {
            return Err("ca cannot be used with udp://".to_owned());
        }
        if matches!(ip, AnnouncedIp::Fixed(IpAddr::V6(_))) {
            return Err("its ip is an IPv6 address, but a UDP announce has room for IPv4 only".to_owned());
        }
        Ok(Self { client: ProtocolClient::Udp(Box::new(UdpUpstream::new(uri)?)), context })
    }

    /// What the log says about a proxy, if one is set. The text continues a sentence that names the forwarder.
    pub(super) fn proxy_note(&self) -> Option<String> {
        match &self.client {
            ProtocolClient::Http(http) => http.proxy().map(|proxy| format!("requests go through the proxy {proxy}")),
            ProtocolClient::Udp(_) => self
                .context
                .proxies
                .any()
                .then(|| "requests go directly to the upstream, because proxies do not carry UDP".to_owned()),
            #[cfg(test)]
            ProtocolClient::Simulated(_) => None,
        }
    }

    /// Returns a client for tests with simulated time.
    #[cfg(test)]
    pub(super) fn simulated(upstream: SimulatedUpstream) -> Self {
        Self { client: ProtocolClient::Simulated(upstream), context: Arc::default() }
    }

    /// Waits until one more exchange may begin, then sends one announce and reads the reply. `timeout` limits the wait,
    /// and then again the exchange.
    pub(super) async fn announce(
        &self,
        request: &ExchangeRequest<'_>,
        timeout: Duration,
    ) -> Result<ExchangeReply, ForwardError> {
        let _permit = self.context.permit(timeout).await?;
        let answered = match &self.client {
            ProtocolClient::Http(http) => {
                let mut query = String::with_capacity(512);
                let ExchangeRequest { request, numwant, ip, tracker_id, headers } = *request;
                upstream::put_query(&mut query, request, numwant, ip, tracker_id);
                http.announce(&query, headers, timeout).await
            }
            ProtocolClient::Udp(udp) => udp.announce(request, timeout).await,
            #[cfg(test)]
            ProtocolClient::Simulated(upstream) => return upstream.announce(request, timeout).await,
        };
        let mut answer = answered.inspect_err(|error| {
            if let ForwardError::Local(what) = error {
                self.context.report(what);
            }
        })?;
        let implausible = self.context.listeners.drop_implausible(&mut answer.reply.peers, answer.origin);
        let unusable = &mut answer.reply.dropped.unusable;
        *unusable = unusable.saturating_add(u32::try_from(implausible).unwrap_or(u32::MAX));
        Ok(answer)
    }
}
