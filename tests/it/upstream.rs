//! 5. Upstream trackers over HTTP: the replies that they send, odd ones too, and the requests that they get.
//!
//! Most tests are tables of [`case::Case`]s: one tracker does what the case says, a second one is correct, and a client
//! announces. Whatever the first tracker does, the client gets the peers of the second in time.

mod case;
mod replies;

mod bodies;
mod certificates;
mod deadlines;
mod endurance;
mod framing;
mod log;
mod own_host;
mod peers;
mod proxies;
mod redirects;
mod request;
mod statuses;
