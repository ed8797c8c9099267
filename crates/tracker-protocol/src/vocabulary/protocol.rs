//! The protocols over which requests arrive.

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP (BEP 3).
    Http,
    /// UDP (BEP 15).
    Udp,
}
