//! One announce to an upstream tracker over HTTP: where it goes, how redirects are followed, what may come back.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use actix_http::error::ParseError;
use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{
    ACCEPT_ENCODING, HOST, HeaderMap, HeaderValue, HttpDate, LOCATION, RETRY_AFTER, USER_AGENT, VIA,
};
use awc::http::{StatusCode, Uri};
use futures::Stream;
use percent_encoding::{CONTROLS, percent_encode};
use tokio::time::Instant;
use url::Url;

use super::connect;
use super::error::{BadRedirect, ForwardError};

use super::reply::StreamError;
use super::resolve::Resolver;
use super::upstream::Answer;
use super::uri::{Secrets, host_and_port, is_http, login, same_origin, target, with_host};
use crate::bittorrent::address::is_public;
use crate::wire::bencode::BencodeError;
use crate::wire::upstream::{self, UpstreamReply, UpstreamReplyError};

/// The longest body that is read, inflated.
const MAX_BODY: usize = 1024 * 1024;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// The longest `User-Agent` that goes along, in bytes: it is kept for each client.
const MAX_USER_AGENT: usize = 128;

/// No exchange takes as long. It keeps sums with the time from overflowing.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// An upstream tracker that is asked over HTTP or HTTPS.
pub(super) struct HttpUpstream {
    /// As configured. Names the host to dial.
    configured: Url,
    /// As the upstream sees it: with the host that `host:` says. Names the host for `Host` and for TLS.
    seen: Url,
    /// The user and the password of the uri.
    login: Option<(String, String)>,
    secrets: Secrets,
    resolver: Resolver,
}

/// What of the client's own headers goes along, and by whom the announce has been passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Along {
    user_agent: Option<HeaderValue>,
    via: Option<HeaderValue>,
}

impl Along {
    /// A header that cannot be sent on is not worth losing the announce for; nor is one worth keeping that is longer
    /// than any client's name.
    pub(super) fn new(user_agent: Option<&[u8]>, via: &str) -> Self {
        let user_agent = user_agent.filter(|agent| agent.len() <= MAX_USER_AGENT);
        Self {
            user_agent: user_agent.and_then(|agent| HeaderValue::from_bytes(agent).ok()),
            via: HeaderValue::from_str(via).ok().filter(|via| !via.is_empty()),
        }
    }

    /// By whom the announce has been passed on; empty when nobody is to know.
    pub(super) fn via(&self) -> &[u8] {
        self.via.as_ref().map_or(&[], HeaderValue::as_bytes)
    }
}

/// A request without its address.
struct Request<'a> {
    tls: bool,
    uri: Uri,
    host: HeaderValue,
    login: Option<&'a (String, String)>,
    along: &'a Along,
}

impl HttpUpstream {
    /// Prepares for a forwarder's `uri`, and for its `host` if it has one. The error is for the operator, and
    /// continues a sentence that names the forwarder.
    pub(super) fn new(uri: &Url, host: Option<&str>) -> Result<Self, String> {
        if !is_http(uri) {
            return Err(format!("its uri begins with {}://, but must begin with http:// or https://", uri.scheme()));
        }
        if uri.host().is_none() {
            return Err("its uri names no host".to_owned());
        }
        if uri.port() == Some(0) {
            return Err("its uri names port 0, where nothing can listen".to_owned());
        }
        let seen = match host {
            None => uri.clone(),
            Some(host) => with_host(uri, host).ok_or_else(|| {
                format!("its host is {host:?}, but must be a name or an address, which may end in a port")
            })?,
        };
        if seen.scheme() == "https" && connect::server_name(seen.host_str().unwrap_or_default()).is_err() {
            return Err("its host is no name that a certificate can be issued for".to_owned());
        }
        let (login, secrets) = (login(uri), Secrets::of(uri));
        let upstream = Self { configured: uri.clone(), seen, login, secrets, resolver: Resolver::new() };
        // What can be wrong with a request is wrong with all of them: better said at the start.
        match upstream.request(&upstream.seen, "", &Along::new(None, "")) {
            Some(_) => Ok(upstream),
            None => Err("its uri is too long, or holds something that HTTP cannot send".to_owned()),
        }
    }

    /// Sends one announce and reads the reply. `query` is as [`upstream::put_query`] makes it. `timeout`
    /// covers everything, from the name to the last byte.
    ///
    /// The future must be polled within a tokio `LocalSet`: awc's connections are bound to their thread.
    pub(super) async fn announce(&self, query: &str, along: &Along, timeout: Duration) -> Result<Answer, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = self.exchange(query, along, deadline);
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    async fn exchange(&self, query: &str, along: &Along, deadline: Instant) -> Result<Answer, ForwardError> {
        let request = self.request(&self.seen, query, along);
        let request = request.ok_or(ForwardError::TooLong)?;
        let addresses = self.resolver.usual(&self.configured).await.map_err(ForwardError::Dns)?;
        let (mut response, mut address) = send(&request, &addresses, deadline).await?;
        self.resolver.answered(address);
        let upstream_is_public = is_public(address.ip());
        let mut url = Cow::Borrowed(&self.seen);
        for _ in 0..MAX_REDIRECTS {
            if !is_redirect(response.status()) {
                return Ok(Answer { reply: self.reply(response, deadline).await?, from: address });
            }
            let status = response.status().as_u16();
            let bad = |why| ForwardError::Redirect { why, status };
            url = Cow::Owned(location(&url, response.headers()).ok_or(bad(BadRedirect::Location))?);
            // Its body is of no use, and its connection need not last as long as the next one.
            drop(response);
            let own = self.is_own(&url);
            let request = self.request(&url, query, along).ok_or(bad(BadRedirect::Location))?;
            let addresses = if own {
                self.resolver.usual(&self.configured).await.map_err(ForwardError::Dns)?
            } else {
                let mut addresses = self.resolver.once(&url).await.map_err(ForwardError::Dns)?;
                permit(&mut addresses, upstream_is_public);
                if addresses.is_empty() {
                    return Err(bad(BadRedirect::Private));
                }
                addresses
            };
            (response, address) = send(&request, &addresses, deadline).await?;
        }
        if is_redirect(response.status()) {
            return Err(ForwardError::Redirect { why: BadRedirect::TooMany, status: response.status().as_u16() });
        }
        Ok(Answer { reply: self.reply(response, deadline).await?, from: address })
    }

    /// None when awc would refuse it.
    fn request<'a>(&'a self, url: &Url, query: &str, along: &'a Along) -> Option<Request<'a>> {
        let own = self.is_own(url);
        // Ours may be reached under two names, but has one.
        let host = if own { host_and_port(&self.seen) } else { host_and_port(url) };
        Some(Request {
            tls: url.scheme() == "https",
            // TLS is the connector's affair, see there.
            uri: Uri::try_from(format!("http://{host}{}", target(url, query))).ok()?,
            host: HeaderValue::try_from(host).ok()?,
            login: self.login.as_ref().filter(|_| own),
            along,
        })
    }

    /// Whether a URL leads to the configured upstream, be it under the name that `host:` gives it, which it puts into
    /// its redirects. Only there go the configured address and `host:`.
    fn is_own(&self, url: &Url) -> bool {
        same_origin(url, &self.seen) || same_origin(url, &self.configured)
    }

    async fn reply<S>(&self, mut response: ClientResponse<S>, deadline: Instant) -> Result<UpstreamReply, ForwardError>
    where
        S: Stream<Item = Result<Bytes, PayloadError>>,
    {
        let status = response.status();
        let code = status.as_u16();
        let retry_after = retry_after(status, response.headers());
        let body = response.body().limit(MAX_BODY);
        let body = if status == StatusCode::OK {
            body.await.map_err(|error| body_error(error, code))?
        } else {
            // With what goes wrong from here on, the status is still the better news; so also with the deadline, which
            // is polled here before it is polled around the exchange.
            let body = tokio::time::timeout_at(deadline, body).await;
            body.ok().and_then(Result::ok).ok_or(ForwardError::Status { code, retry_after })?
        };
        match upstream::parse_reply(&body) {
            Err(UpstreamReplyError::Refused { reason, retry }) => {
                let reason = self.secrets.redact(&reason);
                Err(ForwardError::Refused { reason, retry, status: Some(code), retry_after })
            }
            _ if status != StatusCode::OK => Err(ForwardError::Status { code, retry_after }),
            Ok(mut reply) => {
                reply.warning = reply.warning.map(|warning| self.secrets.redact(&warning));
                Ok(reply)
            }
            Err(UpstreamReplyError::NotBencode(_)) if body.is_empty() => Err(junk("it is empty", Some(code))),
            Err(UpstreamReplyError::NotBencode(BencodeError::EndsEarly)) => {
                Err(ForwardError::Truncated { status: Some(code) })
            }
            Err(UpstreamReplyError::NotBencode(error)) => Err(junk(error, Some(code))),
            Err(UpstreamReplyError::NotADictionary) => Err(junk("it is no dictionary", Some(code))),
        }
    }
}

impl fmt::Debug for HttpUpstream {
    /// Path and query may hold a passkey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = host_and_port(&self.seen);
        f.debug_struct("HttpUpstream").field("scheme", &self.seen.scheme()).field("host", &host).finish_non_exhaustive()
    }
}

/// Tries the addresses in turn until one takes the connection, and says which did.
async fn send(
    request: &Request<'_>,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(ClientResponse<impl Stream<Item = Result<Bytes, PayloadError>> + use<>>, SocketAddr), ForwardError> {
    let client = connect::client(request.tls).map_err(ForwardError::Tls)?;
    let mut failure = ForwardError::Dns("it has no address".to_owned());
    for (tried, &address) in addresses.iter().enumerate() {
        let mut outgoing = client
            .get(&request.uri)
            .address(address)
            // A connection that served an odd reply is in an odd state: it is not used again.
            .force_close()
            // Some trackers compare header names byte by byte.
            .camel_case()
            .insert_header((HOST, request.host.clone()))
            .insert_header((ACCEPT_ENCODING, HeaderValue::from_static("gzip")));
        if let Some(user_agent) = &request.along.user_agent {
            outgoing = outgoing.insert_header((USER_AGENT, user_agent.clone()));
        }
        if let Some(via) = &request.along.via {
            outgoing = outgoing.insert_header((VIA, via.clone()));
        }
        if let Some((user, password)) = request.login {
            outgoing = outgoing.basic_auth(user, password);
        }
        // Any other body makes a `Content-Length: 0`, which some trackers refuse with GET.
        let exchange = outgoing.send_body(awc::body::None::new());
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let response = if left > 1 {
            // An address that swallows packets must leave time for the others.
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            connect::connecting_by(Instant::now() + share, exchange).await
        } else {
            exchange.await
        };
        match response.map_err(send_error) {
            Ok(response) => return Ok((response, address)),
            Err(error @ ForwardError::Connect(_)) => failure = error,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

fn send_error(error: SendRequestError) -> ForwardError {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => match StreamError::find(&error) {
            Some(StreamError::Tls(what)) => ForwardError::Tls(what),
            _ => ForwardError::Connect(error.to_string()),
        },
        SendRequestError::Connect(ConnectError::Disconnected) => ForwardError::Truncated { status: None },
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => ForwardError::Timeout,
        SendRequestError::Connect(error) => ForwardError::Connect(error.to_string()),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => io_error(&error, None),
        SendRequestError::Response(ParseError::TooLarge) => ForwardError::TooLarge { status: None },
        SendRequestError::Response(error) => junk(format_args!("it is no HTTP: {error}"), None),
        // The rest is about requests that are not ours.
        _ => junk("it is no HTTP", None),
    }
}

fn body_error(error: PayloadError, code: u16) -> ForwardError {
    match error {
        PayloadError::Overflow => ForwardError::TooLarge { status: Some(code) },
        // In spite of its name the first is what all errors become on their way through awc.
        PayloadError::Incomplete(Some(error)) | PayloadError::Io(error) => io_error(&error, Some(code)),
        PayloadError::Incomplete(None) => ForwardError::Truncated { status: Some(code) },
        error => junk(error, Some(code)),
    }
}

fn io_error(error: &std::io::Error, status: Option<u16>) -> ForwardError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, WriteZero};
    match (StreamError::find(error), error.kind()) {
        (Some(StreamError::Tls(what)), _) => ForwardError::Tls(what),
        (Some(StreamError::HeadTooLarge), _) => ForwardError::TooLarge { status },
        // So say the readers of chunks and of gzip; the last is something behind the end of the gzip.
        (None, InvalidData | InvalidInput | WriteZero) => junk(error, status),
        (Some(StreamError::Truncated) | None, _) => ForwardError::Truncated { status },
    }
}

fn junk(what: impl fmt::Display, status: Option<u16>) -> ForwardError {
    ForwardError::Junk { what: what.to_string(), status }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => SystemTime::from(value.parse::<HttpDate>().ok()?).duration_since(SystemTime::now()).ok(),
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, if it is somewhere that HTTP goes.
fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    // Raw bytes of no known encoding are common here.
    let location = percent_encode(headers.get(LOCATION)?.as_bytes(), CONTROLS).to_string();
    from.join(&location).ok().filter(|url| is_http(url) && url.port() != Some(0))
}

/// Leaves those addresses to which a redirect may lead. Only an upstream that is in a private network itself may send
/// us into one. The addresses that are dialled are the very ones that are examined: a name that points elsewhere the
/// next moment gains nothing.
fn permit(addresses: &mut Vec<SocketAddr>, upstream_is_public: bool) {
    addresses.retain(|address| !upstream_is_public || is_public(address.ip()));
}

#[cfg(test)]
mod tests;
