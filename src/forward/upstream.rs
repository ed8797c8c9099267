//! An upstream tracker, whatever it speaks: what is sent, and what comes back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::error::ForwardError;
use super::http::{Along, HttpUpstream};
use super::udp::{UdpSockets, UdpUpstream};
use super::{AnnouncedIp, ForwarderOptions};
use crate::bittorrent::AnnounceRequest;
use crate::wire::upstream::{self, UpstreamReply};

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
    pub(super) along: &'a Along,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The reply.
    pub(super) reply: UpstreamReply,
    /// The address that gave it.
    pub(super) from: SocketAddr,
}

/// How an upstream tracker is spoken to.
pub(super) enum Upstream {
    Http(Box<HttpUpstream>),
    Udp(Box<UdpUpstream>),
    /// In place of both, where time is simulated.
    #[cfg(test)]
    Simulated(super::simulation::Upstream),
}

impl Upstream {
    /// The error is a sentence for the operator that continues one which names the forwarder.
    pub(super) fn new(options: &ForwarderOptions, sockets: &Arc<UdpSockets>) -> Result<Self, String> {
        let ForwarderOptions { uri, host, ip, .. } = options;
        if uri.scheme() != "udp" {
            return HttpUpstream::new(uri, host.as_deref()).map(Box::new).map(Self::Http);
        }
        if host.is_some() {
            return Err("it has a host, which means nothing over UDP".to_owned());
        }
        if matches!(ip, AnnouncedIp::Fixed(IpAddr::V6(_))) {
            return Err("its ip is an IPv6 address, for which there is no room in UDP announces".to_owned());
        }
        UdpUpstream::new(uri, Arc::clone(sockets)).map(Box::new).map(Self::Udp)
    }

    pub(super) async fn announce(&self, ask: &Ask<'_>, timeout: Duration) -> Result<Answer, ForwardError> {
        match self {
            Self::Http(http) => {
                let mut query = String::with_capacity(512);
                upstream::put_query(&mut query, ask.request, ask.numwant, ask.ip, ask.tracker_id);
                http.announce(&query, ask.along, timeout).await
            }
            Self::Udp(udp) => udp.announce(ask, timeout).await,
            #[cfg(test)]
            Self::Simulated(upstream) => upstream.announce(ask, timeout).await,
        }
    }
}
