//! The frontends read requests from sockets, and write the replies that the [`Tracker`](crate::tracker::Tracker)
//! decides on.

pub mod admin;
mod announce;
pub mod chihaya_pages;
pub mod client_address;
pub mod client_at;
pub mod connections;
pub mod context;
pub mod descriptors;
pub mod headers;
pub mod history;
pub mod hosts;
pub mod http;
pub mod listen;
pub mod proxied;
pub mod routes;
pub mod serve;
pub mod settings_in_force;
pub mod shutdown;
pub mod tls;
pub mod torrents;
pub mod udp;
