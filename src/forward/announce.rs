//! An announce as it is handed to the forwarders.

use std::net::IpAddr;
use std::num::NonZeroU16;

use tracker_protocol::via::Via;
use tracker_protocol::{AnnounceRequest, PeerId};

/// One announce of a client, with what upstream trackers may learn of it.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamAnnounce<'a> {
    /// The client's announce.
    pub request: &'a AnnounceRequest,
    /// The address that the store has recorded for the client.
    pub ip: IpAddr,
    /// The client's address for peers outside its network, for forwarders with `ip: client`.
    pub outside: IpAddr,
    /// Whether the client only claimed `ip` with `ip=`, and announced from another address.
    pub is_claim: bool,
    /// The address that the announce came from.
    pub source: IpAddr,
    /// The client's `User-Agent`, which is passed on.
    pub user_agent: Option<&'a [u8]>,
    /// The retrackers that have passed the announce on to us.
    pub via: &'a Via,
    /// Whether the torrent may be announced only to forwarders whose `only` list names it.
    pub is_confidential: bool,
}

impl UpstreamAnnounce<'_> {
    /// Returns the client. `None` if it has no port: then other peers cannot connect to it, so it is not announced
    /// upstream.
    pub(super) fn client(&self) -> Option<ClientKey> {
        Some(ClientKey { peer_id: self.request.peer_id, port: self.request.port? })
    }
}

/// Identifies a client within a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) peer_id: PeerId,
    pub(super) port: NonZeroU16,
}
