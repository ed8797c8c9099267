//! Where a client's address is found: at the other end of the socket or, when a proxy that is believed is there, in a
//! header of the request. Knows no framework: a source, and a way to look headers up.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use ipnet::IpNet;

use super::headers::{Headers, is_token};
use crate::metrics::Metrics;
use crate::tracker::Standing;
use crate::wire::forwarded::{self, Syntax};

/// The headers that proxies use as a rule.
const USUAL: [(&str, Syntax); 3] =
    [("X-Real-IP", Syntax::Single), ("X-Forwarded-For", Syntax::XForwardedFor), ("Forwarded", Syntax::Forwarded)];

/// Whose word is taken for a client's address, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAddressOptions {
    /// The proxies that are believed. `--trusted-proxies`, `TRUSTED_PROXIES`, and `-x`, `X_REAL_IP`; none.
    pub proxies: Proxies,
    /// The header in which they say it. `--real-ip-header`, `REAL_IP_HEADER`; none, so that all of the usual ones are
    /// read.
    pub header: Option<RealIpHeader>,
}

/// The proxies that are believed. The one behind a Unix socket always is: what connects there is on this host, and who
/// is on this host could claim any address with `ip=` as well.
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

/// Who is at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody at this address.
    Ip(IpAddr),
    /// Somebody on this host, through a Unix socket.
    Unix,
}

impl Source {
    /// None for a Unix socket, which has no address.
    pub fn new(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::Unix, |address| Self::Ip(address.ip().to_canonical()))
    }

    /// Its address. A Unix socket is on this host.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Ip(ip) => ip,
            Self::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, canonical.
    pub ip: IpAddr,
    /// What is known of who that is.
    pub standing: Standing,
}

/// The rule for the address of a client.
#[derive(Debug)]
pub struct ClientAddress {
    options: ClientAddressOptions,
    /// That a proxy does not say whose a request is, is logged once.
    told: Once,
    /// And once that somebody connects without a header where proxies are to send one.
    told_without_header: Once,
    /// And that somebody sends a datagram without one there.
    told_of_datagram: Once,
}

/// What a request's headers say of who sent it.
enum Said {
    Nothing,
    Client(IpAddr),
    /// There is something, but it is no address; or there are two.
    Unclear,
}

impl ClientAddress {
    /// The rule for all requests of the process.
    pub fn new(options: ClientAddressOptions) -> Self {
        Self { options, told: Once::new(), told_without_header: Once::new(), told_of_datagram: Once::new() }
    }

    /// Whether a trusted proxy is there, whose connections are those of many clients.
    pub fn is_proxy(&self, source: Source) -> bool {
        source == Source::Unix || self.options.proxies.are_at(source.ip())
    }

    /// Who is behind a connection on which a proxy has said by the PROXY protocol for whom it speaks: that one, or the
    /// other end of the socket if the proxy speaks for itself or is not believed. Where no proxies are named, all that
    /// connect are believed: the listener is there for proxies alone.
    pub fn behind(&self, socket: Option<SocketAddr>, named: Option<SocketAddr>) -> Option<SocketAddr> {
        named.filter(|_| self.is_believed(Source::new(socket))).or(socket)
    }

    /// Whether what this proxy says by the PROXY protocol is believed, where it is expected: as [`Self::behind`] has it.
    pub fn is_believed(&self, proxy: Source) -> bool {
        match (&self.options.proxies, proxy) {
            (Proxies::At(networks), _) if networks.is_empty() => true,
            (proxies, Source::Ip(ip)) => proxies.are_at(ip),
            (_, Source::Unix) => true,
        }
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

    /// Who sent this request. When a proxy does not say it, the proxy.
    pub fn of(&self, source: Source, headers: &impl Headers, metrics: &Metrics) -> Client {
        let ip = source.ip();
        if source != Source::Unix && !self.options.proxies.are_at(ip) {
            return Client { ip, standing: Standing::Client };
        }
        let standing = match self.said(headers) {
            Said::Client(ip) => return Client { ip, standing: Standing::Client },
            Said::Nothing => Standing::Client,
            Said::Unclear => Standing::NoClaims,
        };
        metrics.real_ip_missing.inc();
        self.told.call_once(|| self.tell(ip, headers));
        Client { ip, standing }
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
        if headers.all(name).next().is_none() {
            return Said::Nothing;
        }
        let client = forwarded::client(headers.all(name), syntax, |ip| self.options.proxies.are_at(ip));
        client.map_or(Said::Unclear, Said::Client)
    }

    fn tell(&self, proxy: IpAddr, headers: &impl Headers) {
        let names: Vec<&str> = match &self.options.header {
            Some(header) => vec![&header.name],
            None => USUAL.iter().map(|(name, _)| *name).collect(),
        };
        let lines = names.iter().flat_map(|&name| headers.all(name).map(move |line| (name, line)));
        let found: Vec<_> = lines.map(|(name, line)| format!("{name}: \"{}\"", line.escape_ascii())).collect();
        let found = if found.is_empty() { format!("no {} header", names.join(", ")) } else { found.join(" and ") };
        log::warn!(
            "the proxy at {proxy} does not say whose a request is: it came with {found}, so that the proxy's own address \
             was taken; have the proxy set one header, and name it with REAL_IP_HEADER if it passes on others (nginx: \
             proxy_set_header X-Real-IP $remote_addr). This is said once"
        );
    }
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
        fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
            self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
        }
    }

    fn trusted(header: Option<&str>) -> ClientAddress {
        let proxies = Proxies::At(vec!["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
        ClientAddress::new(ClientAddressOptions {
            proxies,
            header: header.map(|name| RealIpHeader::new(name).unwrap()),
        })
    }

    /// The address, and whether it may be claimed anew.
    fn of(rule: &ClientAddress, source: Source, sent: &[(&str, &str)]) -> (String, bool) {
        let Client { ip, standing } = rule.of(source, &Sent(sent), &Metrics::unexposed());
        (ip.to_string(), standing == Standing::Client)
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
            ("x-forwarded-for", "6.6.6.6, 203.0.113.5, 10.0.0.2"),
            ("Forwarded", "for=6.6.6.6, for=203.0.113.5"),
        ] {
            for proxy in [at(PROXY), at("::ffff:10.0.0.1"), at("fd00::1"), Source::Unix] {
                assert_eq!(of(&trusted(None), proxy, &[header]), ("203.0.113.5".into(), true), "{header:?} {proxy:?}");
            }
            for stranger in ["8.8.8.8", "127.0.0.1", "fd00::2", "192.168.1.1"] {
                assert_eq!(of(&trusted(None), at(stranger), &[header]), (stranger.into(), true), "{header:?}");
            }
        }
    }

    #[test]
    fn a_named_header_is_the_only_one() {
        let sent = [("X-Real-IP", "6.6.6.6"), ("CF-Connecting-IP", "203.0.113.5"), ("Forwarded", "for=7.7.7.7")];
        assert_eq!(of(&trusted(Some("cf-connecting-ip")), at(PROXY), &sent).0, "203.0.113.5");
        assert_eq!(of(&trusted(Some("forwarded")), at(PROXY), &sent).0, "7.7.7.7");
        assert_eq!(of(&trusted(Some("X-Forwarded-For")), at(PROXY), &sent), (PROXY.into(), true));
    }

    #[test]
    fn headers_must_agree_and_who_brings_them_to_disagree_may_not_claim_either() {
        let nginx = ("X-Real-IP", "203.0.113.5");
        let agrees = [nginx, ("X-Forwarded-For", "6.6.6.6, 203.0.113.5")];
        assert_eq!(of(&trusted(None), at(PROXY), &agrees), ("203.0.113.5".into(), true));
        for lie in [("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6"), ("Forwarded", "for=unknown")] {
            assert_eq!(of(&trusted(None), at(PROXY), &[nginx, lie]), (PROXY.into(), false), "{lie:?}");
        }
        assert_eq!(of(&trusted(None), at(PROXY), &[("X-Real-IP", "unknown")]), (PROXY.into(), false));
        // A neighbour of the proxy that speaks for itself.
        assert_eq!(of(&trusted(None), at(PROXY), &[]), (PROXY.into(), true));
    }

    #[test]
    fn anyone_is_believed_with_x() {
        let options = ClientAddressOptions { proxies: Proxies::Anyone, header: Some(RealIpHeader::x_real_ip()) };
        let rule = ClientAddress::new(options);
        assert_eq!(of(&rule, at("8.8.8.8"), &[("x-real-ip", "10.1.1.1")]).0, "10.1.1.1");
        assert_eq!(of(&rule, at("8.8.8.8"), &[("X-Forwarded-For", "10.1.1.1")]).0, "8.8.8.8");
    }

    #[test]
    fn the_proxy_protocol_is_believed_where_it_is_expected() {
        let address = |text: &str| Some(SocketAddr::new(ip(text), 1));
        let behind = |proxies: Proxies, socket| {
            let rule = ClientAddress::new(ClientAddressOptions { proxies, header: None });
            rule.behind(socket, address("203.0.113.5"))
        };
        let proxies = || Proxies::At(vec!["10.0.0.0/8".parse().unwrap()]);
        let named = address("203.0.113.5");
        for socket in [address("8.8.8.8"), None] {
            assert_eq!(behind(Proxies::default(), socket), named);
            assert_eq!(behind(Proxies::Anyone, socket), named);
        }
        assert_eq!(behind(proxies(), address("::ffff:10.0.0.1")), named);
        assert_eq!(behind(proxies(), None), named);
        assert_eq!(behind(proxies(), address("8.8.8.8")), address("8.8.8.8"));
        let rule = ClientAddress::new(ClientAddressOptions::default());
        assert_eq!(rule.behind(address("10.0.0.1"), None), address("10.0.0.1"));
        assert_eq!(rule.behind(None, None), None);
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
        /// Whatever it sends, a client behind a proxy that adds its address appears under that address, or under the
        /// proxy's and may not claim another.
        #[test]
        fn no_lie_wins(
            lies in proptest::collection::vec((0usize..3, "[ -~]{0,40}|6\\.6\\.6\\.6|for=6\\.6\\.6\\.6"), 0..4),
            added in 0usize..3,
        ) {
            let (name, _) = USUAL[added];
            // X-Real-IP is replaced by the proxy, lists are added to.
            let kept = lies.iter().filter(|(header, _)| added != 0 || *header != 0);
            let mut sent: Vec<_> = kept.map(|(header, value)| (USUAL[*header].0, value.as_str())).collect();
            sent.push((name, if added == 2 { "for=203.0.113.5" } else { "203.0.113.5" }));
            let known = of(&trusted(None), at(PROXY), &sent);
            prop_assert!(known == ("203.0.113.5".into(), true) || known == (PROXY.into(), false), "{:?} {:?}", sent, known);
            let named = of(&trusted(Some(name)), at(PROXY), &sent);
            prop_assert_eq!(named, ("203.0.113.5".into(), true), "{:?}", sent);
        }
    }
}
