//! The vocabulary of the tests: a server as a process of its own, connections to the server, announces, and the parts
//! of replies.
//!
//! The system chooses all ports. Nothing here sleeps for a fixed time: [`eventually`] repeats a check until it succeeds
//! or [`DEADLINE`] has passed.

mod announce;
mod bencode;
mod certificates;
mod connection;
mod reply;
mod server;
mod wait;

pub(crate) use self::announce::{AnnounceQuery, announce, escape, id, observer};
pub(crate) use self::bencode::Bencode;
pub(crate) use self::certificates::{CertificateFiles, TestAuthority};
pub(crate) use self::connection::{TestConnection, request};
pub(crate) use self::reply::Reply;
pub(crate) use self::server::{Exit, OVER_UNIX, Server, ServerSetup, may_open, retracker, retracker_with_files};
pub(crate) use self::wait::{DEADLINE, eventually};
