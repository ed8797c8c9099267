//! HTTP, over TCP and over Unix sockets.
//!
//! Every connection stays on the fast path ([`fast_path`]), which answers announces and scrapes itself, and calls
//! actix-web's routes for everything else.

mod answer;
pub mod fast_path;
mod framing;
mod head;
pub(super) mod pages;
mod refusals;
#[doc(hidden)]
pub mod rehearsal;
pub mod socket;
