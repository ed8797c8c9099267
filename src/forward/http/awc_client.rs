//! awc as the HTTP client for upstream trackers, with all its work-arounds.
//!
//! awc 3.11 with actix-http 3.20 misreads replies that real trackers send, and has no room for some things that an
//! exchange needs. CONTRIBUTING.md says why awc is used nevertheless. All work-arounds are in this module, so that the
//! rest of `forward` sees an ordinary client. `traps` has a test for each misreading except the last. When awc reads
//! such a reply correctly, the test fails, and the work-around can be removed.
//!
//! # Replies that awc misreads
//! [`UpstreamStream`](stream::UpstreamStream) is between awc and the socket. The stream rewrites the head of a reply
//! before awc reads the head (module `response`). The stream also counts bytes.
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
//! - *TLS.* There is no place for our stream between awc and its own TLS. So awc is built without TLS, and our
//!   connector performs the TLS handshake. awc gets `http://` for every URL.
//! - *Settings of one request.* The proxy, the tunnel, TLS and the time limit of one address differ between requests,
//!   but awc has one connector for all requests. [`ConnectRoute`] carries these settings to the connector in a
//!   task-local variable. A task-local works, because awc polls the connector within the task that sends the request.
//! - *A whole URL in the request line*, for a proxy. awc always writes a path, so the stream replaces the first bytes
//!   that awc writes.
//! - *One deadline.* awc allows five seconds for the connection and five for the head. Both timeouts are switched off,
//!   because the caller has one deadline for the whole exchange.
//! - *Errors.* awc's error type for connectors has no room for our errors. [`StreamError`](stream_error::StreamError)
//!   travels inside [`std::io::Error`], and the module `errors` takes it out again. A connector must not return
//!   `InvalidInput`, because awc panics at that error.
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

/// Returns the awc client of this thread. Each thread has its own, because an awc client is bound to its thread. The
/// error occurs only at the end of the thread.
pub(super) fn client() -> Result<awc::Client, String> {
    thread_local! {
        static CLIENT: RefCell<Option<awc::Client>> = const { RefCell::new(None) };
    }
    let made = |slot: &RefCell<Option<awc::Client>>| {
        // The borrow always succeeds. Every borrow ends before an await, and `new_client` does not call this function.
        let mut slot = slot.try_borrow_mut().map_err(|error| error.to_string())?;
        Ok(slot.get_or_insert_with(new_client).clone())
    };
    CLIENT.try_with(made).map_err(|error| error.to_string())?
}

fn new_client() -> awc::Client {
    let connector = awc::Connector::new().connector(UpstreamConnector).timeout(Duration::MAX).limit(0);
    awc::Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}
