//! One announce to an upstream tracker over HTTP.

mod awc_client;
mod cookies;
mod redirect;
mod reply;
mod request;
mod route;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use awc::ClientResponse;
use awc::error::PayloadError;
use awc::http::Uri;
use awc::http::header::HeaderValue;
use futures::Stream;
use tokio::time::Instant;
use trust::Authorities;
use url::Url;

use self::cookies::Cookies;
use self::redirect::{is_redirect, location};
use self::request::HttpRequest;
use self::route::Router;
use super::context::ExchangeContext;
use super::error::{BadRedirect, ForwardError};
use super::exchange::ExchangeReply;
use super::headers::PassedHeaders;
use super::own::ReplyOrigin;
use super::proxy::Proxy;
use super::tls::tls_config;
use super::uri::{Secrets, host_and_port, is_http, login, target, with_host};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// The longest timeout that is used. Longer timeouts are cut, so that sums of times do not overflow.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// An upstream tracker that is reached over HTTP or HTTPS.
pub(super) struct HttpUpstream {
    router: Router,
    /// The user and the password of the uri.
    login: Option<(String, String)>,
    secrets: Secrets,
}

/// A response that is not a redirect. Its body has not been read yet.
struct Answered<S> {
    response: ClientResponse<S>,
    /// The proxy through which the response came, if any.
    proxy: Option<Arc<Proxy>>,
    from: SocketAddr,
    origin: ReplyOrigin,
}

impl HttpUpstream {
    /// Checks a forwarder's `uri` and optional `host`. The error is for the operator, and continues a sentence that
    /// names the forwarder.
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
        if seen.scheme() == "https" && awc_client::server_name(seen.host_str().unwrap_or_default()).is_err() {
            return Err("its host is not a name that a certificate can be issued for".to_owned());
        }
        if authorities.is_some() && uri.scheme() != "https" {
            return Err("ca can be used with https:// only".to_owned());
        }
        context.proxies.proxy_for(uri)?;
        let tls = (uri.scheme() == "https").then(|| tls_config(authorities)).transpose()?;
        let router = Router::new(uri.clone(), seen, tls, context);
        let upstream = Self { router, login: login(uri), secrets: Secrets::of(uri) };
        // If this request cannot be built, none can. So the operator learns of it at the start.
        match upstream.request(upstream.router.start(), "", &PassedHeaders::new(None, ""), None) {
            Some(_) => Ok(upstream),
            None => Err("its uri is too long, or contains something that HTTP cannot send".to_owned()),
        }
    }

    /// Returns the proxy for the upstream's uri, if there is one.
    pub(super) fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.router.proxy()
    }

    /// Sends one announce and reads the reply. `query` comes from [`tracker_protocol::upstream::put_query`]. `timeout`
    /// covers all, from the look-up of the name to the last byte.
    ///
    /// The future must be polled within a tokio `LocalSet`, because awc's connections are bound to their thread.
    pub(super) async fn announce(
        &self,
        query: &str,
        headers: &PassedHeaders,
        timeout: Duration,
    ) -> Result<ExchangeReply, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = self.exchange(query, headers, deadline);
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    async fn exchange(
        &self,
        query: &str,
        headers: &PassedHeaders,
        deadline: Instant,
    ) -> Result<ExchangeReply, ForwardError> {
        let Answered { response, proxy, from, origin } = self.request_until_answered(query, headers, deadline).await?;
        let reply = reply::read(response, proxy.as_deref(), &self.secrets, deadline).await?;
        Ok(ExchangeReply { reply, from, origin })
    }

    /// Fetches the document at the uri, without the query of an announce.
    pub(super) async fn fetch(&self, timeout: Duration) -> Result<Vec<u8>, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let headers = PassedHeaders::new(None, "");
        let exchange = async {
            let answered = self.request_until_answered("", &headers, deadline).await?;
            reply::read_document(answered.response).await
        };
        tokio::time::timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    /// Sends the request, and follows redirects.
    async fn request_until_answered(
        &self,
        query: &str,
        headers: &PassedHeaders,
        deadline: Instant,
    ) -> Result<Answered<impl Stream<Item = Result<Bytes, PayloadError>> + use<>>, ForwardError> {
        let mut url = Cow::Borrowed(self.router.start());
        let mut cookies = Cookies::default();
        let mut visited: Vec<(Uri, bool, Option<HeaderValue>)> = Vec::new();
        let mut origin = None;
        let mut status = 0;
        let bad = |why, status| ForwardError::Redirect { why, status };
        for hop in 0..=MAX_REDIRECTS {
            let request = self.request(&url, query, headers, cookies.for_host(&url));
            let request =
                request.ok_or(if hop == 0 { ForwardError::TooLong } else { bad(BadRedirect::Location, status) })?;
            let here = (request.uri.clone(), request.tls, request.cookies.clone());
            if visited.contains(&here) {
                return Err(bad(BadRedirect::Circle, status));
            }
            visited.push(here);
            let route = self.router.route(&url, origin).await?.ok_or(bad(BadRedirect::Private, status))?;
            let (response, address) = request.send(&route, deadline).await?;
            if hop == 0 {
                self.router.answered(&route, address);
            }
            let origin = *origin.get_or_insert_with(|| self.router.origin(&route, address));
            if !is_redirect(response.status()) {
                return Ok(Answered { response, proxy: route.proxy, from: address, origin });
            }
            status = response.status().as_u16();
            cookies.take(&url, response.headers());
            let next = location(&url, response.headers()).ok_or(bad(BadRedirect::Location, status))?;
            // This closes the connection. The body of a redirect is not needed.
            drop(response);
            url = Cow::Owned(next);
        }
        Err(bad(BadRedirect::TooMany, status))
    }

    /// Builds a request. `None` if awc would refuse it.
    fn request<'a>(
        &'a self,
        url: &Url,
        query: &str,
        headers: &'a PassedHeaders,
        cookies: Option<HeaderValue>,
    ) -> Option<HttpRequest<'a>> {
        let host = host_and_port(self.router.seen_as(url));
        Some(HttpRequest {
            tls: url.scheme() == "https",
            // The scheme is http even if the URL's is https, because our connector adds TLS.
            uri: Uri::try_from(format!("http://{host}{}", target(url, query))).ok()?,
            host: HeaderValue::try_from(host).ok()?,
            login: self.login.as_ref().filter(|_| self.router.is_own(url)),
            cookies,
            headers,
        })
    }
}

impl fmt::Debug for HttpUpstream {
    /// Leaves out path and query, which may contain a passkey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.router.start();
        let mut debug = f.debug_struct("HttpUpstream");
        debug.field("scheme", &start.scheme()).field("host", &host_and_port(start)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
