//! Where a client's address is found: at the other end of the socket or, when a proxy that is believed is there, in a
//! header of the request. Knows no framework: a source, and a way to look headers up.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::headers::{Headers, Signs, is_token};
use crate::metrics::Metrics;
use crate::topology::reach::Reach;
use crate::tracker::Standing;
use tracker_protocol::forwarded::{self, Named, Syntax};

/// The headers that proxies use as a rule.
const USUAL: [(&str, Syntax); 3] =
    [("X-Real-IP", Syntax::Single), ("X-Forwarded-For", Syntax::XForwardedFor), ("Forwarded", Syntax::Forwarded)];

/// Whose word is taken for a client's address, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAddressOptions {
    /// The proxies that are believed. `--trusted-proxies` and `--x-real-ip`.
    pub proxies: Proxies,
    /// The header in which they say it. `--real-ip-header`; None: all of the usual ones are read,
    /// so a client that adds one to what the proxy sets only becomes one that is not listed.
    pub header: Option<RealIpHeader>,
}

/// The proxies that are believed. The one behind a Unix socket always is: what connects there is on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// Those at these addresses.
    At(Vec<IpNet>),
    /// Whoever connects, as with the Go retracker: clients must not reach the tracker but through the proxy.
    Anyone,
}

impl Default for Proxies {
    fn default() -> Self {
        Self::At(Vec::new())
    }
}

impl Proxies {
    fn are_at(&self, ip: IpAddr) -> bool {
        match self {
            Self::At(networks) => networks.iter().any(|network| network.contains(&ip)),
            Self::Anyone => true,
        }
    }

    /// Whether this is the address of a proxy, not only one in a network of theirs, where there may be clients as well.
    fn are_exactly_at(&self, ip: IpAddr) -> bool {
        match self {
            Self::At(networks) => networks.iter().any(|network| *network == IpNet::from(ip)),
            Self::Anyone => false,
        }
    }
}

/// The header in which proxies say whose a request is.
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

    /// The header of that name. None when no header can have that name (RFC 9110, section 5.6.2).
    pub fn new(name: &str) -> Option<Self> {
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_token);
        is_name.then(|| Self { name: name.to_owned(), syntax: Syntax::of(name) })
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Somebody at this address.
    Ip(IpAddr),
    /// Somebody on this host, through a Unix socket.
    Unix,
    /// Somebody at this address who has spoken as a proxy, by the PROXY protocol, and has not said for whom, or is not
    /// believed.
    Proxy(IpAddr),
}

impl Remote {
    /// That of a socket. One without an address is a Unix socket.
    pub fn new(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::Unix, |address| Self::Ip(address.ip().to_canonical()))
    }

    /// Its address. A Unix socket is on this host.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Ip(ip) | Self::Proxy(ip) => ip,
            Self::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its address, canonical; that of a proxy if [`Self::standing`] says so.
    pub ip: IpAddr,
    /// What is known of who that is.
    pub standing: Standing,
}

/// The rule for the address of a client.
#[derive(Debug)]
pub struct ClientAddress {
    options: ClientAddressOptions,
    /// Proxies of which the log was told that they do not say whose a request is.
    told: Mutex<Vec<Remote>>,
    /// That somebody connects without a header where proxies are to send one, is logged once.
    told_without_header: Once,
    /// And that somebody sends a datagram without one there.
    told_of_datagram: Once,
}

/// So many proxies are told of in the log.
const MOST_TOLD: usize = 64;

/// What a request's headers say of who sent it.
enum Said {
    Nothing,
    Client(IpAddr),
    /// There is something, but it is no address, or only a proxy's; or there are two.
    Unclear,
}

impl ClientAddress {
    /// The rule for all requests of the process.
    pub fn new(options: ClientAddressOptions) -> Self {
        Self { options, told: Mutex::default(), told_without_header: Once::new(), told_of_datagram: Once::new() }
    }

    /// Whether a trusted proxy is there, whose connections are those of many clients.
    pub fn is_proxy(&self, source: Remote) -> bool {
        source == Remote::Unix || self.options.proxies.are_at(source.ip())
    }

    /// Who is behind a connection on which somebody has said by the PROXY protocol for whom it speaks, or that it does not
    /// say it. Where no proxies are named, all that connect are believed: the listener is there for proxies alone.
    pub fn behind(&self, socket: Option<SocketAddr>, named: Option<SocketAddr>) -> Remote {
        let source = Remote::new(socket);
        let named = named.map(|named| named.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
        match (named.filter(|_| self.is_believed(source)), source) {
            (Some(named), _) => Remote::Ip(named),
            (None, Remote::Unix) => Remote::Unix,
            (None, source) => Remote::Proxy(source.ip()),
        }
    }

    /// Whether what this proxy says by the PROXY protocol is believed, where it is expected: as [`Self::behind`] has it.
    pub fn is_believed(&self, proxy: Remote) -> bool {
        match (&self.options.proxies, proxy) {
            (Proxies::At(networks), _) if networks.is_empty() => true,
            (proxies, Remote::Ip(ip) | Remote::Proxy(ip)) => proxies.are_at(ip),
            (_, Remote::Unix) => true,
        }
    }

    /// What is known of who sends datagrams from there. They have no headers: what comes from a proxy without being said to
    /// be a client's may be anybody's.
    pub fn of_datagram(&self, source: Remote) -> Standing {
        let ip = source.ip();
        let is_client = matches!(source, Remote::Ip(_)) && !self.options.proxies.are_exactly_at(ip);
        if is_client {
            return Standing::Client;
        }
        if self.is_news(Remote::Proxy(ip)) {
            log::warn!(
                "the proxy at {ip} does not say whose its datagrams are, so its clients get public peers only and are not listed \
                 as some; have it put a PROXY protocol header of version 2 before each; see docs/reverse-proxy.md. This is said \
                 once for each proxy"
            );
        }
        Standing::Unclear
    }

    /// Somebody has connected where proxies are to send a header first, and has not sent one.
    pub fn tell_without_header(&self, source: Remote, error: &io::Error) {
        log::debug!("a connection from {} is closed: {error}", source.ip());
        // Who connects and says nothing is a health check, or gone.
        if error.kind() != io::ErrorKind::InvalidData {
            return;
        }
        self.told_without_header.call_once(|| {
            log::warn!(
                "a connection from {} to a listener for the PROXY protocol is closed: {error}; have the proxy send the \
                 header (nginx: proxy_protocol on), or listen without proxy+. This is said once",
                source.ip()
            );
        });
    }

    /// A datagram has come where those of proxies are to begin with a header, and is dropped for what `why` says.
    pub fn warn_bad_datagram(&self, source: IpAddr, why: &impl fmt::Display) {
        log::debug!("a datagram from {source} is dropped: {why}");
        self.told_of_datagram.call_once(|| {
            log::warn!(
                "a datagram from {source} to a listener for the PROXY protocol is dropped: {why}; have a proxy that is \
                 believed put the header of version 2 before each datagram, or listen without proxy+. This is said once"
            );
        });
    }

    /// Who sent this request.
    pub fn of(&self, source: Remote, headers: &impl Headers, metrics: &Metrics) -> Identity {
        let signs = Signs::of(headers);
        let Identity { ip, standing } = self.known_by(source, headers, signs, metrics);
        let standing = match standing {
            Standing::Client | Standing::NoClaims if signs.page => Standing::Page,
            Standing::Client if signs.browser => Standing::NoClaims,
            standing => standing,
        };
        Identity { ip, standing }
    }

    fn known_by(&self, source: Remote, headers: &impl Headers, signs: Signs, metrics: &Metrics) -> Identity {
        let ip = source.ip();
        let client = Identity { ip, standing: Standing::Client };
        let standing = match source {
            _ if self.is_proxy(source) => match (self.said(headers), &self.options.proxies, source) {
                (Said::Client(ip), _, _) => return Identity { ip, ..client },
                (said, Proxies::Anyone, Remote::Ip(_)) => return self.fall_back(ip, &said, headers, metrics),
                _ => Standing::Unclear,
            },
            Remote::Ip(_) if !signs.proxy => return client,
            Remote::Proxy(_) if self.is_believed(source) => Standing::Unclear,
            // Of the rest of the world all are told the same, whether or not there is a proxy between.
            _ if !is_near(ip) => return client,
            Remote::Ip(_) | Remote::Proxy(_) | Remote::Unix => Standing::Untrusted,
        };
        metrics.real_ip_missing.inc();
        if self.is_news(source) {
            tell_of_doubt(source, standing, &self.found(headers));
        }
        Identity { ip, standing }
    }

    /// With `-x` alone a request is the other end's of the socket if it does not say whose it is, as with the Go retracker.
    fn fall_back(&self, ip: IpAddr, said: &Said, headers: &impl Headers, metrics: &Metrics) -> Identity {
        metrics.real_ip_missing.inc();
        if self.is_news(Remote::Unix) {
            let found = self.found(headers);
            log::warn!(
                "the proxy at {ip} does not say whose a request is: it came with {found}, so that the proxy's own address \
                 was taken; have the proxy set it (nginx: proxy_set_header X-Real-IP $remote_addr). This is said once"
            );
        }
        let standing = if matches!(said, Said::Nothing) { Standing::Client } else { Standing::NoClaims };
        Identity { ip, standing }
    }

    /// Whether the log is to be told of this one.
    fn is_news(&self, source: Remote) -> bool {
        let mut told = self.told.lock();
        let is_news = told.len() < MOST_TOLD && !told.contains(&source);
        if is_news {
            told.push(source);
        }
        is_news
    }

    fn said(&self, headers: &impl Headers) -> Said {
        match &self.options.header {
            Some(RealIpHeader { name, syntax }) => self.said_in(headers, name, *syntax),
            None => {
                USUAL.iter().map(|(name, syntax)| self.said_in(headers, name, *syntax)).fold(Said::Nothing, Said::and)
            }
        }
    }

    fn said_in(&self, headers: &impl Headers, name: &str, syntax: Syntax) -> Said {
        match forwarded::client(headers.all(name), syntax, |ip| self.options.proxies.are_at(ip)) {
            Named::Client(ip) => Said::Client(ip),
            // With `-x` all are believed, and the first is the client.
            Named::Proxy(ip) if !self.options.proxies.are_exactly_at(ip) => Said::Client(ip),
            Named::NotSaid => Said::Nothing,
            Named::Proxy(_) | Named::Unclear => Said::Unclear,
        }
    }

    /// The headers that could say whose a request is, for the log.
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

/// Whether who is there is told what the rest of the world is not.
fn is_near(ip: IpAddr) -> bool {
    matches!(Reach::of(ip), Reach::Host | Reach::Link | Reach::Site)
}

/// A header's value, as far as a log should hold it.
fn shown(line: &[u8]) -> String {
    line.get(..100).map_or_else(|| line.escape_ascii().to_string(), |start| format!("{}...", start.escape_ascii()))
}

fn tell_of_doubt(source: Remote, standing: Standing, found: &str) {
    let proxy = match source {
        Remote::Unix => "behind the Unix socket".to_owned(),
        Remote::Ip(ip) | Remote::Proxy(ip) => format!("at {ip}"),
    };
    if standing == Standing::Untrusted {
        // It may be a client that makes up headers, which is nothing to be warned of.
        log::info!(
            "a proxy {proxy} passed on a request (it came with {found}) and is none of the trusted ones, so its client gets \
             public peers only and is not listed as one; if you run that proxy, name it with TRUSTED_PROXIES; see \
             docs/reverse-proxy.md. This is said once for each proxy"
        );
        return;
    }
    log::warn!(
        "the proxy {proxy} does not say whose a request is: it came with {found}, so its client gets public peers only and is \
         not listed as one; have the proxy set one header (nginx: proxy_set_header X-Real-IP $remote_addr), and name that with \
         REAL_IP_HEADER if it passes on others; see docs/reverse-proxy.md. This is said once for each proxy"
    );
}

impl Said {
    /// What two headers say together. A proxy sets one of them and may pass on the other as the client has sent it: when
    /// they contradict each other, nobody knows which is which.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, said) | (said, Self::Nothing) => said,
            (Self::Client(one), Self::Client(other)) if one == other => Self::Client(one),
            _ => Self::Unclear,
        }
    }
}

#[cfg(test)]
mod tests;
