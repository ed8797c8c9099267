//! The addresses that a client announces from.

use std::net::IpAddr;

use tokio::time::Instant;

use crate::forward::announce::UpstreamAnnounce;
use crate::forward::headers::PassedHeaders;
use crate::forward::queue::RequestSource;
use tracker_protocol::{AnnounceRequest, Role};

/// One address of a client, and the client's latest announce from that address.
#[derive(Debug)]
pub(in crate::forward) struct Host {
    pub(in crate::forward) ip: IpAddr,
    /// The client's address for peers outside its network.
    pub(super) outside: IpAddr,
    /// Whether `ip` was only claimed with `ip=`.
    pub(super) is_claim: bool,
    /// The source of the first announce from this address.
    pub(super) source: RequestSource,
    pub(super) request: AnnounceRequest,
    pub(super) headers: PassedHeaders,
    /// When the client announced last from this address.
    pub(super) seen: Instant,
    /// When the client left this address. The host is kept until `stopped` has been sent for it.
    pub(super) left: Option<Instant>,
}

impl Host {
    pub(super) fn new(announce: &UpstreamAnnounce<'_>, headers: PassedHeaders, now: Instant) -> Self {
        Self {
            ip: announce.ip,
            outside: announce.outside,
            is_claim: announce.is_claim,
            source: RequestSource::of(announce.source),
            request: announce.request.clone(),
            headers,
            seen: now,
            left: None,
        }
    }

    /// Stores a later announce.
    pub(super) fn update(&mut self, announce: &UpstreamAnnounce<'_>, now: Instant) {
        self.left = None;
        self.seen = now;
        self.outside = announce.outside;
        self.is_claim = announce.is_claim;
        self.request.clone_from(announce.request);
    }

    pub(in crate::forward) fn is_here(&self) -> bool {
        self.left.is_none()
    }

    pub(super) fn is_seed(&self) -> bool {
        self.request.role() == Role::Seed
    }
}
