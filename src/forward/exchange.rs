//! One announce to an upstream tracker, whatever its protocol: what is sent, and what comes back.

use std::net::{IpAddr, SocketAddr};

use super::headers::PassedHeaders;
use super::own::ReplyOrigin;
use tracker_protocol::AnnounceRequest;
use tracker_protocol::upstream::UpstreamReply;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExchangeRequest<'a> {
    /// The announce, with the event for the upstream.
    pub(super) request: &'a AnnounceRequest,
    /// How many peers are asked for.
    pub(super) numwant: u32,
    /// The address that the upstream should record. `None` means the address from which the upstream sees us announce.
    pub(super) ip: Option<IpAddr>,
    /// The tracker id of the upstream's last reply. It is sent over HTTP only.
    pub(super) tracker_id: Option<&'a [u8]>,
    /// The headers that are passed on. Over UDP only `Via` is sent.
    pub(super) headers: &'a PassedHeaders,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExchangeReply {
    pub(super) reply: UpstreamReply,
    /// The address that sent the reply: the proxy's, if there is a proxy.
    pub(super) from: SocketAddr,
    /// Where the upstream is. This decides which peer addresses are plausible.
    pub(super) origin: ReplyOrigin,
}
