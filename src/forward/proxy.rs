//! Proxies between this host and upstream trackers, as the usual variables name them: `http_proxy`, `https_proxy`,
//! `all_proxy` and `no_proxy`, in either case, the lower one first. A proxy resolves the names of upstream trackers itself.
//!
//! Requests to `http://` go to an HTTP proxy as they are, with the whole URL in their first line (RFC 9112, section 3.2.2);
//! those to `https://`, and those whose `Host` is not that of their URL, go through a tunnel (`CONNECT`, RFC 9110, section
//! 9.3.6). A SOCKS5 proxy (RFC 1928, with the login of RFC 1929) makes a tunnel for all.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use url::{Host, Url};

use super::USER_AGENT;
use super::error::ForwardError;
use super::reply::StreamError;
use super::resolve::Resolver;
use super::uri::{host_and_port, login};

/// The longest head of a reply to `CONNECT`.
const MAX_HEAD: usize = 16 * 1024;

/// Which proxy each upstream tracker is asked through.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<NamedProxy>,
    https: Option<NamedProxy>,
    /// Upstream trackers that are asked directly.
    direct: Vec<Direct>,
}

/// A proxy, or what is wrong with its variable. That is an error only where the proxy is needed: the variables are the
/// system's, not ours alone.
type NamedProxy = Result<Arc<Proxy>, String>;

/// A proxy.
pub(super) struct Proxy {
    /// The variable that named it.
    variable: &'static str,
    kind: ProxyScheme,
    /// The host and the port, for the resolver.
    place: Url,
    login: Option<(String, String)>,
    resolver: Resolver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyScheme {
    Http,
    Socks5,
}

/// One element of `no_proxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Direct {
    whom: Whom,
    /// Only at this port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    All,
    Network(IpNet),
    /// A domain in lower case, and all below it.
    Domain(String),
}

impl Proxies {
    /// As the variables say.
    pub fn from_env(env: &impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |variable| env(variable).map(|value| value.to_string_lossy().trim().to_owned());
        let first = |variables: &[&'static str]| {
            let mut given = variables.iter().filter_map(|&variable| Some((variable, value(variable)?)));
            given.find(|(_, value)| !value.is_empty())
        };
        let named = |variables: &[&'static str]| first(variables).map(|(variable, value)| Proxy::new(variable, &value));
        let direct = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default();
        Self {
            http: named(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            https: named(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            direct: direct.split([',', ' ']).filter_map(Direct::new).collect(),
        }
    }

    /// The proxy through which a host is asked. The error continues a sentence that names the forwarder.
    pub(super) fn proxy_for(&self, url: &Url) -> Result<Option<&Arc<Proxy>>, String> {
        let named = if url.scheme() == "https" { &self.https } else { &self.http };
        match named {
            Some(named) if !self.direct.iter().any(|direct| direct.has(url)) => {
                named.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }

    /// Whether there is any.
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
            // Not the value itself: it may hold a password.
            _ => {
                return Err(format!(
                    "it is to be asked through the proxy of {variable}, which is none of http:// or socks5://"
                ));
            }
        };
        let wrong = || format!("it is to be asked through the proxy of {variable}, which names no host and port");
        // A scheme whose port nothing has, so that a port is seen that is given.
        let given = Url::parse(&format!("ftp://{rest}")).map_err(|_| wrong())?;
        let host = given.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let port = given.port().unwrap_or(port);
        let place = Url::parse(&format!("http://{host}:{port}")).map_err(|_| wrong())?;
        Ok(Arc::new(Self { variable, kind, place, login: login(&given), resolver: Resolver::new() }))
    }

    /// Where it is.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, ForwardError> {
        self.resolver.addresses(&self.place).await.map_err(|error| match error {
            ForwardError::Dns(what) => self.error(format_args!("its name cannot be resolved: {what}")),
            other => other,
        })
    }

    /// It took a connection there.
    pub(super) fn answered(&self, address: SocketAddr) {
        self.resolver.answered(address);
    }

    /// Whether a request can be handed to it as it is.
    pub(super) fn takes_requests(&self) -> bool {
        self.kind == ProxyScheme::Http
    }

    /// The value of `Proxy-Authorization`, if it wants a login.
    pub(super) fn authorization(&self) -> Option<String> {
        self.login.as_ref().map(|(user, password)| format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))
    }

    /// Something that is its fault.
    pub(super) fn error(&self, what: impl fmt::Display) -> ForwardError {
        ForwardError::Proxy(self.words(what))
    }

    fn words(&self, what: impl fmt::Display) -> String {
        format!("the proxy {self}: {what}")
    }

    /// Has it connect us to a host, which may be a name.
    pub(super) async fn tunnel(&self, io: &mut (impl AsyncRead + AsyncWrite + Unpin), to: &Target) -> io::Result<()> {
        let made = match self.kind {
            ProxyScheme::Http => self.connect(io, to).await,
            ProxyScheme::Socks5 => self.socks(io, to).await,
        };
        made.map_err(|error| match StreamError::find(&error) {
            Some(_) => error,
            None if error.kind() == io::ErrorKind::UnexpectedEof => self.failed("it closed the connection"),
            None => self.failed(error),
        })
    }

    fn failed(&self, what: impl fmt::Display) -> io::Error {
        StreamError::Proxy(self.words(what)).into()
    }

    async fn connect(&self, io: &mut (impl AsyncRead + AsyncWrite + Unpin), to: &Target) -> io::Result<()> {
        let authorization =
            self.authorization().map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: {USER_AGENT}\r\n{authorization}\r\n");
        io.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        // Byte by byte, as what follows the head is the tunnel's.
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= MAX_HEAD {
                return Err(self.failed("its answer is too large"));
            }
            head.push(io.read_u8().await?);
        }
        let mut words = head.split(|&byte| byte == b' ' || byte == b'\r' || byte == b'\n');
        let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
        match words.next() {
            Some([b'2', _, _]) if is_http => Ok(()),
            Some(b"407") if is_http => Err(self.failed("it wants a login (407)")),
            Some(status) if is_http => {
                Err(self.failed(format_args!("it answers CONNECT with status {}", status.escape_ascii())))
            }
            _ => Err(self.failed("its answer is no HTTP")),
        }
    }

    async fn socks(&self, io: &mut (impl AsyncRead + AsyncWrite + Unpin), to: &Target) -> io::Result<()> {
        // The methods that we know: none, and a login if there is one.
        let methods: &[u8] = if self.login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        io.write_all(methods).await?;
        match [io.read_u8().await?, io.read_u8().await?] {
            [5, 0] => {}
            [5, 2] => {
                let (user, password) = self.login.as_ref().ok_or_else(|| self.failed("it wants a login"))?;
                let mut request = vec![1];
                for part in [user, password] {
                    let length = u8::try_from(part.len()).map_err(|_| self.failed("the login is too long for it"))?;
                    request.push(length);
                    request.extend_from_slice(part.as_bytes());
                }
                io.write_all(&request).await?;
                let [_version, status] = [io.read_u8().await?, io.read_u8().await?];
                if status != 0 {
                    return Err(self.failed("it refuses the login"));
                }
            }
            [5, 0xff] => return Err(self.failed("it wants a login")),
            _ => return Err(self.failed("its answer is no SOCKS5")),
        }
        let mut request = vec![5, 1, 0];
        match &to.host {
            Host::Ipv4(ip) => {
                request.push(1);
                request.extend_from_slice(&ip.octets());
            }
            Host::Ipv6(ip) => {
                request.push(4);
                request.extend_from_slice(&ip.octets());
            }
            Host::Domain(name) => {
                let length = u8::try_from(name.len()).map_err(|_| self.failed("the name is too long for it"))?;
                request.extend_from_slice(&[3, length]);
                request.extend_from_slice(name.as_bytes());
            }
        }
        request.extend_from_slice(&to.port.to_be_bytes());
        io.write_all(&request).await?;
        let mut reply = [0; 4];
        io.read_exact(&mut reply).await?;
        let [version, status, _, kind] = reply;
        if (version, status) != (5, 0) {
            return Err(self.failed(format_args!("it does not connect us: {}", socks_error(status))));
        }
        // Where it connected from, which is of no interest.
        let length = match kind {
            1 => 4,
            4 => 16,
            _ => usize::from(io.read_u8().await?),
        };
        let mut rest = vec![0; length + 2];
        io.read_exact(&mut rest).await?;
        Ok(())
    }
}

impl fmt::Display for Proxy {
    /// Without its login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{} ({})", host_and_port(&self.place), self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// RFC 1928, section 6.
fn socks_error(status: u8) -> &'static str {
    match status {
        2 => "its rules forbid it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "connection refused",
        6 => "it took too long",
        7 | 8 => "it cannot",
        _ => "it failed",
    }
}

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: Host<String>,
    port: u16,
}

impl Target {
    /// The host and the port of a URL.
    pub(super) fn of(url: &Url) -> Option<Self> {
        Some(Self { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Direct {
    /// None for an empty element.
    fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self { whom: Whom::All, port: None });
        }
        if let Some(whom) = Whom::network(text) {
            return Some(Self { whom, port: None });
        }
        let (host, port) = match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, Some(port)),
            _ => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let domain = || Whom::Domain(bare.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase());
        Some(Self { whom: Whom::network(bare).unwrap_or_else(domain), port })
    }

    fn has(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        match (&self.whom, url.host()) {
            (Whom::All, _) => true,
            (Whom::Network(network), Some(Host::Ipv4(ip))) => network.contains(&IpAddr::from(ip)),
            (Whom::Network(network), Some(Host::Ipv6(ip))) => network.contains(&IpAddr::from(ip).to_canonical()),
            (Whom::Domain(domain), Some(Host::Domain(name))) => {
                let name = name.trim_end_matches('.');
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

impl Whom {
    fn network(text: &str) -> Option<Self> {
        let address = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
        text.parse().ok().or_else(address).map(Self::Network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let value =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into());
        Proxies::from_env(&value)
    }

    fn used(proxies: &Proxies, url: &str) -> String {
        match proxies.proxy_for(&Url::parse(url).unwrap()) {
            Ok(None) => "direct".to_owned(),
            Ok(Some(proxy)) => proxy.to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn each_scheme_has_its_variable_and_one_is_for_all() {
        let all = proxies(&[("ALL_PROXY", "socks5h://me:secret@10.0.0.1"), ("https_proxy", "10.0.0.2:3128/")]);
        assert_eq!(used(&all, "http://t.example/"), "socks5://10.0.0.1:1080 (ALL_PROXY)");
        assert_eq!(used(&all, "https://t.example/"), "http://10.0.0.2:3128 (https_proxy)");
        let both = proxies(&[("http_proxy", ""), ("HTTP_PROXY", "HTTP://[::1]:80"), ("HTTPS_PROXY", "https://x")]);
        assert_eq!(used(&both, "http://t.example/"), "http://[::1] (HTTP_PROXY)");
        assert!(used(&both, "https://t.example/").contains("HTTPS_PROXY"));
        let wrong = proxies(&[("http_proxy", "http://:secret@"), ("https_proxy", "socks4://me:secret@x")]);
        for url in ["http://t.example/", "https://t.example/"] {
            let error = used(&wrong, url);
            assert!(
                error.starts_with("it is to be asked through the proxy of ") && !error.contains("secret"),
                "{error}"
            );
        }
        assert_eq!(used(&proxies(&[]), "http://t.example/"), "direct");
        assert!(!format!("{all:?}").contains("secret"));
    }

    #[test]
    fn who_is_asked_directly() {
        let direct =
            |list: &str, url: &str| used(&proxies(&[("http_proxy", "p:1"), ("NO_PROXY", list)]), url) == "direct";
        for (list, url) in [
            ("*", "http://t.example/"),
            ("example", "http://t.example/"),
            (" a.b, .Example ,", "http://t.example/"),
            ("*.example", "http://t.example/"),
            ("t.example", "http://T.example./"),
            ("t.example:80", "http://t.example/"),
            ("a b t.example", "http://t.example/"),
            ("10.0.0.1", "http://10.0.0.1:81/"),
            ("10.0.0.0/8", "http://10.0.0.1/"),
            ("10.0.0.1:81", "http://10.0.0.1:81/"),
            ("fd00::/8", "http://[fd00::1]/"),
            ("[fd00::1]:81", "http://[fd00::1]:81/"),
            ("::1", "http://[::1]/"),
            ("127.0.0.0/8", "http://[::ffff:127.0.0.1]/"),
        ] {
            assert!(direct(list, url), "{list} for {url}");
        }
        for (list, url) in [
            ("", "http://t.example/"),
            ("xample", "http://t.example/"),
            ("t.example:81", "http://t.example/"),
            ("10.0.0.2", "http://10.0.0.1/"),
            ("10.0.0.1:81", "http://10.0.0.1/"),
            ("10.0.0.0/8", "http://t.example/"),
        ] {
            assert!(!direct(list, url), "{list} for {url}");
        }
    }
}
