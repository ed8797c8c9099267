//! HTTP, over TCP and over Unix sockets.
//!
//! A connection stays on the hot path ([`fast_path`]): it reads heads, answers announces and scrapes itself, and asks
//! actix-web's routes for everything else.

mod answer;
pub mod fast_path;
mod framing;
mod head;
pub(super) mod pages;
#[doc(hidden)]
pub mod rehearsal;
pub mod socket;
