//! `retracker`: a BitTorrent tracker for a local network. The tracker also asks upstream trackers.
//!
//! # How an announce travels
//! [`frontend`] reads a socket's bytes, [`tracker_protocol`] parses them into an announce, and [`access`] admits or
//! refuses the announce. [`tracker`] then calls three modules in turn. [`topology`] finds the peer's address, and
//! [`store`] records the peer and picks other peers. [`forward`] announces the peer to upstream trackers, and returns
//! the peers that they know. [`tracker`] merges both lists of peers, [`tracker_protocol`] writes the reply, and
//! [`frontend`] sends it. Exchanges with upstream trackers run on a thread of their own.
//!
//! Each worker thread has its own sockets and its own event loop. Over TCP and Unix sockets the thread reads requests
//! itself, answers announces and scrapes at once ([`frontend::http::fast_path`]), and passes all other requests on to
//! actix-web's routes. Over UDP it reads datagrams in batches ([`frontend::udp`]).
//!
//! # Which way imports point
//! `tracker_protocol, cache, clock, metrics ← topology ← {store ← share ← share_link, forward, torrents} ← {tracker, access} ←
//! frontend ← config ← {commands, app} ← main`. An arrow leads from a module to the modules that it may import. A test
//! (`tests/it/architecture.rs`) checks this. [`tracker_protocol`] is a crate of its own, so it cannot import any of these
//! modules. [`tracker`] uses neither actix nor wire formats.
//!
//! # Invariants
//! - No input from a socket, a file or the environment makes the process panic or grow without bound.
//! - The announce path allocates for the peers that it picks and usually for nothing else. An announce takes one short
//!   lock, and a second one if there are upstream trackers. It formats and logs text only if debug logging is on. Locks
//!   are held for milliseconds at most, however many peers expire together (the store's contract gives the details).
//! - No client outside of private networks gets a private address. A client can register another address only if the
//!   operator allows it ([`topology`], [`frontend::client_address`]). A client whose address is unknown is not listed
//!   ([`tracker::Standing`]).
//! - A signal takes effect even while something blocks: a log that is not read, a file, a name server.
//! - A feature that is switched off costs nothing. Forwarders exist only with a file of forwarders. A registry and
//!   histograms exist only with `-p` (metrics for Prometheus).
//!
//! # Deliberately absent
//! The tracker keeps no peers across a restart, because clients announce again soon enough. It has no database, no
//! configuration language and no plug-ins.

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

pub mod access;
pub mod answer;
pub mod cache;
pub mod clock;
pub mod eviction;
pub mod hash;
pub mod metrics;
pub mod topology;

pub mod forward;
pub mod share;
pub mod share_link;
pub mod store;
pub mod torrents;

pub mod tracker;

pub mod frontend;

pub mod app;
pub mod commands;
pub mod config;
