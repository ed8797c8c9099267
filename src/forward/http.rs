//! One announce to an upstream tracker over HTTP: where it goes, how redirects are followed, what may come back.

mod cookies;
mod errors;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::{PayloadError, SendRequestError};
use awc::http::header::{self, ACCEPT_ENCODING, HOST, HeaderMap, HeaderValue, HttpDate, LOCATION, RETRY_AFTER, VIA};
use awc::http::{StatusCode, Uri};
use futures::Stream;
use percent_encoding::{CONTROLS, percent_encode};
use rustls::ClientConfig;
use tokio::time::Instant;
use url::{Host, Url};

use self::cookies::Cookies;
use self::errors::{body_error, junk, send_error};
use super::USER_AGENT;
use super::body::{self, BodyError, Decoded};
use super::connect::{self, ConnectRoute};
use super::context::ExchangeContext;
use super::error::{BadRedirect, ForwardError};
use super::own::Teller;
use super::proxy::{Proxy, Target};
use super::resolve::Resolver;
use super::trust::{self, Authorities};
use super::upstream::UpstreamAnswer;
use super::uri::{Secrets, host_and_port, is_http, login, same_origin, target, with_host};
use tracker_protocol::bencode::BencodeError;
use tracker_protocol::upstream::{self, UpstreamReply, UpstreamReplyError};

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
    /// For TLS; none of one that is asked without.
    tls: Option<Arc<ClientConfig>>,
    context: Arc<ExchangeContext>,
}

/// What of the client's own headers goes along, and by whom the announce has been passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PassedHeaders {
    user_agent: HeaderValue,
    via: Option<HeaderValue>,
}

impl PassedHeaders {
    /// Upstream trackers refuse requests that do not say what sends them: for a client that says nothing, or nothing that can
    /// be sent on, we speak for ourselves. What is too long to be kept for each client is cut.
    pub(super) fn new(user_agent: Option<&[u8]>, via: &str) -> Self {
        let user_agent = user_agent.unwrap_or_default().trim_ascii();
        let user_agent = user_agent.get(..MAX_USER_AGENT).unwrap_or(user_agent).trim_ascii_end();
        let theirs = Some(user_agent).filter(|agent| !agent.is_empty());
        let theirs = theirs.and_then(|agent| HeaderValue::from_bytes(agent).ok());
        Self {
            user_agent: theirs.unwrap_or(const { HeaderValue::from_static(USER_AGENT) }),
            via: HeaderValue::from_str(via).ok().filter(|via| !via.is_empty()),
        }
    }

    /// By whom the announce has been passed on; empty when nobody is to know.
    pub(super) fn via(&self) -> &[u8] {
        self.via.as_ref().map_or(&[], HeaderValue::as_bytes)
    }
}

/// A request without its address.
struct HttpRequest<'a> {
    tls: bool,
    uri: Uri,
    host: HeaderValue,
    login: Option<&'a (String, String)>,
    cookies: Option<HeaderValue>,
    along: &'a PassedHeaders,
}

/// Where a request goes: the addresses to be tried in turn, and what is needed besides.
struct Way {
    addresses: Vec<SocketAddr>,
    proxy: Option<Arc<Proxy>>,
    route: ConnectRoute,
    authorization: Option<String>,
}

impl HttpUpstream {
    /// Prepares for a forwarder's `uri`, and for its `host` if it has one. The error is for the operator, and
    /// continues a sentence that names the forwarder.
    pub(super) fn new(
        uri: &Url,
        host: Option<&str>,
        authorities: Option<&Authorities>,
        context: Arc<ExchangeContext>,
    ) -> Result<Self, String> {
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
        if authorities.is_some() && uri.scheme() != "https" {
            return Err("it has a ca, which means nothing without https://".to_owned());
        }
        context.proxies.proxy_for(uri)?;
        let tls = (uri.scheme() == "https").then(|| trust::tls_config(authorities)).transpose()?;
        let (login, secrets, resolver) = (login(uri), Secrets::of(uri), Resolver::new());
        let upstream = Self { configured: uri.clone(), seen, login, secrets, resolver, tls, context };
        // What can be wrong with a request is wrong with all of them: better said at the start.
        match upstream.request(&upstream.seen, "", &PassedHeaders::new(None, ""), None) {
            Some(_) => Ok(upstream),
            None => Err("its uri is too long, or holds something that HTTP cannot send".to_owned()),
        }
    }

    /// The proxy through which it is asked.
    pub(super) fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.context.proxies.proxy_for(&self.configured).ok().flatten()
    }

    /// Sends one announce and reads the reply. `query` is as [`upstream::put_query`] makes it. `timeout`
    /// covers everything, from the name to the last byte.
    ///
    /// The future must be polled within a tokio `LocalSet`: awc's connections are bound to their thread.
    pub(super) async fn announce(
        &self,
        query: &str,
        along: &PassedHeaders,
        timeout: Duration,
    ) -> Result<UpstreamAnswer, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = self.exchange(query, along, deadline);
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    async fn exchange(
        &self,
        query: &str,
        along: &PassedHeaders,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, ForwardError> {
        let mut url = Cow::Borrowed(&self.seen);
        let mut cookies = Cookies::default();
        let mut visited: Vec<(Uri, bool, Option<HeaderValue>)> = Vec::new();
        let mut asked = None;
        let mut status = 0;
        let bad = |why, status| ForwardError::Redirect { why, status };
        for hop in 0..=MAX_REDIRECTS {
            let request = self.request(&url, query, along, cookies.for_host(&url));
            let request =
                request.ok_or(if hop == 0 { ForwardError::TooLong } else { bad(BadRedirect::Location, status) })?;
            let here = (request.uri.clone(), request.tls, request.cookies.clone());
            if visited.contains(&here) {
                return Err(bad(BadRedirect::Circle, status));
            }
            visited.push(here);
            let way = self.way(&url, asked).await?.ok_or(bad(BadRedirect::Private, status))?;
            let (response, address) = send(&request, &way, deadline).await?;
            if hop == 0 {
                match &way.proxy {
                    Some(proxy) => proxy.answered(address),
                    None => self.resolver.answered(address),
                }
            }
            let teller = *asked.get_or_insert_with(|| teller(&self.configured, &way, address));
            if !is_redirect(response.status()) {
                let reply = self.reply(response, &way, deadline).await?;
                return Ok(UpstreamAnswer { reply, from: address, teller });
            }
            status = response.status().as_u16();
            cookies.take(&url, response.headers());
            let next = location(&url, response.headers()).ok_or(bad(BadRedirect::Location, status))?;
            // Its body is of no use, and its connection need not last as long as the next one.
            drop(response);
            url = Cow::Owned(next);
        }
        Err(bad(BadRedirect::TooMany, status))
    }

    /// How to get to a URL; none if a redirect may not lead there. `asked` is who redirects, none for the first request.
    ///
    /// The addresses that are dialled are the very ones that are examined: a name that points elsewhere the next moment gains
    /// nothing. What a proxy makes of a name is its own affair.
    async fn way(&self, url: &Url, asked: Option<Teller>) -> Result<Option<Way>, ForwardError> {
        let own = self.is_own(url);
        let dialled = if own { &self.configured } else { url };
        let listeners = &self.context.listeners;
        let tls = (url.scheme() == "https").then(|| self.tls.clone().map_or_else(|| trust::tls_config(None), Ok));
        let tls = tls.transpose().map_err(ForwardError::Tls)?;
        let proxy = self.context.proxies.proxy_for(dialled).map_err(ForwardError::Proxy)?;
        let Some(proxy) = proxy.cloned() else {
            let mut addresses = self.resolver.addresses(dialled).await?;
            if let Some(teller) = asked.filter(|_| !own) {
                addresses.retain(|&address| listeners.may_be_sent_to(teller, address));
                if addresses.is_empty() {
                    return Ok(None);
                }
            }
            let route = ConnectRoute { tls, ..ConnectRoute::default() };
            return Ok(Some(Way { addresses, proxy: None, route, authorization: None }));
        };
        let port = dialled.port_or_known_default().unwrap_or(80);
        if let Some(teller) = asked.filter(|_| !own) {
            let allowed = match dialled.host() {
                Some(Host::Ipv4(ip)) => listeners.may_be_sent_to(teller, (IpAddr::from(ip), port).into()),
                Some(Host::Ipv6(ip)) => listeners.may_be_sent_to(teller, (IpAddr::from(ip), port).into()),
                Some(Host::Domain(name)) => !names_a_private_host(name) || !teller.is_public && !names_this_host(name),
                None => false,
            };
            if !allowed {
                return Ok(None);
            }
        }
        // Only in a tunnel do the name in `Host` and that in the URL differ.
        let other_host = own && host_and_port(&self.seen) != host_and_port(dialled);
        let tunnelled = tls.is_some() || other_host || !proxy.takes_requests();
        let target = Target::of(dialled).ok_or_else(|| ForwardError::Dns("there is none".to_owned()))?;
        let route = ConnectRoute {
            tls,
            tunnel: tunnelled.then(|| (Arc::clone(&proxy), target)),
            absolute: (!tunnelled).then(|| format!("http://{}", host_and_port(dialled))),
            ..ConnectRoute::default()
        };
        let authorization = proxy.authorization().filter(|_| !tunnelled);
        Ok(Some(Way { addresses: proxy.addresses().await?, proxy: Some(proxy), route, authorization }))
    }

    /// None when awc would refuse it.
    fn request<'a>(
        &'a self,
        url: &Url,
        query: &str,
        along: &'a PassedHeaders,
        cookies: Option<HeaderValue>,
    ) -> Option<HttpRequest<'a>> {
        let own = self.is_own(url);
        // Ours may be reached under two names, but has one.
        let host = if own { host_and_port(&self.seen) } else { host_and_port(url) };
        Some(HttpRequest {
            tls: url.scheme() == "https",
            // TLS is the connector's affair, see there.
            uri: Uri::try_from(format!("http://{host}{}", target(url, query))).ok()?,
            host: HeaderValue::try_from(host).ok()?,
            login: self.login.as_ref().filter(|_| own),
            cookies,
            along,
        })
    }

    /// Whether a URL leads to the configured upstream, be it under the name that `host:` gives it, which it puts into
    /// its redirects. Only there go the configured address and `host:`.
    fn is_own(&self, url: &Url) -> bool {
        same_origin(url, &self.seen) || same_origin(url, &self.configured)
    }

    async fn reply<S>(
        &self,
        mut response: ClientResponse<S>,
        way: &Way,
        deadline: Instant,
    ) -> Result<UpstreamReply, ForwardError>
    where
        S: Stream<Item = Result<Bytes, PayloadError>>,
    {
        let status = response.status();
        let code = status.as_u16();
        if let Some(proxy) = way.proxy.as_ref().filter(|_| status == StatusCode::PROXY_AUTHENTICATION_REQUIRED) {
            return Err(proxy.error("it wants a login (407)"));
        }
        let retry_after = retry_after(status, response.headers());
        let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        let encoding = encoding.as_ref().map(HeaderValue::as_bytes);
        let raw = response.body().limit(MAX_BODY);
        let raw = if status == StatusCode::OK {
            raw.await.map_err(|error| body_error(error, code))?
        } else {
            // With what goes wrong from here on, the status is still the better news; so also with the deadline, which
            // is polled here before it is polled around the exchange.
            let raw = tokio::time::timeout_at(deadline, raw).await;
            raw.ok().and_then(Result::ok).ok_or(ForwardError::Status { code, retry_after })?
        };
        let decoded = body::decode(encoding, &raw, MAX_BODY).map_err(|error| match error {
            _ if status != StatusCode::OK => ForwardError::Status { code, retry_after },
            BodyError::TooLarge => ForwardError::TooLarge { status: Some(code) },
            BodyError::Junk(what) => junk(what, Some(code)),
        });
        let Decoded { bytes: body, is_whole } = decoded?;
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
            Err(UpstreamReplyError::NotBencode(_)) if raw.is_empty() => Err(junk("it is empty", Some(code))),
            Err(UpstreamReplyError::NotBencode(_)) if !is_whole => Err(ForwardError::Truncated { status: Some(code) }),
            Err(UpstreamReplyError::NotBencode(BencodeError::EndsEarly)) if !body.trim_ascii().is_empty() => {
                Err(ForwardError::Truncated { status: Some(code) })
            }
            Err(UpstreamReplyError::NotBencode(error)) => Err(junk(error, Some(code))),
            Err(UpstreamReplyError::NotADictionary) => Err(junk("it is no dictionary", Some(code))),
        }
    }
}

/// Who answers the first request, for what it may say. Of one behind a proxy only a name is known, which is taken for one on
/// the internet: it is believed less.
fn teller(configured: &Url, way: &Way, address: SocketAddr) -> Teller {
    match (&way.proxy, configured.host()) {
        (None, _) => Teller::at(address.ip()),
        (Some(_), Some(Host::Ipv4(ip))) => Teller::at(ip.into()),
        (Some(_), Some(Host::Ipv6(ip))) => Teller::at(ip.into()),
        (Some(_), _) => Teller::UNKNOWN,
    }
}

/// Names that mean another host on each network (RFC 6761, RFC 6762, RFC 8375, RFC 9476), and those without a dot.
fn names_a_private_host(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let last = name.rsplit_once('.').map(|(_, last)| last);
    names_this_host(name)
        || last.is_none_or(|last| matches!(last, "local" | "lan" | "internal" | "intranet" | "alt"))
        || name.ends_with(".home.arpa")
}

fn names_this_host(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost") || name.ends_with(".localdomain")
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
    request: &HttpRequest<'_>,
    way: &Way,
    deadline: Instant,
) -> Result<(ClientResponse<impl Stream<Item = Result<Bytes, PayloadError>> + use<>>, SocketAddr), ForwardError> {
    let client = connect::client().map_err(ForwardError::Local)?;
    let mut failure: Option<ForwardError> = None;
    for (tried, &address) in way.addresses.iter().enumerate() {
        let mut outgoing = client
            .get(&request.uri)
            .address(address)
            // A connection that served an odd reply is in an odd state: it is not used again.
            .force_close()
            // Some trackers compare header names byte by byte.
            .camel_case()
            .insert_header((HOST, request.host.clone()))
            .insert_header((header::USER_AGENT, request.along.user_agent.clone()))
            .insert_header((ACCEPT_ENCODING, HeaderValue::from_static("gzip")));
        if let Some(via) = &request.along.via {
            outgoing = outgoing.insert_header((VIA, via.clone()));
        }
        if let Some((user, password)) = request.login {
            outgoing = outgoing.basic_auth(user, password);
        }
        if let Some(cookies) = &request.cookies {
            outgoing = outgoing.insert_header((header::COOKIE, cookies.clone()));
        }
        if let Some(authorization) = &way.authorization {
            outgoing = outgoing.insert_header((header::PROXY_AUTHORIZATION, authorization.as_str()));
        }
        // Any other body makes a `Content-Length: 0`, which some trackers refuse with GET.
        let exchange = outgoing.send_body(awc::body::None::new());
        let left = u32::try_from(way.addresses.len() - tried).unwrap_or(u32::MAX);
        // An address that swallows packets must leave time for the others.
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        let route = ConnectRoute { connect_by: (left > 1).then(|| Instant::now() + share), ..way.route.clone() };
        let failed = |error| match (send_error(error), &way.proxy) {
            (ForwardError::Connect(what), Some(proxy)) => proxy.error(format_args!("it cannot be reached: {what}")),
            (error, _) => error,
        };
        let error = match connect::along(route, exchange).await {
            Ok(response) => return Ok((response, address)),
            Err(SendRequestError::Connect(error)) => failed(SendRequestError::Connect(error)),
            Err(error) => return Err(failed(error)),
        };
        if !matches!(error, ForwardError::Connect(_) | ForwardError::Local(_) | ForwardError::Proxy(_)) {
            return Err(error);
        }
        failure = Some(error.after(failure));
    }
    Err(failure.unwrap_or_else(|| ForwardError::Dns("it has no address".to_owned())))
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
    let mut url = from.join(&location).ok().filter(|url| is_http(url) && url.port() != Some(0))?;
    url.set_fragment(None);
    Some(url)
}

#[cfg(test)]
mod tests;
