//! The PROXY protocol over UDP: a header before each datagram, in which a proxy names the client (HAProxy's
//! `proxy-protocol.txt`, section 2.2).
//!
//! Nothing connects datagrams, so each must have its own header. A datagram without a header, or from an untrusted
//! sender, is dropped. TCP's handshake at least proves the address of the other end. A datagram proves nothing: its
//! source address can be forged.

use thiserror::Error;

use super::connection_id::Sender;
use super::socket::Datagram;
use crate::frontend::client_address::{ClientAddress, Remote};
use tracker_protocol::proxy_protocol::{self, Malformed};

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum DropCause {
    /// The datagram does not begin with a header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Proxies are configured, and the datagram comes from another address.
    #[error("its sender is not a trusted proxy")]
    Stranger,
}

/// The sender that the header names, and the request after the header.
///
/// # Errors
/// The header is missing or malformed, or the sender of the datagram is not trusted.
pub(super) fn open<'a>(datagram: &Datagram<'a>, rule: &ClientAddress) -> Result<(Sender, &'a [u8]), DropCause> {
    let proxy = datagram.source.ip().to_canonical();
    if !rule.is_trusted(Remote::Ip(proxy)) {
        return Err(DropCause::Stranger);
    }
    let (named, request) = proxy_protocol::parse_datagram(datagram.bytes)?;
    // The client's port is ignored, with or without a proxy.
    let source = rule.behind(Some(datagram.source), named);
    let sender = Sender { client: source.ip(), proxy: Some(proxy), standing: rule.datagram_standing(source) };
    Ok((sender, request))
}
