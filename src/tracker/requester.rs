//! The sender of an announce, as a frontend describes it to the tracker.

use std::net::IpAddr;

use tracker_protocol::Protocol;
use tracker_protocol::via::Via;

/// The sender of an announce.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The address that the announce came from: the address of the socket, or the address that a trusted proxy gave.
    /// An IPv4-mapped address is stored as IPv4.
    pub ip: IpAddr,
    /// What is known of the sender.
    pub standing: Standing,
    /// The protocol of the announce.
    pub protocol: Protocol,
    /// How many peers fit into a reply.
    pub max_peers: usize,
    /// The client's `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The retrackers that have forwarded the announce, if it does not come directly from a client.
    pub via: &'a Via,
    /// Whether the torrent is confidential. A confidential torrent is announced only to forwarders that name it with
    /// `only`.
    pub is_confidential: bool,
}

/// What is known of the sender of an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The announce came from the client's address. [`IpParam`](crate::topology::IpParam) says whether an address that
    /// the client claims is used.
    Client,
    /// The address that the announce came from counts as the client's. The tracker ignores an address that the client
    /// claims, because a browser sent the announce, or a proxy sent it with an unclear client-address header.
    NoClaims,
    /// A web page made a browser send the announce. The sender gets public peers only, and is not listed as a peer.
    Page,
    /// The address belongs to a trusted proxy that does not name the client. The client gets public peers only. It is
    /// neither listed as a peer nor announced upstream.
    Unclear,
    /// As with [`Self::Unclear`], but the proxy is not trusted. The sender may be a client that forges headers.
    Untrusted,
}
