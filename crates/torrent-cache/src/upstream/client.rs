//! The HTTP client: one request, its redirects, and the reply with its body.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter::successors;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::timeout;
use trust::{Authorities, client_config, default_roots};
use url::Url;

use super::connector::FetchConnector;
use super::dial::{Dialler, HostLookup, system_lookup};
use super::error::{FetchError, FetchFault};
use super::headers::{AskHeaders, answered};
use super::origin::{UpstreamOrigin, Upstreams};
use super::public_ip::is_public;
use super::redirect::{self, MAX_REDIRECTS, RedirectFault, is_redirect};
use super::retry_after::RetryAfter;

/// The most bytes that are read at once. Also the largest head of a reply.
const READ_BUFFER: usize = 256 << 10;

/// The most headers of a reply.
const MAX_HEADERS: usize = 100;

/// How the client behaves.
#[derive(Clone)]
pub struct FetchOptions {
    /// The time limit for the look-up of a name, the connection and the TLS handshake together.
    pub connect_timeout: Duration,
    /// The head of the reply must come within `connect_timeout` and this time together, on a kept connection too.
    pub head_timeout: Duration,
    /// The longest time without a new byte of a body.
    pub progress_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// The most unused connections that are kept to each server.
    pub idle_connections: usize,
    /// The TLS settings, with the authorities that the client trusts.
    pub tls: Arc<ClientConfig>,
    /// How names are looked up.
    pub lookup: HostLookup,
    /// Whether a host that is not listed may have this address: [`is_public`], except in tests.
    pub unlisted: fn(IpAddr) -> bool,
}

impl FetchOptions {
    /// Returns the default options. The client trusts the authorities that the operator names, or else those of webpki
    /// and of the system. The error is a text of the TLS library.
    pub fn new(authorities: Option<&Authorities>) -> Result<Self, String> {
        Ok(Self {
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            progress_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            idle_connections: 8,
            tls: authorities.map_or_else(|| client_config(default_roots()), Authorities::client_config)?,
            lookup: system_lookup(),
            unlisted: is_public,
        })
    }
}

impl fmt::Debug for FetchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("head_timeout", &self.head_timeout)
            .field("progress_timeout", &self.progress_timeout)
            .finish_non_exhaustive()
    }
}

/// What the request asks for.
#[derive(Clone, PartialEq, Eq)]
pub enum AskMethod {
    /// The resource.
    Get,
    /// Its headers.
    Head,
    /// A token, by a POST of this form (`application/x-www-form-urlencoded`). Redirects of this request are not
    /// followed.
    PostForm(String),
}

/// What happens with redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// The client follows them.
    Follow,
    /// The client returns the redirect as the reply.
    Return,
}

/// A request.
#[derive(Clone)]
pub struct Ask<'a> {
    /// What the request asks for.
    pub method: AskMethod,
    /// The server that is asked. The caller has looked it up in [`Upstreams`].
    pub origin: &'a UpstreamOrigin,
    /// The path and the query, such as `/v2/…`, as they go upstream.
    pub path_and_query: &'a str,
    /// The headers.
    pub headers: &'a AskHeaders,
    /// What happens with redirects.
    pub redirects: Redirects,
}

/// A reply with any status.
#[derive(Debug)]
pub struct FetchReply {
    /// The status.
    pub status: StatusCode,
    /// The headers that a client gets.
    pub headers: HeaderMap,
    /// The body.
    pub body: FetchBody,
}

impl FetchReply {
    /// Returns `Content-Length`. In a reply to HEAD, this is the length that the body of a GET would have.
    pub fn content_length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Makes the error for a reply whose status says nothing about the client's rights.
    pub fn unexpected(&self, origin: &UpstreamOrigin) -> FetchError {
        let wait = RetryAfter::of(&self.headers, SystemTime::now());
        FetchError { server: origin.to_string(), fault: FetchFault::Status(self.status.as_u16(), wait) }
    }

    /// Whether the body is encoded, such as by gzip, although the request asked for `identity`.
    pub fn is_encoded(&self) -> bool {
        self.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
    }
}

/// The body of a reply, which is read in chunks.
#[derive(Debug)]
pub struct FetchBody {
    incoming: Incoming,
    server: String,
    progress: Duration,
}

impl FetchBody {
    /// Returns the next bytes; `None` at the end. An end before the announced length is an error. Bytes beyond the
    /// announced length are never returned, and their connection is closed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = timeout(self.progress, self.incoming.frame()).await;
            match frame.map_err(|_| self.error(FetchFault::Stalled(self.progress)))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.error(FetchFault::Body(causes(&error)))),
                // A frame without data holds trailers, which are not needed.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => (),
                },
            }
        }
    }

    /// Returns the whole body. A body with more than `limit` bytes, or one that takes longer than `within`, is an
    /// error.
    pub async fn collect(mut self, limit: usize, within: Duration) -> Result<Bytes, FetchError> {
        let mut whole = BytesMut::new();
        let collected = timeout(within, async {
            while let Some(chunk) = self.chunk().await? {
                if whole.len() + chunk.len() > limit {
                    return Err(self.error(FetchFault::TooLarge(limit)));
                }
                whole.extend_from_slice(&chunk);
            }
            Ok(())
        });
        match collected.await {
            Ok(collected) => collected.map(|()| whole.freeze()),
            Err(_) => Err(self.error(FetchFault::Stalled(within))),
        }
    }

    fn error(&self, fault: FetchFault) -> FetchError {
        FetchError { server: self.server.clone(), fault }
    }
}

/// Sends requests to upstreams. Keeps connections open for later requests. A clone shares these connections.
#[derive(Clone, Debug)]
pub struct FetchClient {
    upstreams: Arc<Upstreams>,
    client: Client<FetchConnector, Full<Bytes>>,
    options: FetchOptions,
}

/// The current target of a request, which each redirect changes.
struct Hop {
    uri: Uri,
    url: Url,
    origin: UpstreamOrigin,
    keeps_credentials: bool,
}

impl FetchClient {
    /// Makes a client for these upstreams.
    pub fn new(upstreams: Arc<Upstreams>, options: FetchOptions) -> Self {
        let dialler = Dialler {
            upstreams: Arc::clone(&upstreams),
            lookup: Arc::clone(&options.lookup),
            unlisted: options.unlisted,
        };
        let connector = FetchConnector {
            dialler: Arc::new(dialler),
            tls: Arc::clone(&options.tls),
            timeout: options.connect_timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.idle_connections)
            .http1_read_buf_exact_size(READ_BUFFER)
            .http1_max_headers(MAX_HEADERS)
            .build(connector);
        Self { upstreams, client, options }
    }

    /// Returns the upstreams that the client may ask.
    pub fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// Resolves a URL that an upstream names, by the rules for redirects. Returns the URL and its server. The address
    /// of the server is checked only when the server is dialled.
    pub fn target(&self, from: &UpstreamOrigin, reference: &str) -> Result<(Url, UpstreamOrigin), RedirectFault> {
        let from = format!("{}://{}/", from.scheme().as_str(), from.authority());
        let from = Url::parse(&from).map_err(|_| RedirectFault::Location)?;
        redirect::target(&from, reference, &self.upstreams)
    }

    /// Sends a request. Returns the reply once its head has come. With [`Redirects::Follow`], follows up to five
    /// redirects. Leaves the credentials out as soon as a redirect leads to another origin.
    pub async fn send(&self, ask: Ask<'_>) -> Result<FetchReply, FetchError> {
        let mut hop = Hop::first(&ask)?;
        let follows = ask.redirects == Redirects::Follow && !matches!(ask.method, AskMethod::PostForm(_));
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(&ask, &hop).await.map_err(|fault| hop.error(fault))?;
            if response.status().is_informational() {
                let what = format!("status {} was not asked for", response.status().as_u16());
                return Err(hop.error(FetchFault::Head(what)));
            }
            if !(follows && is_redirect(response.status())) {
                return Ok(self.reply(response, &hop));
            }
            hop = hop.redirected(response.headers(), &self.upstreams).map_err(|fault| hop.error(fault.into()))?;
        }
        Err(hop.error(RedirectFault::TooMany.into()))
    }

    /// Sends one request. If the connection ends before a byte of the reply, repeats the request once, except a POST: a
    /// server can close a kept connection at any time.
    async fn exchange(&self, ask: &Ask<'_>, hop: &Hop) -> Result<Response<Incoming>, FetchFault> {
        match self.attempt(ask, hop).await {
            Err(Failed { is_without_reply: true, .. }) if !matches!(ask.method, AskMethod::PostForm(_)) => {
                self.attempt(ask, hop).await
            }
            result => result,
        }
        .map_err(|failed| failed.fault)
    }

    async fn attempt(&self, ask: &Ask<'_>, hop: &Hop) -> Result<Response<Incoming>, Failed> {
        let request = request(ask, hop)?;
        let waiting = self.options.connect_timeout + self.options.head_timeout;
        match timeout(waiting, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failed::from_error(&error)),
            Err(_) => Err(Failed::from(FetchFault::HeadTimeout(self.options.head_timeout))),
        }
    }

    fn reply(&self, response: Response<Incoming>, hop: &Hop) -> FetchReply {
        let (head, incoming) = response.into_parts();
        let body = FetchBody { incoming, server: hop.origin.to_string(), progress: self.options.progress_timeout };
        FetchReply { status: head.status, headers: answered(&head.headers), body }
    }
}

impl Hop {
    fn first(ask: &Ask<'_>) -> Result<Self, FetchError> {
        let origin = ask.origin.clone();
        let wrong = |what: String| FetchError { server: ask.origin.to_string(), fault: FetchFault::Request(what) };
        if !ask.path_and_query.starts_with('/') {
            return Err(wrong("its path does not begin with /".to_owned()));
        }
        // The `Uri` keeps the path as it is. `Url` would resolve dots in the path.
        let text = format!("{}://{}{}", origin.scheme().as_str(), origin.authority(), ask.path_and_query);
        let uri = text.parse().map_err(|_| wrong("its path is not valid".to_owned()))?;
        let url = Url::parse(&text).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { uri, url, origin, keeps_credentials: true })
    }

    fn redirected(&self, headers: &HeaderMap, upstreams: &Upstreams) -> Result<Self, RedirectFault> {
        let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
        let (url, origin) = redirect::target(&self.url, location.ok_or(RedirectFault::Location)?, upstreams)?;
        let uri = url.as_str().parse().map_err(|_| RedirectFault::Location)?;
        let keeps_credentials = self.keeps_credentials && origin == self.origin;
        Ok(Self { uri, url, origin, keeps_credentials })
    }

    fn error(&self, fault: FetchFault) -> FetchError {
        FetchError { server: self.origin.to_string(), fault }
    }
}

fn request(ask: &Ask<'_>, hop: &Hop) -> Result<Request<Full<Bytes>>, FetchFault> {
    let (method, form) = match &ask.method {
        AskMethod::Get => (Method::GET, None),
        AskMethod::Head => (Method::HEAD, None),
        AskMethod::PostForm(form) => (Method::POST, Some(form)),
    };
    let mut headers = ask.headers.to_upstream(hop.keeps_credentials);
    if form.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    let body = Full::new(form.map(|form| Bytes::from(form.clone())).unwrap_or_default());
    let request = Request::builder().method(method).uri(hop.uri.clone()).body(body);
    let mut request = request.map_err(|error| FetchFault::Request(error.to_string()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Why no head of a reply came.
struct Failed {
    fault: FetchFault,
    /// Whether the connection ended before a byte of a reply came.
    is_without_reply: bool,
}

impl From<FetchFault> for Failed {
    fn from(fault: FetchFault) -> Self {
        Self { fault, is_without_reply: false }
    }
}

impl Failed {
    fn from_error(error: &(dyn Error + 'static)) -> Self {
        // If the connector failed, its own error is among the causes.
        if let Some(fault) = chain(error).find_map(|cause| cause.downcast_ref::<FetchFault>()) {
            return Self::from(fault.clone());
        }
        let is_without_reply = chain(error).any(|cause| {
            let ended = cause.downcast_ref::<hyper::Error>();
            let ended = ended.is_some_and(|error| error.is_incomplete_message() || error.is_canceled());
            let reset = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            ended || matches!(reset, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
        });
        Self { fault: FetchFault::Head(causes(error)), is_without_reply }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// Writes an error and its causes in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
