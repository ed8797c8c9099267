//! `retracker`: a BitTorrent tracker for a local network that also asks upstream trackers.
//!
//! # How an announce travels
//! A socket's bytes are parsed at the edge by [`wire`] into the values of [`bittorrent`]. [`tracker`] decides: its policy
//! finds the peer's address, [`store`] records the peer and picks others, [`forward`] sees to it that upstream trackers
//! are told what they should know and gives the peers that they have given, and all are merged. [`wire`] writes the reply,
//! and [`frontend`] sends it. Exchanges with upstream trackers run on a thread of their own.
//!
//! Each worker thread has its own sockets and its own event loop. Over TCP and Unix sockets it reads requests itself, answers
//! announces and scrapes on the spot ([`frontend::http::front`]), and asks actix-web's routes for every other reply. Over UDP it takes datagrams by the batch ([`frontend::udp`]).
//!
//! # Which way imports point
//! `bittorrent, cache, clock, metrics ← wire ← {store, forward} ← tracker ← frontend ← config ← {commands, app} ← main`. A test holds this
//! (`tests/it/architecture.rs`). [`tracker`] knows neither actix nor bytes; [`bittorrent`] knows nothing.
//!
//! # Invariants
//! - No input from a socket, a file or the environment can make the process panic or grow without bound.
//! - The announce path allocates for the peers that it picks and for nothing else as a rule, takes one short lock (with
//!   upstream trackers another one), and formats and logs nothing below debug level. No lock is held for longer than
//!   milliseconds, however many peers expire together (the store's contract says when).
//! - No client outside is told a private address, and none can register another's unless the operator allows it
//!   ([`bittorrent::view`], [`frontend::client_address`], [`tracker::Policy::addresses`]). Who is not known is not listed
//!   ([`tracker::Standing`]).
//! - Nothing that may block (a log that is not read, a file, a name server) stands between a signal and its effect.
//! - What is switched off was never built: no forwarders without a file of them, no registry and no histogram without `-p`.
//!
//! # Deliberately absent
//! Persistence: clients announce again soon enough. A database, a configuration language, plug-ins.

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

pub mod bittorrent;
pub mod cache;
pub mod clock;
pub mod log_output;
pub mod metrics;
pub mod signals;
pub mod wire;

pub mod forward;
pub mod store;

pub mod tracker;

pub mod frontend;

pub mod app;
pub mod commands;
pub mod config;
