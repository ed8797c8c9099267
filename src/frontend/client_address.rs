//! Where a client's address is found: at the other end of the socket or, when a proxy that is believed is there, in a
//! header of the request. Knows no framework: a source, and a way to look headers up.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::headers::{Headers, Signs, is_token};
use crate::bittorrent::address::Reach;
use crate::metrics::Metrics;
use crate::tracker::Standing;
use crate::wire::forwarded::{self, Named, Syntax};

/// The headers that proxies use as a rule.
const USUAL: [(&str, Syntax); 3] =
    [("X-Real-IP", Syntax::Single), ("X-Forwarded-For", Syntax::XForwardedFor), ("Forwarded", Syntax::Forwarded)];

/// Whose word is taken for a client's address, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAddressOptions {
    /// The proxies that are believed. `--trusted-proxies`, `TRUSTED_PROXIES`, and `-x`, `X_REAL_IP`; none.
    pub proxies: Proxies,
    /// The header in which they say it. `--real-ip-header`, `REAL_IP_HEADER`; none, so that all of the usual ones are
    /// read: whoever adds one to what the proxy sets only makes itself unknown.
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
pub enum Source {
    /// Somebody at this address.
    Ip(IpAddr),
    /// Somebody on this host, through a Unix socket.
    Unix,
    /// Somebody at this address who has spoken as a proxy, by the PROXY protocol, and has not said for whom, or is not
    /// believed.
    Proxy(IpAddr),
}

impl Source {
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
pub struct Client {
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
    told: Mutex<Vec<Source>>,
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
    pub fn is_proxy(&self, source: Source) -> bool {
        source == Source::Unix || self.options.proxies.are_at(source.ip())
    }

    /// Who is behind a connection on which somebody has said by the PROXY protocol for whom it speaks, or that it does not
    /// say it. Where no proxies are named, all that connect are believed: the listener is there for proxies alone.
    pub fn behind(&self, socket: Option<SocketAddr>, named: Option<SocketAddr>) -> Source {
        let source = Source::new(socket);
        let named = named.map(|named| named.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
        match (named.filter(|_| self.is_believed(source)), source) {
            (Some(named), _) => Source::Ip(named),
            (None, Source::Unix) => Source::Unix,
            (None, source) => Source::Proxy(source.ip()),
        }
    }

    /// Whether what this proxy says by the PROXY protocol is believed, where it is expected: as [`Self::behind`] has it.
    pub fn is_believed(&self, proxy: Source) -> bool {
        match (&self.options.proxies, proxy) {
            (Proxies::At(networks), _) if networks.is_empty() => true,
            (proxies, Source::Ip(ip) | Source::Proxy(ip)) => proxies.are_at(ip),
            (_, Source::Unix) => true,
        }
    }

    /// What is known of who sends datagrams from there. They have no headers: what comes from a proxy without being said to
    /// be a client's may be anybody's.
    pub fn of_datagram(&self, source: Source) -> Standing {
        let ip = source.ip();
        let is_client = matches!(source, Source::Ip(_)) && !self.options.proxies.are_exactly_at(ip);
        if is_client {
            return Standing::Client;
        }
        if self.is_news(Source::Proxy(ip)) {
            log::warn!(
                "the proxy at {ip} does not say whose its datagrams are, so its clients get public peers only and are not listed \
                 as some; have it put a PROXY protocol header of version 2 before each; see docs/reverse-proxy.md. This is said \
                 once for each proxy"
            );
        }
        Standing::Unclear
    }

    /// Somebody has connected where proxies are to send a header first, and has not sent one.
    pub fn tell_without_header(&self, source: Source, error: &io::Error) {
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
    pub fn tell_of_datagram(&self, source: IpAddr, why: &impl fmt::Display) {
        log::debug!("a datagram from {source} is dropped: {why}");
        self.told_of_datagram.call_once(|| {
            log::warn!(
                "a datagram from {source} to a listener for the PROXY protocol is dropped: {why}; have a proxy that is \
                 believed put the header of version 2 before each datagram, or listen without proxy+. This is said once"
            );
        });
    }

    /// Who sent this request.
    pub fn of(&self, source: Source, headers: &impl Headers, metrics: &Metrics) -> Client {
        let signs = Signs::of(headers);
        let Client { ip, standing } = self.known_by(source, headers, signs, metrics);
        let standing = match standing {
            Standing::Client | Standing::NoClaims if signs.page => Standing::Page,
            Standing::Client if signs.browser => Standing::NoClaims,
            standing => standing,
        };
        Client { ip, standing }
    }

    fn known_by(&self, source: Source, headers: &impl Headers, signs: Signs, metrics: &Metrics) -> Client {
        let ip = source.ip();
        let client = Client { ip, standing: Standing::Client };
        let standing = match source {
            _ if self.is_proxy(source) => match (self.said(headers), &self.options.proxies, source) {
                (Said::Client(ip), _, _) => return Client { ip, ..client },
                (said, Proxies::Anyone, Source::Ip(_)) => return self.fall_back(ip, &said, headers, metrics),
                _ => Standing::Unclear,
            },
            Source::Ip(_) if !signs.proxy => return client,
            Source::Proxy(_) if self.is_believed(source) => Standing::Unclear,
            // Of the rest of the world all are told the same, whether or not there is a proxy between.
            _ if !is_near(ip) => return client,
            Source::Ip(_) | Source::Proxy(_) | Source::Unix => Standing::Untrusted,
        };
        metrics.real_ip_missing.inc();
        if self.is_news(source) {
            tell_of_doubt(source, standing, &self.found(headers));
        }
        Client { ip, standing }
    }

    /// With `-x` alone a request is the other end's of the socket if it does not say whose it is, as with the Go retracker.
    fn fall_back(&self, ip: IpAddr, said: &Said, headers: &impl Headers, metrics: &Metrics) -> Client {
        metrics.real_ip_missing.inc();
        if self.is_news(Source::Unix) {
            let found = self.found(headers);
            log::warn!(
                "the proxy at {ip} does not say whose a request is: it came with {found}, so that the proxy's own address \
                 was taken; have the proxy set it (nginx: proxy_set_header X-Real-IP $remote_addr). This is said once"
            );
        }
        let standing = if matches!(said, Said::Nothing) { Standing::Client } else { Standing::NoClaims };
        Client { ip, standing }
    }

    /// Whether the log is to be told of this one.
    fn is_news(&self, source: Source) -> bool {
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
            Named::Nobody => Said::Nothing,
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

fn tell_of_doubt(source: Source, standing: Standing, found: &str) {
    let proxy = match source {
        Source::Unix => "behind the Unix socket".to_owned(),
        Source::Ip(ip) | Source::Proxy(ip) => format!("at {ip}"),
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names and values, as they came.
    struct Sent<'a>(&'a [(&'a str, &'a str)]);

    impl Headers for Sent<'_> {
        fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        }
    }

    fn trusted(header: Option<&str>) -> ClientAddress {
        let proxies = Proxies::At(["10.0.0.0/8", "fd00::1/128", "192.168.1.1/32"].map(|at| at.parse().unwrap()).into());
        ClientAddress::new(ClientAddressOptions {
            proxies,
            header: header.map(|name| RealIpHeader::new(name).unwrap()),
        })
    }

    /// The address, and what else is known; of somebody who is unclear only that.
    fn of(rule: &ClientAddress, source: Source, sent: &[(&str, &str)]) -> String {
        match rule.of(source, &Sent(sent), &Metrics::unexposed()) {
            Client { ip, standing: Standing::Client } => ip.to_string(),
            Client { standing: Standing::Unclear | Standing::Untrusted, .. } => "?".to_owned(),
            Client { ip, standing } => format!("{ip} {standing:?}"),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(address: &str) -> Source {
        Source::new(Some(SocketAddr::new(ip(address), 1)))
    }

    const PROXY: &str = "10.0.0.1";

    #[test]
    fn every_usual_header_of_a_trusted_proxy_is_believed_and_of_nobody_else() {
        for header in [
            ("X-Real-IP", "203.0.113.5"),
            ("x-real-ip", "\"[::ffff:203.0.113.5]:80\""),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.5, 10.0.0.2"),
            ("X-Forwarded-For", "203.0.113.5:4711,"),
            ("Forwarded", "for=6.6.6.6, for=203.0.113.5"),
            ("Forwarded", "proto=https;for=\"203.0.113.5:1\""),
        ] {
            for proxy in [at(PROXY), at("::ffff:10.0.0.1"), at("fd00::1"), Source::Unix, Source::Proxy(ip(PROXY))] {
                assert_eq!(of(&trusted(None), proxy, &[header]), "203.0.113.5", "{header:?} {proxy:?}");
            }
            for stranger in ["8.8.8.8", "2600::1", "203.0.113.9"] {
                assert_eq!(of(&trusted(None), at(stranger), &[header]), stranger, "{header:?}");
            }
            // A proxy that nobody has named.
            for near in ["127.0.0.1", "fd00::2", "192.168.1.2", "100.64.0.1", "169.254.1.1", "fe80::1"] {
                for rule in [&trusted(None), &ClientAddress::new(ClientAddressOptions::default())] {
                    assert_eq!(of(rule, at(near), &[header]), "?", "{header:?} {near}");
                    assert_eq!(of(rule, at(near), &[("Via", "1.1 retracker"), ("X-Forwarded-For", "")]), near);
                }
            }
        }
    }

    #[test]
    fn a_named_header_is_the_only_one() {
        let sent = [("X-Real-IP", "6.6.6.6"), ("CF-Connecting-IP", "203.0.113.5"), ("Forwarded", "for=7.7.7.7")];
        assert_eq!(of(&trusted(Some("cf-connecting-ip")), at(PROXY), &sent), "203.0.113.5");
        assert_eq!(of(&trusted(Some("forwarded")), at(PROXY), &sent), "7.7.7.7");
        assert_eq!(of(&trusted(Some("X-Forwarded-For")), at(PROXY), &sent), "?");
    }

    #[test]
    fn who_brings_headers_to_disagree_is_unknown() {
        let nginx = ("X-Real-IP", "203.0.113.5");
        for agrees in [("X-Forwarded-For", "6.6.6.6, 203.0.113.5"), ("X-Real-IP", " 203.0.113.5"), nginx] {
            assert_eq!(of(&trusted(None), at(PROXY), &[nginx, agrees]), "203.0.113.5", "{agrees:?}");
        }
        for lie in [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-For", "192.168.1.5"),
            ("X-Forwarded-For", "<script>"),
            ("Forwarded", "for=6.6.6.6"),
            ("Forwarded", "for=6.6.6.6;for=203.0.113.5"),
            ("X-Real-IP", "192.168.1.5"),
            ("X-Real-IP", ""),
        ] {
            for sent in [[nginx, lie], [lie, nginx]] {
                assert_eq!(of(&trusted(None), at(PROXY), &sent), "?", "{sent:?}");
            }
        }
    }

    #[test]
    fn what_says_nothing_contradicts_nothing() {
        let nginx = ("X-Real-IP", "203.0.113.5");
        for nothing in [
            ("X-Forwarded-For", ""),
            ("X-Forwarded-For", " , ,"),
            ("X-Forwarded-For", "unknown"),
            ("X-Forwarded-For", "-"),
            ("X-Forwarded-For", "6.6.6.6, unknown"),
            ("Forwarded", "for=unknown"),
            ("Forwarded", "for=\"_hidden:_port\""),
            ("Forwarded", "proto=https"),
            ("Forwarded", "for=6.6.6.6, by=10.0.0.1;proto=https"),
        ] {
            assert_eq!(of(&trusted(None), at(PROXY), &[nginx, nothing]), "203.0.113.5", "{nothing:?}");
            assert_eq!(of(&trusted(None), at(PROXY), &[nothing]), "?", "alone: {nothing:?}");
            assert_eq!(of(&trusted(Some(nothing.0)), at(PROXY), &[nginx, nothing]), "?", "named: {nothing:?}");
        }
    }

    #[test]
    fn a_proxy_that_names_nobody_or_only_a_proxy_is_no_client() {
        for rule in [&trusted(None), &trusted(Some("X-Real-IP")), &trusted(Some("X-Forwarded-For"))] {
            for proxy in [at(PROXY), at("192.168.1.1"), Source::Unix, Source::Proxy(ip(PROXY))] {
                assert_eq!(of(rule, proxy, &[]), "?", "{proxy:?}");
                for header in ["X-Real-IP", "X-Forwarded-For"] {
                    for value in ["unknown", "", "example.com", "fd00::1", "192.168.1.1"] {
                        assert_eq!(of(rule, proxy, &[(header, value)]), "?", "{proxy:?} {header} {value}");
                    }
                }
            }
        }
        // In a network of trusted proxies there may be clients.
        assert_eq!(of(&trusted(None), at(PROXY), &[("X-Real-IP", "10.0.0.7")]), "10.0.0.7");
        assert_eq!(of(&trusted(None), at(PROXY), &[("X-Forwarded-For", "10.0.0.7, 10.0.0.8")]), "10.0.0.7");
    }

    #[test]
    fn anyone_is_believed_with_x_and_the_socket_is_if_nothing_is_said() {
        let options = ClientAddressOptions { proxies: Proxies::Anyone, header: Some(RealIpHeader::x_real_ip()) };
        let rule = ClientAddress::new(options);
        for source in ["8.8.8.8", "127.0.0.1", "10.0.0.1"] {
            assert_eq!(of(&rule, at(source), &[("x-real-ip", "10.1.1.1")]), "10.1.1.1");
            assert_eq!(of(&rule, at(source), &[("x-real-ip", source)]), source);
            assert_eq!(of(&rule, at(source), &[("X-Forwarded-For", "10.1.1.1")]), source);
            assert_eq!(of(&rule, at(source), &[("X-Real-IP", "unknown")]), source);
            for junk in ["10.0.0.1, 10.0.0.2", "example.com"] {
                assert_eq!(of(&rule, at(source), &[("X-Real-IP", junk)]), format!("{source} NoClaims"));
            }
        }
        assert_eq!(of(&rule, Source::Unix, &[]), "?", "it has no address");
    }

    #[test]
    fn what_a_web_page_sends_is_no_client_s() {
        let page = "192.168.1.7 Page";
        for (sign, known) in [
            (("Origin", "https://evil.example"), page),
            (("origin", "null"), page),
            (("Referer", "http://evil.example/"), page),
            (("Sec-Fetch-Site", "cross-site"), page),
            (("Sec-Fetch-Site", "same-site"), page),
            (("Sec-Fetch-Site", "same-origin"), page),
            (("Sec-Fetch-Mode", "no-cors"), page),
            (("Sec-Fetch-Dest", "image"), page),
            (("Sec-Fetch-Dest", "iframe"), page),
            (("Sec-Fetch-Site", "none"), "192.168.1.7"),
            (("Sec-Fetch-Mode", "navigate"), "192.168.1.7"),
            // As Node.js has it, and so WebTorrent.
            (("Sec-Fetch-Mode", "cors"), "192.168.1.7"),
            (("Accept-Language", "*"), "192.168.1.7"),
            (("Accept-Language", "en"), "192.168.1.7 NoClaims"),
            (("User-Agent", "Mozilla/5.0"), "192.168.1.7"),
        ] {
            assert_eq!(of(&trusted(None), at("192.168.1.7"), &[sign]), known, "{sign:?}");
            assert_eq!(of(&trusted(None), at(PROXY), &[("X-Real-IP", "192.168.1.7"), sign]), known, "{sign:?}");
            assert_eq!(of(&trusted(None), at(PROXY), &[sign]), "?", "{sign:?}");
        }
    }

    #[test]
    fn the_proxy_protocol_is_believed_where_it_is_expected() {
        let address = |text: &str| Some(SocketAddr::new(ip(text), 1));
        let behind = |proxies: Proxies, socket, named| {
            let rule = ClientAddress::new(ClientAddressOptions { proxies, header: None });
            let source = rule.behind(socket, named);
            (source, of(&rule, source, &[]))
        };
        let proxies = || Proxies::At(vec!["10.0.0.0/8".parse().unwrap()]);
        let named = address("203.0.113.5");
        let client = (at("203.0.113.5"), "203.0.113.5".to_owned());
        for socket in [address("8.8.8.8"), None] {
            assert_eq!(behind(Proxies::default(), socket, named), client);
            assert_eq!(behind(Proxies::Anyone, socket, named).0, client.0);
        }
        assert_eq!(behind(proxies(), address("::ffff:10.0.0.1"), named), client);
        assert_eq!(behind(proxies(), None, named), client);
        for (proxies, socket, named) in [
            (proxies(), "192.168.1.5", named),
            (proxies(), "10.0.0.1", None),
            (proxies(), "10.0.0.1", address("0.0.0.0")),
            (proxies(), "10.0.0.1", address("10.0.0.2")),
            (Proxies::default(), "10.0.0.1", None),
            (Proxies::default(), "8.8.8.8", address("::ffff:0.0.0.0")),
        ] {
            assert_eq!(behind(proxies, address(socket), named).1, "?", "{socket} {named:?}");
        }
        assert_eq!(behind(proxies(), None, None), (Source::Unix, "?".to_owned()));
        assert_eq!(behind(proxies(), address("8.8.8.8"), named).1, "8.8.8.8");
    }

    #[test]
    fn datagrams_of_a_proxy_that_do_not_say_whose_they_are() {
        let rule = trusted(None);
        assert_eq!(rule.of_datagram(at("192.168.1.1")), Standing::Unclear);
        assert_eq!(rule.of_datagram(Source::Proxy(ip("10.0.0.7"))), Standing::Unclear);
        for client in ["192.168.1.2", "10.0.0.7", "8.8.8.8"] {
            assert_eq!(rule.of_datagram(at(client)), Standing::Client, "{client}");
        }
    }

    #[test]
    fn each_proxy_is_told_of_once_and_no_more_than_so_many() {
        let rule = trusted(None);
        assert!(rule.is_news(at(PROXY)) && !rule.is_news(at(PROXY)) && rule.is_news(Source::Unix));
        let told = (0..=255).filter(|&n| rule.is_news(Source::Ip([10, 1, 1, n].into()))).count();
        assert_eq!(told, MOST_TOLD - 2);
    }

    #[test]
    fn names_of_headers() {
        for name in ["X-Real-IP", "CF-Connecting-IP", "x_y"] {
            assert!(RealIpHeader::new(name).is_some(), "{name}");
        }
        for name in ["", "a b", "X-Real-IP:", "é", "a,b", "x\r\n", &"x".repeat(65)] {
            assert!(RealIpHeader::new(name).is_none(), "{name}");
        }
    }

    proptest! {
        /// Whatever it sends, a client behind a proxy that adds its address appears under that address or is unknown.
        #[test]
        fn no_lie_wins(
            lies in proptest::collection::vec((0usize..3, "[ -~]{0,40}|6\\.6\\.6\\.6|for=6\\.6\\.6\\.6|unknown|-|_a|"), 0..4),
            added in 0usize..3,
        ) {
            let (name, _) = USUAL[added];
            // X-Real-IP is replaced by the proxy, lists are added to.
            let kept = lies.iter().filter(|(header, _)| added != 0 || *header != 0);
            let mut sent: Vec<_> = kept.map(|(header, value)| (USUAL[*header].0, value.as_str())).collect();
            sent.push((name, if added == 2 { "for=203.0.113.5" } else { "203.0.113.5" }));
            let known = of(&trusted(None), at(PROXY), &sent);
            prop_assert!(known == "203.0.113.5" || known == "?", "{:?} {:?}", sent, known);
            let named = of(&trusted(Some(name)), at(PROXY), &sent);
            prop_assert_eq!(named, "203.0.113.5", "{:?}", sent);
        }
    }
}
