//! awc as the HTTP client for upstream trackers, with all its work-arounds.
//!
//! awc 3.11 with actix-http 3.20 misreads replies of real trackers, and lacks things that an exchange needs.
//! CONTRIBUTING.md says why awc is used nevertheless. All work-arounds are in this module. `traps` tests each
//! misreading except the last. When such a test fails, awc reads that reply correctly, and the work-around can go.
//!
//! # Replies that awc misreads
//! [`UpstreamStream`](stream::UpstreamStream) sits between awc and the socket. The stream counts bytes, and rewrites
//! the head of a reply (module `response`).
//! - An HTTP/1.1 reply with neither `Content-Length` nor `Transfer-Encoding` ends when the connection ends (RFC 9112,
//!   section 6.3). awc treats its body as empty and reports no error. Many trackers send such replies. The stream
//!   changes the version in the head to HTTP/1.0, and then awc reads the body to its end.
//! - When the connection ends before `Content-Length` is reached, awc reports no error. The stream reports an error.
//! - awc treats an interim reply (1xx) as the final one. The stream removes interim replies.
//! - Several equal `Content-Length` headers, or one with a list of equal values, mean one length (RFC 9110, section
//!   8.6). awc refuses such replies. The stream keeps only one of the values.
//! - awc reads chunk extensions, trailers and interim replies without a bound. The stream ends a reply after `MAX_RAW`
//!   bytes of any kind.
//! - A header name of 65,536 bytes or more makes awc panic. The stream bounds the whole head.
//! - A connection may end without TLS `close_notify`, or with a reset if the server did not read the whole request. awc
//!   reports both as errors, even if the reply is complete. The stream treats both as the end of the connection.
//!
//! # What awc has no room for
//! - *TLS.* Our stream does not fit between awc and awc's TLS. So awc is built without TLS and gets `http://` for every
//!   URL, and our connector performs the handshake.
//! - *Settings of one request.* awc has one connector for all requests, but proxy, tunnel, TLS and time limit differ.
//!   [`ConnectRoute`] carries them to the connector in a task-local variable: awc polls the connector within the task
//!   that sends the request.
//! - *A whole URL in the request line*, for a proxy. awc writes a path, so the stream replaces awc's first bytes.
//! - *One deadline.* awc allows five seconds for the connection and five for the head. Both timeouts are off, because
//!   the caller has one deadline for the whole exchange.
//! - *Errors.* A connector cannot return our errors, so [`StreamError`](stream_error::StreamError) travels inside
//!   [`std::io::Error`], and the module `errors` takes it out. A connector must not return `InvalidInput`: awc panics
//!   at it.
//! - *Reuse.* An odd reply leaves a connection in an unknown state, so each connection serves one exchange.

mod connector;
mod errors;
mod response;
mod stream;
mod stream_error;
#[cfg(test)]
mod traps;

use std::cell::RefCell;
use std::time::Duration;

use self::connector::UpstreamConnector;
pub(super) use self::connector::{ConnectRoute, server_name, with_route};
pub(super) use self::errors::{body_error, junk, send_error};
#[cfg(test)]
pub(super) use self::stream::MAX_RAW;

/// Returns this thread's awc client, which is bound to the thread. Fails only while the thread ends.
pub(super) fn client() -> Result<awc::Client, String> {
    thread_local! {
        static CLIENT: RefCell<Option<awc::Client>> = const { RefCell::new(None) };
    }
    let made = |slot: &RefCell<Option<awc::Client>>| {
        // Always succeeds: every borrow ends before an await, and `new_client` does not call this function.
        let mut slot = slot.try_borrow_mut().map_err(|error| error.to_string())?;
        Ok(slot.get_or_insert_with(new_client).clone())
    };
    CLIENT.try_with(made).map_err(|error| error.to_string())?
}

fn new_client() -> awc::Client {
    let connector = awc::Connector::new().connector(UpstreamConnector).timeout(Duration::MAX).limit(0);
    awc::Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}
