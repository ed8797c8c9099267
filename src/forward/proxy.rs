//! Proxies to upstream trackers, from `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`. Lower case takes
//! precedence over upper case. The proxy resolves the trackers' names.
//!
//! An HTTP proxy gets a request to `http://` with the whole URL in its first line (RFC 9112, section 3.2.2). A tunnel
//! (`tunnel`) is made for a request to `https://`, for a request whose `Host` differs from its URL, and for all
//! requests through a SOCKS5 proxy.

mod no_proxy;
mod tunnel;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use self::no_proxy::Exception;
pub(super) use self::tunnel::{Target, TunnelError};
use super::error::ForwardError;
use super::resolve::Resolver;
use super::uri::{host_and_port, login};

/// The proxies for upstream trackers.
#[derive(Clone, Debug, Default)]
pub struct UpstreamProxies {
    http: Option<NamedProxy>,
    https: Option<NamedProxy>,
    /// Hosts that are reached without a proxy.
    exceptions: Vec<Exception>,
}

/// A proxy, or the error in its variable. Other programs read the variables too, so the error matters only to a
/// forwarder that needs this proxy.
type NamedProxy = Result<Arc<Proxy>, String>;

/// A proxy.
pub(super) struct Proxy {
    /// The environment variable that names the proxy.
    variable: &'static str,
    kind: ProxyScheme,
    /// A URL of the host and the port, for the resolver.
    address: Url,
    login: Option<(String, String)>,
    resolver: Resolver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyScheme {
    Http,
    Socks5,
}

impl UpstreamProxies {
    /// Reads the variables.
    pub fn from_env(env: &impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |variable| env(variable).map(|value| value.to_string_lossy().trim().to_owned());
        let first = |variables: &[&'static str]| {
            let mut given = variables.iter().filter_map(|&variable| Some((variable, value(variable)?)));
            given.find(|(_, value)| !value.is_empty())
        };
        let named = |variables: &[&'static str]| first(variables).map(|(variable, value)| Proxy::new(variable, &value));
        let no_proxy = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default();
        Self {
            http: named(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            https: named(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            exceptions: no_proxy.split([',', ' ']).filter_map(Exception::new).collect(),
        }
    }

    /// Returns the proxy for a URL, if there is one. The error continues a sentence that names the forwarder.
    pub(super) fn proxy_for(&self, url: &Url) -> Result<Option<&Arc<Proxy>>, String> {
        let named = if url.scheme() == "https" { &self.https } else { &self.http };
        match named {
            Some(named) if !self.exceptions.iter().any(|exception| exception.covers(url)) => {
                named.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }

    /// Returns whether any proxy is set.
    pub(super) fn any(&self) -> bool {
        self.http.is_some() || self.https.is_some()
    }
}

impl Proxy {
    fn new(variable: &'static str, value: &str) -> NamedProxy {
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyScheme::Http, 80),
            "socks5" | "socks5h" => (ProxyScheme::Socks5, 1080),
            // The value is not shown, because it may contain a password.
            _ => {
                return Err(format!(
                    "it needs the proxy of {variable}, whose value must begin with http:// or socks5://"
                ));
            }
        };
        let wrong = || format!("it needs the proxy of {variable}, whose value must name a host and may name a port");
        // `Url` drops a scheme's default port. So the value is parsed as an ftp URL: no proxy uses port 21.
        let given = Url::parse(&format!("ftp://{rest}")).map_err(|_| wrong())?;
        let host = given.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let port = given.port().unwrap_or(port);
        let address = Url::parse(&format!("http://{host}:{port}")).map_err(|_| wrong())?;
        Ok(Arc::new(Self { variable, kind, address, login: login(&given), resolver: Resolver::new() }))
    }

    /// Returns the proxy's addresses, in the order in which to try them.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, ForwardError> {
        self.resolver.addresses(&self.address).await.map_err(|error| match error {
            ForwardError::Dns(what) => self.error(format_args!("its name cannot be resolved: {what}")),
            other => other,
        })
    }

    /// Remembers an address that accepted a connection.
    pub(super) fn answered(&self, address: SocketAddr) {
        self.resolver.answered(address);
    }

    /// Returns whether the proxy accepts requests with a whole URL, without a tunnel.
    pub(super) fn accepts_requests(&self) -> bool {
        self.kind == ProxyScheme::Http
    }

    /// Returns the value of `Proxy-Authorization`, if a login is configured.
    pub(super) fn authorization(&self) -> Option<String> {
        self.login.as_ref().map(|(user, password)| format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))
    }

    /// Returns an error of the proxy.
    pub(super) fn error(&self, what: impl fmt::Display) -> ForwardError {
        ForwardError::Proxy(self.describe(what))
    }

    /// Returns a text that says which proxy an error comes from.
    pub(super) fn describe(&self, what: impl fmt::Display) -> String {
        format!("the proxy {self}: {what}")
    }

    /// Asks the proxy to connect us to a host. The proxy resolves the host's name.
    pub(super) async fn tunnel(
        &self,
        io: &mut (impl AsyncRead + AsyncWrite + Unpin),
        to: &Target,
    ) -> Result<(), TunnelError> {
        match self.kind {
            ProxyScheme::Http => tunnel::http(io, self.authorization().as_deref(), to).await,
            ProxyScheme::Socks5 => tunnel::socks5(io, self.login.as_ref(), to).await,
        }
    }
}

impl fmt::Display for Proxy {
    /// Leaves out the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{} ({})", host_and_port(&self.address), self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
