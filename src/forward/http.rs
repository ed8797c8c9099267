//! One announce to an upstream tracker over HTTP: where it goes, how redirects are followed, what may come back.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use actix_http::error::ParseError;
use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{ACCEPT_ENCODING, HOST, HeaderMap, HeaderValue, HttpDate, LOCATION, RETRY_AFTER, USER_AGENT};
use awc::http::{StatusCode, Uri};
use futures::Stream;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode, utf8_percent_encode};
use tokio::time::Instant;
use url::{Host, Url};

use super::connect::{self, StreamError};
use super::error::{BadRedirect, ForwardError};
use crate::wire::bencode::BencodeError;
use crate::wire::upstream::{self, UpstreamReply, UpstreamReplyError};

/// The longest body that is read, inflated.
const MAX_BODY: usize = 1024 * 1024;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// How many addresses of one name are tried. Each takes its share of the time.
const MAX_ADDRESSES: usize = 4;

/// What is kept of a `failure reason`: it goes into logs and to clients.
const MAX_REASON: usize = 512;

/// Shorter parts of a uri are no passkeys.
const MIN_SECRET: usize = 6;

/// Stands in a `failure reason` where a passkey stood.
const REDACTED: &[u8] = b"***";

/// No exchange takes as long. It keeps sums with the time from overflowing.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// What awc refuses in a path or a query. [`Url`] has most of it encoded already.
const REFUSED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`');

/// An upstream tracker that is asked over HTTP or HTTPS.
pub(super) struct HttpUpstream {
    /// As configured. Names the host to dial.
    configured: Url,
    /// As the upstream sees it: with the host that `host:` says. Names the host for `Host` and for TLS.
    seen: Url,
    /// The user and the password of the uri.
    login: Option<(String, String)>,
    /// What may be a passkey: upstream trackers repeat them in their refusals.
    secrets: Vec<Vec<u8>>,
}

/// A request without its address.
struct Request<'a> {
    tls: bool,
    uri: Uri,
    host: HeaderValue,
    login: Option<&'a (String, String)>,
    user_agent: Option<&'a HeaderValue>,
}

impl HttpUpstream {
    /// Prepares for a forwarder's `uri`, and for its `host` if it has one. The error is a sentence for the operator.
    pub(super) fn new(uri: &Url, host: Option<&str>) -> Result<Self, String> {
        if !is_http(uri) {
            return Err(format!("The uri begins with {}://, but must begin with http:// or https://.", uri.scheme()));
        }
        if uri.host().is_none() {
            return Err("The uri names no host.".to_owned());
        }
        if uri.port() == Some(0) {
            return Err("The uri names port 0, which nothing listens at.".to_owned());
        }
        let seen = match host {
            None => uri.clone(),
            Some(host) => with_host(uri, host).ok_or_else(|| {
                format!("The host is {host:?}, but must be a host name or an address, and may end in a port.")
            })?,
        };
        if seen.scheme() == "https" && connect::server_name(seen.host_str().unwrap_or_default()).is_err() {
            return Err("The host is no name that a certificate can be issued for.".to_owned());
        }
        let upstream = Self { configured: uri.clone(), login: login(uri), secrets: secrets(uri), seen };
        // What can be wrong with a request is wrong with all of them: better said at the start.
        match upstream.request(&upstream.seen, "", None) {
            Some(_) => Ok(upstream),
            None => Err("The uri holds something that cannot be sent in HTTP, or is too long.".to_owned()),
        }
    }

    /// Sends one announce and reads the reply. `query` is as [`upstream::put_query`] makes it, `user_agent` the
    /// client's. `timeout` covers everything, from the name to the last byte.
    ///
    /// The future belongs to a thread with an actix system: awc's connections do.
    pub(super) async fn announce(
        &self,
        query: &str,
        user_agent: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<UpstreamReply, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = self.exchange(query, user_agent, deadline);
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    async fn exchange(
        &self,
        query: &str,
        user_agent: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<UpstreamReply, ForwardError> {
        // One that cannot be sent on is not worth losing the announce for.
        let user_agent = user_agent.and_then(|agent| HeaderValue::from_bytes(agent).ok());
        let request = self.request(&self.seen, query, user_agent.as_ref());
        let request = request.ok_or_else(|| ForwardError::Connect("the request is too long".to_owned()))?;
        let (mut response, address) = send(&request, &resolve(&self.configured).await?, deadline).await?;
        let upstream_is_public = is_public(address.ip());
        let mut url = Cow::Borrowed(&self.seen);
        for _ in 0..MAX_REDIRECTS {
            if !is_redirect(response.status()) {
                return self.reply(response, deadline).await;
            }
            let status = response.status().as_u16();
            let bad = |why| ForwardError::Redirect { why, status };
            url = Cow::Owned(location(&url, response.headers()).ok_or(bad(BadRedirect::Location))?);
            // Its body is of no use, and its connection need not last as long as the next one.
            drop(response);
            let own = self.is_own(&url);
            let request = self.request(&url, query, user_agent.as_ref()).ok_or(bad(BadRedirect::Location))?;
            let mut addresses = resolve(if own { &self.configured } else { &url }).await?;
            // The addresses that are dialled are the very ones that are examined: a name that points elsewhere the
            // next moment gains nothing.
            if upstream_is_public && !own {
                addresses.retain(|address| is_public(address.ip()));
                if addresses.is_empty() {
                    return Err(bad(BadRedirect::Private));
                }
            }
            (response, _) = send(&request, &addresses, deadline).await?;
        }
        if is_redirect(response.status()) {
            return Err(ForwardError::Redirect { why: BadRedirect::TooMany, status: response.status().as_u16() });
        }
        self.reply(response, deadline).await
    }

    /// None when awc would refuse it.
    fn request<'a>(&'a self, url: &Url, query: &str, user_agent: Option<&'a HeaderValue>) -> Option<Request<'a>> {
        let own = self.is_own(url);
        // Ours may be reached under two names, but has one.
        let host = if own { host_and_port(&self.seen) } else { host_and_port(url) };
        Some(Request {
            tls: url.scheme() == "https",
            // TLS is the connector's affair, see there.
            uri: Uri::try_from(format!("http://{host}{}", target(url, query))).ok()?,
            host: HeaderValue::try_from(host).ok()?,
            login: self.login.as_ref().filter(|_| own),
            user_agent,
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
                Err(ForwardError::Refused { reason: self.redacted(&reason), retry, status: code, retry_after })
            }
            _ if status != StatusCode::OK => Err(ForwardError::Status { code, retry_after }),
            Ok(reply) => Ok(reply),
            Err(UpstreamReplyError::NotBencode(_)) if body.is_empty() => Err(junk("it is empty", Some(code))),
            Err(UpstreamReplyError::NotBencode(BencodeError::EndsEarly)) => {
                Err(ForwardError::Truncated { status: Some(code) })
            }
            Err(UpstreamReplyError::NotBencode(error)) => Err(junk(error, Some(code))),
            Err(UpstreamReplyError::NotADictionary) => Err(junk("it is no dictionary", Some(code))),
            Err(UpstreamReplyError::Trailing) => Err(junk("something follows the dictionary", Some(code))),
        }
    }

    /// A `failure reason` without our passkey, and not too long.
    fn redacted(&self, reason: &[u8]) -> Vec<u8> {
        let mut rest = reason;
        let mut kept = Vec::new();
        while let [first, behind @ ..] = rest
            && kept.len() < MAX_REASON
        {
            if let Some(behind) = self.secrets.iter().find_map(|secret| rest.strip_prefix(secret.as_slice())) {
                kept.extend_from_slice(REDACTED);
                rest = behind;
            } else {
                kept.push(*first);
                rest = behind;
            }
        }
        kept
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
    let mut failure = no_address();
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
        if let Some(user_agent) = request.user_agent {
            outgoing = outgoing.insert_header((USER_AGENT, user_agent.clone()));
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
        PayloadError::Incomplete(_) => ForwardError::Truncated { status: Some(code) },
        PayloadError::Io(error) => io_error(&error, Some(code)),
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

fn no_address() -> ForwardError {
    ForwardError::Dns("it has no address".to_owned())
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

/// The path and the query, with ours appended unless the query, which a redirect can bring, has it already.
fn target(url: &Url, query: &str) -> String {
    let mut target = utf8_percent_encode(url.path(), REFUSED).to_string();
    let own = url.query().unwrap_or_default();
    target.push('?');
    target.extend(utf8_percent_encode(own, REFUSED));
    if !own.split('&').any(|pair| pair.starts_with("info_hash=")) {
        if !own.is_empty() && !own.ends_with('&') {
            target.push('&');
        }
        target.push_str(query);
    }
    target
}

/// As in `Host`: without the port that the scheme implies.
fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port()) == (b.scheme(), b.host(), b.port())
}

/// The URL under another host, which may come with a port.
fn with_host(url: &Url, host: &str) -> Option<Url> {
    if host.contains(['/', '\\', '?', '#', '@']) || host.trim() != host {
        return None;
    }
    let mut other = Url::parse(&format!("{}://{host}/", url.scheme())).ok()?;
    other.set_path(url.path());
    other.set_query(url.query());
    Some(other)
}

/// The user and the password in a URL, which go out as Basic authentication.
fn login(url: &Url) -> Option<(String, String)> {
    let decoded = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let password = url.password().unwrap_or_default();
    (!url.username().is_empty()).then(|| (decoded(url.username()), decoded(password)))
}

/// The parts of a uri that may be a passkey.
fn secrets(url: &Url) -> Vec<Vec<u8>> {
    let path = url.path().split('/').filter(|part| !part.starts_with("announce"));
    let query =
        url.query().unwrap_or_default().split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let password = url.password();
    let mut secrets: Vec<_> = path
        .chain(query)
        .chain(password)
        .flat_map(|part| [part.as_bytes().to_vec(), percent_decode_str(part).collect()])
        .filter(|secret| secret.len() >= MIN_SECRET)
        .collect();
    // The longest first, as one may begin with another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// The addresses of a URL's host, in the order in which they are to be tried: the families in turn, so that a broken
/// one costs little.
async fn resolve(url: &Url) -> Result<Vec<SocketAddr>, ForwardError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let name = match url.host() {
        Some(Host::Domain(name)) => name,
        Some(Host::Ipv4(ip)) => return Ok(vec![(ip, port).into()]),
        Some(Host::Ipv6(ip)) => return Ok(vec![(ip, port).into()]),
        None => return Err(no_address()),
    };
    let found = tokio::net::lookup_host((name, port)).await.map_err(|error| ForwardError::Dns(error.to_string()))?;
    Ok(in_turn(found.collect()))
}

fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv4);
    let (a, b): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv4() == preferred);
    let turns = 0..a.len().max(b.len());
    turns.flat_map(|turn| [a.get(turn), b.get(turn)]).flatten().copied().take(MAX_ADDRESSES).collect()
}

/// Whether an address is one that anybody may be sent to by a stranger's redirect: no one's private network, not this
/// host, not a link, not a group, nor an IPv6 way of writing such an IPv4 address.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        // This network, RFC 1918, loopback, multicast and reserved.
        [0 | 10 | 127 | 224.., ..] |
        // CGNAT (RFC 6598).
        [100, 64..=127, ..] |
        [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] |
        // Protocol assignments and benchmarks (RFC 6890).
        [192, 0, 0, _] | [198, 18..=19, ..] => false,
        _ => true,
    }
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // IPv4-compatible, with unspecified and loopback among them; mapped; NAT64 (RFC 6052); 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        // Local NAT64 (RFC 8215); ULA, link-local and the site-local before it, multicast.
        [0x64, 0xff9b, 1, ..] | [0xfc00..=0xffff, ..] => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
}
