//! The sender of an announce, as a frontend hands it over.

use std::net::IpAddr;

use tracker_protocol::Protocol;
use tracker_protocol::via::Via;

/// The sender of an announce.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The address that the announce came from: the address of the socket, or the address that a trusted proxy gave. It
    /// is canonical: an IPv4-mapped address is stored as IPv4.
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
    /// The address that the announce came from counts as the client's. An address that the client claims is ignored. The
    /// reason may be that a browser sent the announce, or that a proxy sent it with an unclear client-address header.
    NoClaims,
    /// A web page made a browser send the announce. The announce changes nothing, and gets public peers only.
    Page,
    /// The address belongs to a trusted proxy that does not name the client. The client gets public peers only, and
    /// changes nothing. The client is neither listed as a peer nor announced upstream.
    Unclear,
    /// As with [`Self::Unclear`], but the proxy is not trusted. The sender may be a client that forges headers.
    Untrusted,
}
