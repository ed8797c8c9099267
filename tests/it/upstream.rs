//! 5. Upstream trackers over HTTP: the replies that they send, including odd replies, and the requests that they get.
//!
//! Most tests are tables of [`case::Case`]s. In each case, one tracker does what the case says, a second tracker is
//! correct, and a client announces. Whatever the first tracker does, the client gets the peers of the correct tracker
//! in time.

mod case;
mod replies;

mod bodies;
pub(crate) mod certificates;
mod deadlines;
mod endurance;
mod framing;
mod log;
mod own_host;
mod peers;
pub(crate) mod proxies;
mod redirects;
mod request;
mod statuses;
