//! One request and its reply, on a connection of their own.

use std::error::Error;
use std::iter::successors;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use super::fault::{TrackerError, TrackerFault};
use super::pause::TrackerPause;
use crate::upstream::{FetchConnector, FetchStream, HostLookup, OUR_AGENT, UpstreamOrigin};

/// The time for the name look-up, the connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The most header lines of a reply.
const MAX_HEADERS: usize = 64;

/// The most bytes of the head of a reply.
const MAX_HEAD: usize = 64 << 10;

/// A server that calls are sent to.
#[derive(Debug)]
pub(super) struct TrackerEndpoint {
    origin: UpstreamOrigin,
    /// The names of the settings that hold the server's address, such as `ETCD_HOST and ETCD_PORT`.
    settings: &'static str,
    connector: FetchConnector,
    pause: TrackerPause,
}

/// A request to the server.
pub(super) struct TrackerCall {
    pub(super) method: Method,
    /// The path and the query.
    pub(super) target: String,
    /// The value of `Authorization`, if any.
    pub(super) authorization: Option<HeaderValue>,
    /// The media type and the body, if any.
    pub(super) body: Option<(&'static str, Bytes)>,
    /// The most bytes of the reply's body.
    pub(super) max_reply: usize,
    /// The time from the open connection to the end of the reply.
    pub(super) within: Duration,
}

/// What the server replied.
#[derive(Debug)]
pub(super) struct CallReply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl TrackerEndpoint {
    pub(super) fn new(
        origin: UpstreamOrigin,
        settings: &'static str,
        tls: Arc<ClientConfig>,
        lookup: HostLookup,
    ) -> Self {
        let connector = FetchConnector::only(origin.clone(), tls, lookup, CONNECT_TIMEOUT);
        Self { origin, settings, connector, pause: TrackerPause::default() }
    }

    /// Sends a request and receives the whole reply. Any status is a success here.
    pub(super) async fn exchange(&self, call: TrackerCall) -> Result<CallReply, TrackerError> {
        if let Err(left) = self.pause.admit(Instant::now()) {
            return Err(self.error(TrackerFault::Paused(left)));
        }
        let result = self.attempt(call).await;
        self.pause.ended(Instant::now(), result.as_ref().is_err_and(TrackerFault::is_down));
        result.map_err(|fault| self.error(fault))
    }

    async fn attempt(&self, call: TrackerCall) -> Result<CallReply, TrackerFault> {
        let (max_reply, within) = (call.max_reply, call.within);
        let request = self.request(call)?;
        let stream = self.connector.open_to(&self.origin).await.map_err(TrackerFault::Unreachable)?;
        match timeout(within, talk(stream, request, max_reply)).await {
            Ok(result) => result,
            Err(_) => Err(TrackerFault::Timeout(within)),
        }
    }

    fn request(&self, call: TrackerCall) -> Result<Request<Full<Bytes>>, TrackerFault> {
        let is_post = call.method == Method::POST;
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.target)
            .header(HOST, self.origin.authority())
            .header(USER_AGENT, OUR_AGENT)
            .header(CONNECTION, "close");
        if let Some(authorization) = call.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut body = Bytes::new();
        if let Some((kind, bytes)) = call.body {
            request = request.header(CONTENT_TYPE, kind);
            body = bytes;
        } else if is_post {
            // Without a body the HTTP library sends no length, and some proxies refuse such a POST.
            request = request.header(CONTENT_LENGTH, 0);
        }
        let wrong = |error: http::Error| TrackerFault::WrongReply(format!("the request cannot be written: {error}"));
        request.body(Full::new(body)).map_err(wrong)
    }

    pub(super) fn error(&self, fault: TrackerFault) -> TrackerError {
        TrackerError { server: self.origin.to_string(), settings: self.settings, fault }
    }
}

async fn talk(stream: FetchStream, request: Request<Full<Bytes>>, limit: usize) -> Result<CallReply, TrackerFault> {
    let mut client = http1::Builder::new();
    client.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = client.handshake(stream).await.map_err(|error| broken(&error))?;
    let exchange = pin!(async move {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, mut incoming) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            // A frame without data is a trailer.
            let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
            if body.len() + data.len() > limit {
                return Err(TrackerFault::WrongReply(format!("its body has more than {limit} bytes")));
            }
            body.extend_from_slice(&data);
        }
        Ok(CallReply { status: head.status, headers: head.headers, body: body.freeze() })
    });
    // The connection is driven here, not by a task of its own, so that it ends with the call.
    match select(exchange, pin!(connection)).await {
        Either::Left((result, _)) => result,
        Either::Right((_, exchange)) => exchange.await,
    }
}

/// Turns an error of the HTTP library and its causes into a fault with one line of text.
fn broken(error: &(dyn Error + 'static)) -> TrackerFault {
    let causes = successors(Some(error), |&error| error.source());
    TrackerFault::Broken(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
