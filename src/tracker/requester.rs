//! The sender of an announce, as a frontend describes it to the tracker.

use std::net::IpAddr;

use tracker_protocol::Protocol;
use tracker_protocol::via::Via;

/// The sender of an announce.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The address that the announce came from: the socket's, or the one that a trusted proxy gave. IPv4-mapped
    /// addresses are stored as IPv4.
    pub ip: IpAddr,
    /// What is known of the sender.
    pub standing: Standing,
    /// The protocol of the announce.
    pub protocol: Protocol,
    /// How many peers fit into a reply.
    pub max_peers: usize,
    /// The client's `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The retrackers that have forwarded the announce, if any.
    pub via: &'a Via,
    /// Whether the torrent is confidential: announced only to forwarders that name it with `only`.
    pub is_confidential: bool,
}

/// What is known of the sender of an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The announce came from the client's address. [`IpParam`](crate::topology::IpParam) decides on a claimed address.
    Client,
    /// The announce's address counts as the client's, and claims are ignored: a browser sent it, or a proxy with an
    /// unclear client-address header.
    NoClaims,
    /// A web page made a browser announce. It gets public peers only, and is not listed as a peer.
    Page,
    /// A trusted proxy sent the announce without the client's address. The client gets public peers only, and is
    /// neither listed as a peer nor announced upstream.
    Unclear,
    /// As [`Self::Unclear`], but the proxy is not trusted: the sender may be a client that forges headers.
    Untrusted,
}
