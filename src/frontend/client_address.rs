//! Finds a client's address: the other end of the socket, or what a header says if the other end is a trusted proxy.
//! This module needs no web framework.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::headers::{Headers, SenderHints, is_token};
use crate::metrics::Metrics;
use crate::topology::reach::Reach;
use crate::tracker::Standing;
use tracker_protocol::forwarded::{self, Named, Syntax};

/// The headers that proxies usually set.
const USUAL: [(&str, Syntax); 3] =
    [("X-Real-IP", Syntax::Single), ("X-Forwarded-For", Syntax::XForwardedFor), ("Forwarded", Syntax::Forwarded)];

/// Which proxies are trusted, and which header they set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAddressOptions {
    /// Proxies whose client-address header is trusted (`--trusted-proxies`, `--x-real-ip`).
    pub proxies: TrustedProxies,
    /// The only header that is read for the client's address (`--real-ip-header`). With `None`, all usual headers are
    /// read. If they name different addresses, the client is not listed as a peer.
    pub header: Option<RealIpHeader>,
}

/// Proxies whose client-address header is trusted. A proxy behind a Unix socket is on this host, and always trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedProxies {
    /// The proxies at these addresses.
    At(Vec<IpNet>),
    /// Every address, as with the Go retracker. This is safe only if clients cannot bypass the proxy.
    Anyone,
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self::At(Vec::new())
    }
}

impl TrustedProxies {
    fn include(&self, ip: IpAddr) -> bool {
        match self {
            Self::At(networks) => networks.iter().any(|network| network.contains(&ip)),
            Self::Anyone => true,
        }
    }

    /// Whether exactly this address is configured. A network that contains the address does not count: it may have
    /// clients too.
    fn name_exactly(&self, ip: IpAddr) -> bool {
        match self {
            Self::At(networks) => networks.iter().any(|network| *network == IpNet::from(ip)),
            Self::Anyone => false,
        }
    }
}

/// The header that carries the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealIpHeader {
    name: String,
    syntax: Syntax,
}

impl RealIpHeader {
    /// `X-Real-IP`.
    pub fn x_real_ip() -> Self {
        Self { name: "X-Real-IP".to_owned(), syntax: Syntax::Single }
    }

    /// The header with this name. `None` if `name` is not a header name (RFC 9110, section 5.6.2).
    pub fn new(name: &str) -> Option<Self> {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_token);
        is_name.then(|| Self { name: name.to_owned(), syntax: Syntax::of(name) })
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A host at this address.
    Ip(IpAddr),
    /// A process on this host, through a Unix socket.
    Unix,
    /// A proxy at this address that sent a PROXY protocol header. The header names no client, or the proxy is not
    /// trusted.
    Proxy(IpAddr),
}

impl Remote {
    /// The other end of a socket. A socket without an address is a Unix socket.
    pub fn new(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::Unix, |address| Self::Ip(address.ip().to_canonical()))
    }

    /// The address of the other end. The loopback address for a Unix socket.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Ip(ip) | Self::Proxy(ip) => ip,
            Self::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The sender's canonical address. The proxy's address if [`Self::standing`] says that the sender is unknown.
    pub ip: IpAddr,
    /// What is known of the sender.
    pub standing: Standing,
}

/// Finds the addresses of clients.
#[derive(Debug)]
pub struct ClientAddress {
    options: ClientAddressOptions,
    /// Proxies that have been logged because they do not name their clients.
    warned: Mutex<Vec<Remote>>,
    /// Logs only the first connection without a PROXY protocol header as a warning.
    warned_missing_header: Once,
    /// Logs only the first datagram without a PROXY protocol header as a warning.
    warned_bad_datagram: Once,
}

/// The most proxies that are logged.
const MAX_WARNED: usize = 64;

/// The client that a request's headers name.
enum HeaderClaim {
    Nothing,
    Client(IpAddr),
    /// No valid address, only the address of a proxy, or different clients.
    Unclear,
}

impl ClientAddress {
    /// Makes the rule that finds the clients of all requests of the process.
    pub fn new(options: ClientAddressOptions) -> Self {
        Self { options, warned: Mutex::default(), warned_missing_header: Once::new(), warned_bad_datagram: Once::new() }
    }

    /// Whether this is a trusted proxy. Its connections belong to many clients.
    pub fn is_proxy(&self, source: Remote) -> bool {
        source == Remote::Unix || self.options.proxies.include(source.ip())
    }

    /// The other end of a connection that began with a PROXY protocol header. `named` is the client in the header.
    /// If no proxies are configured, every proxy is trusted: a listener for the PROXY protocol is for proxies only.
    pub fn behind(&self, socket: Option<SocketAddr>, named: Option<SocketAddr>) -> Remote {
        let source = Remote::new(socket);
        let named = named.map(|named| named.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
        match (named.filter(|_| self.is_trusted(source)), source) {
            (Some(named), _) => Remote::Ip(named),
            (None, Remote::Unix) => Remote::Unix,
            (None, source) => Remote::Proxy(source.ip()),
        }
    }

    /// Whether the PROXY protocol header of this proxy is trusted. See [`Self::behind`].
    pub fn is_trusted(&self, proxy: Remote) -> bool {
        match (&self.options.proxies, proxy) {
            (TrustedProxies::At(networks), _) if networks.is_empty() => true,
            (proxies, Remote::Ip(ip) | Remote::Proxy(ip)) => proxies.include(ip),
            (_, Remote::Unix) => true,
        }
    }

    /// What is known of the sender of datagrams from `source`. A client that its proxy does not name is unknown:
    /// datagrams have no HTTP headers.
    pub fn datagram_standing(&self, source: Remote) -> Standing {
        let ip = source.ip();
        let is_client = matches!(source, Remote::Ip(_)) && !self.options.proxies.name_exactly(ip);
        if is_client {
            return Standing::Client;
        }
        if self.is_first_warning(Remote::Proxy(ip)) {
            log::warn!(
                "the proxy at {ip} does not name the client of its datagrams, so its clients get public peers only and are not \
                 listed as peers; set it up to put a PROXY protocol header of version 2 before each datagram; see \
                 docs/reverse-proxy.md. Logged once for each proxy"
            );
        }
        Standing::Unclear
    }

    /// Logs a connection without the PROXY protocol header that its listener expects.
    pub fn warn_missing_header(&self, source: Remote, error: &io::Error) {
        log::debug!("closed a connection from {}: {error}", source.ip());
        // A connection that sends nothing is a health check, or a client that gave up.
        if error.kind() != io::ErrorKind::InvalidData {
            return;
        }
        self.warned_missing_header.call_once(|| {
            log::warn!(
                "closed a connection from {} on a listener that expects the PROXY protocol: {error}; set up the proxy to \
                 send the header (nginx: proxy_protocol on), or listen without proxy+. Logged once",
                source.ip()
            );
        });
    }

    /// Logs a dropped datagram, which lacks the PROXY protocol header that its listener expects.
    pub fn warn_bad_datagram(&self, source: IpAddr, why: &impl fmt::Display) {
        log::debug!("dropped a datagram from {source}: {why}");
        self.warned_bad_datagram.call_once(|| {
            log::warn!(
                "dropped a datagram from {source} on a listener that expects the PROXY protocol: {why}; set up a \
                 trusted proxy that sends a header of version 2 before each datagram, or listen without proxy+. Logged \
                 once"
            );
        });
    }

    /// Finds the sender of a request.
    pub fn of(&self, source: Remote, headers: &impl Headers, metrics: &Metrics) -> Identity {
        let hints = SenderHints::of(headers);
        let Identity { ip, standing } = self.identify(source, headers, hints, metrics);
        let standing = match standing {
            Standing::Client | Standing::NoClaims if hints.page => Standing::Page,
            Standing::Client if hints.browser => Standing::NoClaims,
            standing => standing,
        };
        Identity { ip, standing }
    }

    fn identify(&self, source: Remote, headers: &impl Headers, hints: SenderHints, metrics: &Metrics) -> Identity {
        let ip = source.ip();
        let client = Identity { ip, standing: Standing::Client };
        let standing = match source {
            _ if self.is_proxy(source) => match (self.claim(headers), &self.options.proxies, source) {
                (HeaderClaim::Client(ip), _, _) => return Identity { ip, ..client },
                (claim, TrustedProxies::Anyone, Remote::Ip(_)) => return self.fall_back(ip, &claim, headers, metrics),
                _ => Standing::Unclear,
            },
            Remote::Ip(_) if !hints.proxy => return client,
            Remote::Proxy(_) if self.is_trusted(source) => Standing::Unclear,
            // Distant clients all get the same peers, with or without a proxy.
            _ if !is_near(ip) => return client,
            Remote::Ip(_) | Remote::Proxy(_) | Remote::Unix => Standing::Untrusted,
        };
        metrics.real_ip_missing.inc();
        if self.is_first_warning(source) {
            warn_unclear_client(source, standing, &self.found(headers));
        }
        Identity { ip, standing }
    }

    /// With `-x` alone, a request that names no client counts as a request of the proxy itself, as with the Go
    /// retracker.
    fn fall_back(&self, ip: IpAddr, claim: &HeaderClaim, headers: &impl Headers, metrics: &Metrics) -> Identity {
        metrics.real_ip_missing.inc();
        if self.is_first_warning(Remote::Unix) {
            let found = self.found(headers);
            log::warn!(
                "the proxy at {ip} does not name the client of a request: the request has {found}. The proxy's own \
                 address is used; set the header in the proxy (nginx: proxy_set_header X-Real-IP $remote_addr). Logged once"
            );
        }
        let standing = if matches!(claim, HeaderClaim::Nothing) { Standing::Client } else { Standing::NoClaims };
        Identity { ip, standing }
    }

    /// Returns whether to log this proxy, and remembers it: each proxy is logged once, and at most [`MAX_WARNED`]
    /// proxies.
    fn is_first_warning(&self, source: Remote) -> bool {
        let mut warned = self.warned.lock();
        let is_first_warning = warned.len() < MAX_WARNED && !warned.contains(&source);
        if is_first_warning {
            warned.push(source);
        }
        is_first_warning
    }

    fn claim(&self, headers: &impl Headers) -> HeaderClaim {
        match &self.options.header {
            Some(RealIpHeader { name, syntax }) => self.claim_in(headers, name, *syntax),
            None => USUAL
                .iter()
                .map(|(name, syntax)| self.claim_in(headers, name, *syntax))
                .fold(HeaderClaim::Nothing, HeaderClaim::and),
        }
    }

    fn claim_in(&self, headers: &impl Headers, name: &str, syntax: Syntax) -> HeaderClaim {
        match forwarded::client(headers.all(name), syntax, |ip| self.options.proxies.include(ip)) {
            Named::Client(ip) => HeaderClaim::Client(ip),
            // With `-x` every address is a proxy's. Then the first address in the header is the client's.
            Named::Proxy(ip) if !self.options.proxies.name_exactly(ip) => HeaderClaim::Client(ip),
            Named::NotSaid => HeaderClaim::Nothing,
            Named::Proxy(_) | Named::Unclear => HeaderClaim::Unclear,
        }
    }

    /// The headers that could name the client, for the log.
    fn found(&self, headers: &impl Headers) -> String {
        let names: Vec<&str> = match &self.options.header {
            Some(header) => vec![&header.name],
            None => USUAL.iter().map(|(name, _)| *name).collect(),
        };
        let lines = names.iter().flat_map(|&name| headers.all(name).map(move |line| (name, line)));
        let found: Vec<_> = lines.take(8).map(|(name, line)| format!("{name}: \"{}\"", shown(line))).collect();
        if found.is_empty() { format!("no {} header", names.join(", ")) } else { found.join(" and ") }
    }
}

/// Whether a client at this address gets peers that distant clients do not get.
fn is_near(ip: IpAddr) -> bool {
    matches!(Reach::of(ip), Reach::Host | Reach::Link | Reach::Site)
}

/// A header's value, shortened for the log.
fn shown(line: &[u8]) -> String {
    line.get(..100).map_or_else(|| line.escape_ascii().to_string(), |start| format!("{}...", start.escape_ascii()))
}

fn warn_unclear_client(source: Remote, standing: Standing, found: &str) {
    let proxy = match source {
        Remote::Unix => "behind the Unix socket".to_owned(),
        Remote::Ip(ip) | Remote::Proxy(ip) => format!("at {ip}"),
    };
    if standing == Standing::Untrusted {
        // No warning: the sender may be a client that forges headers.
        log::info!(
            "the proxy {proxy} is not trusted, but it forwarded a request. The client of the request gets public peers only \
             and is not listed as a peer. If you run this proxy, name it in TRUSTED_PROXIES; see docs/reverse-proxy.md. The \
             request has {found}. Logged once for each proxy"
        );
        return;
    }
    log::warn!(
        "the proxy {proxy} does not name the client of a request: the request has {found}. Its client gets public peers \
         only and is not listed as a peer; set one header in the proxy (nginx: proxy_set_header X-Real-IP $remote_addr). If \
         the proxy also passes on such headers from clients, set REAL_IP_HEADER to the name of the header that the proxy \
         sets itself; see docs/reverse-proxy.md. Logged once for each proxy"
    );
}

impl HeaderClaim {
    /// Combines the claims of two headers. The proxy may have set one, and the client the other. So claims that
    /// contradict each other are not trusted.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, claim) | (claim, Self::Nothing) => claim,
            (Self::Client(one), Self::Client(other)) if one == other => Self::Client(one),
            _ => Self::Unclear,
        }
    }
}

#[cfg(test)]
mod tests;
