//! HTTP, over TCP and over Unix sockets.
//!
//! A connection stays on the hot path ([`front`]): it reads heads, answers announces and scrapes itself, and asks
//! actix-web's routes for everything else.

mod answer;
mod framing;
pub mod front;
mod head;
pub(super) mod pages;
#[doc(hidden)]
pub mod rehearsal;
pub mod socket;
