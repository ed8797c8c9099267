//! How a request gets to a URL: the address to dial, a proxy, a tunnel, TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use url::{Host, Url};

use super::awc_client::ConnectRoute;
use crate::forward::context::ExchangeContext;
use crate::forward::error::ForwardError;
use crate::forward::own::ReplyOrigin;
use crate::forward::proxy::{Proxy, Target};
use crate::forward::resolve::Resolver;
use crate::forward::tls::tls_config;
use crate::forward::uri::{host_and_port, same_origin};

/// Finds routes to an upstream, and to the URLs that it redirects to.
pub(super) struct Router {
    /// The uri as configured. Its host is dialled.
    configured: Url,
    /// The uri with the host of `host:`. That host is sent in `Host` and checked in certificates.
    seen: Url,
    resolver: Resolver,
    /// TLS settings, if the uri is https.
    tls: Option<Arc<ClientConfig>>,
    context: Arc<ExchangeContext>,
}

/// A route for one request: the addresses to try in turn, and what else is needed.
pub(super) struct UpstreamRoute {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) proxy: Option<Arc<Proxy>>,
    pub(super) connect: ConnectRoute,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl Router {
    pub(super) fn new(
        configured: Url,
        seen: Url,
        tls: Option<Arc<ClientConfig>>,
        context: Arc<ExchangeContext>,
    ) -> Self {
        Self { configured, seen, resolver: Resolver::new(), tls, context }
    }

    /// Returns the URL of the first request.
    pub(super) fn start(&self) -> &Url {
        &self.seen
    }

    /// Returns the proxy for the configured uri, if there is one.
    pub(super) fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.context.proxies.proxy_for(&self.configured).ok().flatten()
    }

    /// Returns whether a URL leads to the upstream, by its name in the uri or by its name in `host:`. The upstream's
    /// own redirects use the latter. Only requests to such URLs get the login and `host:`.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        same_origin(url, &self.seen) || same_origin(url, &self.configured)
    }

    /// Returns the URL whose host is sent in `Host` for a request to `url`. The upstream always gets the name it knows,
    /// whichever of its two names is in `url`.
    pub(super) fn seen_as<'a>(&'a self, url: &'a Url) -> &'a Url {
        if self.is_own(url) { &self.seen } else { url }
    }

    /// Returns the route to a URL; `None` if a redirect may not lead there. `redirected_by` is where the redirect came
    /// from; `None` for the first request.
    ///
    /// The checked addresses are also the ones that are dialled, so a name cannot change its address after the check. A
    /// proxy resolves names itself, so with a proxy only the name is checked.
    pub(super) async fn route(
        &self,
        url: &Url,
        redirected_by: Option<ReplyOrigin>,
    ) -> Result<Option<UpstreamRoute>, ForwardError> {
        let is_own = self.is_own(url);
        let dialled = if is_own { &self.configured } else { url };
        let redirected_by = redirected_by.filter(|_| !is_own);
        let tls = (url.scheme() == "https").then(|| self.tls.clone().map_or_else(|| tls_config(None), Ok));
        let tls = tls.transpose().map_err(ForwardError::Tls)?;
        match self.context.proxies.proxy_for(dialled).map_err(ForwardError::Proxy)? {
            None => self.direct(dialled, tls, redirected_by).await,
            Some(proxy) => self.through(proxy, dialled, tls, redirected_by).await,
        }
    }

    async fn direct(
        &self,
        dialled: &Url,
        tls: Option<Arc<ClientConfig>>,
        redirected_by: Option<ReplyOrigin>,
    ) -> Result<Option<UpstreamRoute>, ForwardError> {
        let mut addresses = self.resolver.addresses(dialled).await?;
        if let Some(origin) = redirected_by {
            addresses.retain(|&address| self.context.listeners.allows_redirect(origin, address));
            if addresses.is_empty() {
                return Ok(None);
            }
        }
        let connect = ConnectRoute { tls, ..ConnectRoute::default() };
        Ok(Some(UpstreamRoute { addresses, proxy: None, connect, authorization: None }))
    }

    async fn through(
        &self,
        proxy: &Arc<Proxy>,
        dialled: &Url,
        tls: Option<Arc<ClientConfig>>,
        redirected_by: Option<ReplyOrigin>,
    ) -> Result<Option<UpstreamRoute>, ForwardError> {
        if redirected_by.is_some_and(|origin| !self.allows_redirect(origin, dialled)) {
            return Ok(None);
        }
        // The host in `Host` may differ from the URL's only within a tunnel.
        let is_other_host = self.is_own(dialled) && host_and_port(&self.seen) != host_and_port(dialled);
        let is_tunnelled = tls.is_some() || is_other_host || !proxy.accepts_requests();
        let target = Target::of(dialled).ok_or_else(|| ForwardError::Dns("there is none".to_owned()))?;
        let connect = ConnectRoute {
            tls,
            tunnel: is_tunnelled.then(|| (Arc::clone(proxy), target)),
            absolute: (!is_tunnelled).then(|| format!("http://{}", host_and_port(dialled))),
            ..ConnectRoute::default()
        };
        let authorization = proxy.authorization().filter(|_| !is_tunnelled);
        let addresses = proxy.addresses().await?;
        Ok(Some(UpstreamRoute { addresses, proxy: Some(Arc::clone(proxy)), connect, authorization }))
    }

    /// Returns whether an upstream may redirect to this URL through a proxy.
    fn allows_redirect(&self, origin: ReplyOrigin, url: &Url) -> bool {
        let port = url.port_or_known_default().unwrap_or(80);
        let listeners = &self.context.listeners;
        match url.host() {
            Some(Host::Ipv4(ip)) => listeners.allows_redirect(origin, (IpAddr::from(ip), port).into()),
            Some(Host::Ipv6(ip)) => listeners.allows_redirect(origin, (IpAddr::from(ip), port).into()),
            Some(Host::Domain(name)) => !names_a_private_host(name) || !origin.is_public && !names_this_host(name),
            None => false,
        }
    }

    /// Remembers an address that accepted a connection.
    pub(super) fn answered(&self, route: &UpstreamRoute, address: SocketAddr) {
        match &route.proxy {
            Some(proxy) => proxy.answered(address),
            None => self.resolver.answered(address),
        }
    }

    /// Returns where the upstream of the first request is, whatever redirects follow. If a proxy resolves its name, its
    /// address is unknown, and the upstream is treated as public ([`ReplyOrigin::UNKNOWN`]).
    pub(super) fn origin(&self, route: &UpstreamRoute, address: SocketAddr) -> ReplyOrigin {
        match (&route.proxy, self.configured.host()) {
            (None, _) => ReplyOrigin::at(address.ip()),
            (Some(_), Some(Host::Ipv4(ip))) => ReplyOrigin::at(ip.into()),
            (Some(_), Some(Host::Ipv6(ip))) => ReplyOrigin::at(ip.into()),
            (Some(_), _) => ReplyOrigin::UNKNOWN,
        }
    }
}

/// Returns whether the name may mean a different host in each network: a special-use name (RFC 6761, RFC 6762, RFC
/// 8375, RFC 9476) or a name without a dot.
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
