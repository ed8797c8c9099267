//! HTTP to registries and OSTree servers.
//!
//! - The client asks only upstreams that the operator lists ([`Upstreams`]), and servers to which these upstreams
//!   redirect.
//! - The client follows redirects by the rules of `redirect.rs`. It sends credentials only to the origin that they are
//!   for. No redirect leads to a private address unless the host is listed. `dial.rs` checks the very address that it
//!   dials, so a name that later resolves to a private address is refused.
//! - Each wait has a deadline ([`FetchOptions`]). A body that ends before its announced length is an error.
//! - In both directions, only the headers listed in `headers.rs` pass.
//! - The client uses no proxy, because on the hosts of this program, `http_proxy` and `https_proxy` name this program
//!   itself.

mod client;
mod connector;
mod dial;
mod error;
mod headers;
mod origin;
mod public_ip;
mod redirect;
mod retry_after;
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

pub(crate) use connector::{FetchConnector, FetchStream};
pub(crate) use headers::OUR_AGENT;

pub use client::{Ask, AskMethod, FetchBody, FetchClient, FetchOptions, FetchReply, Redirects};
pub use dial::{HostAddresses, HostLookup, system_lookup};
pub use error::{FetchError, FetchFault};
pub use headers::AskHeaders;
pub use origin::{NotAnOrigin, UpstreamOrigin, UpstreamScheme, Upstreams};
pub use public_ip::is_public;
pub use redirect::RedirectFault;
pub use retry_after::RetryAfter;
