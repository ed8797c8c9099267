//! Bytes ⇄ vocabulary, both ways: what our clients send and read, and what upstream trackers do.
//! Lenient in what it takes, strict in what it gives.

pub mod announce;
pub mod bencode;
pub mod compact;
pub mod forwarded;
pub mod proxy_protocol;
pub mod query;
pub mod route;
pub mod scrape;
pub mod udp;
pub mod upstream;
pub mod via;
