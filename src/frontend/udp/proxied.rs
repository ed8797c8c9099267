//! The PROXY protocol at a listener that is marked for it: each datagram begins with whose it is (HAProxy's
//! `proxy-protocol.txt`, section 2.2).
//!
//! A datagram is one by itself: it must have a header of its own, as nothing says which others it belongs to, and one that
//! has none is nobody's. A connection without a header that counts can at least show by its handshake that its other end is
//! where it says; a datagram cannot, so that it is dropped where whoever sent it is not believed.

use thiserror::Error;

use super::connection_id::Sender;
use super::socket::Datagram;
use crate::frontend::client_address::{ClientAddress, Remote};
use tracker_protocol::proxy_protocol::{self, Malformed};

/// Why a datagram is dropped unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unproxied {
    /// It does not begin with a header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Proxies are named, and it comes from none of them.
    #[error("it comes from none of the trusted proxies")]
    Stranger,
}

/// Who sends a datagram, as its header says, and the request behind that.
///
/// # Errors
/// Why nobody can be taken for its sender.
pub(super) fn open<'a>(datagram: &Datagram<'a>, rule: &ClientAddress) -> Result<(Sender, &'a [u8]), Unproxied> {
    let proxy = datagram.source.ip().to_canonical();
    if !rule.is_believed(Remote::Ip(proxy)) {
        return Err(Unproxied::Stranger);
    }
    let (named, request) = proxy_protocol::parse_datagram(datagram.bytes)?;
    // The port plays no part, as where there is no proxy.
    let source = rule.behind(Some(datagram.source), named);
    let sender = Sender { client: source.ip(), proxy: Some(proxy), standing: rule.of_datagram(source) };
    Ok((sender, request))
}
