//! The protocol of BitTorrent trackers: types for requests and replies, and functions that read them from bytes and
//! write them as bytes. Trackers can use these functions, and so can clients. The functions are lenient in what they
//! read, and strict in what they write.
//!
//! Nothing here does I/O, reads a clock or depends on a framework, so programs of every kind can use this crate.
//!
//! - Over HTTP (BEP 3, 7, 23, 24, 31): [`route`] and [`query`] read the target. [`announce`] and [`scrape`] read the
//!   request and write the reply. [`upstream`] writes requests to other trackers and reads their replies, with
//!   [`bencode`] and [`compact`].
//! - Over UDP (BEP 15, BEP 41): [`udp`] reads and writes both requests and responses.
//! - Torrent files (BEP 3): [`metainfo`] reads and writes them.
//! - What proxies add: [`forwarded`] (`X-Forwarded-For`, RFC 7239), [`proxy_protocol`] and [`via`] (RFC 9110).

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may fail"
    )
)]

pub mod announce;
pub mod bencode;
pub mod compact;
pub mod forwarded;
pub mod metainfo;
pub mod proxy_protocol;
pub mod query;
pub mod route;
pub mod scrape;
pub mod udp;
pub mod upstream;
pub mod via;

mod vocabulary;

pub use vocabulary::{
    AnnounceReply, AnnounceRequest, ClaimedIps, Endpoint, Event, InfoHash, Ip, Key, NumWant, Parameter, Peer, PeerId,
    PeerLists, Protocol, Refusal, Role, ScrapeReply, ScrapeRequest, SwarmCounts,
};
