//! Tests of the product from outside. Most tests start the binary, speak to it over a socket and read its output.
//! The tests of the protocol are numbered after the sections of `docs/protocol.md`: the client's request (1), the reply
//! (2), the scrape (3), addresses (4), upstream trackers (5), UDP (6), access (7).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a test may fail"
)]

mod dsl;
mod fake_tracker;
mod fake_udp_tracker;
mod issuer;
mod udp_client;

mod access;
mod addresses;
mod admin;
mod announce;
mod architecture;
mod both_fronts;
mod cache_client;
mod chihaya;
mod cli;
mod dashboard;
mod dashboard_page;
mod dns;
mod documentation;
mod explain;
mod forwarding;
mod http;
mod limits;
mod listening;
mod locality;
mod malformed;
mod pages;
mod proxied;
mod reply;
mod ring;
mod scrape;
mod service;
mod sessions;
mod settings;
mod share;
mod sharing;
mod signals;
#[cfg(target_os = "linux")]
mod sleep;
mod standing;
mod status;
mod stop;
mod tls;
mod torrents;
mod udp;
mod udp_forwarding;
mod udp_malformed;
mod udp_proxied;
mod upstream;
