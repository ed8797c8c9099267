//! HTTP to registries and OSTree servers.
//!
//! - Only upstreams that the operator lists are asked ([`Upstreams`]), and the servers that they redirect to.
//! - Redirects are followed here, by the rules of `redirect.rs`: credentials stay at the origin that they are for, and
//!   nothing leads into the network of this host unless it is listed. `dial.rs` checks the address that is dialled, so
//!   a name that resolves anew to a private address leads nowhere.
//! - Each wait has a deadline ([`FetchOptions`]). A body that ends before its length is an error.
//! - Only headers that have a meaning here pass, in both directions (`headers.rs`).
//! - Proxies are not used: the variables `http_proxy` and `https_proxy` mean this program on the hosts that it serves.

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
