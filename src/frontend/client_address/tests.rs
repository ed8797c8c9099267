use super::*;
use proptest::prelude::*;

/// Header lines as names and values.
struct Sent<'a>(&'a [(&'a str, &'a str)]);

impl Headers for Sent<'_> {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

fn trusted(header: Option<&str>) -> ClientAddress {
    let proxies =
        TrustedProxies::At(["10.0.0.0/8", "fd00::1/128", "192.168.1.1/32"].map(|at| at.parse().unwrap()).into());
    ClientAddress::new(ClientAddressOptions { proxies, header: header.map(|name| RealIpHeader::new(name).unwrap()) })
}

/// The address and the standing, as a text; `?` for a client that is unclear.
fn of(rule: &ClientAddress, source: Remote, sent: &[(&str, &str)]) -> String {
    match rule.of(source, &Sent(sent), &Metrics::unexposed()) {
        Identity { ip, standing: Standing::Client } => ip.to_string(),
        Identity { standing: Standing::Unclear | Standing::Untrusted, .. } => "?".to_owned(),
        Identity { ip, standing } => format!("{ip} {standing:?}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(address: &str) -> Remote {
    Remote::new(Some(SocketAddr::new(ip(address), 1)))
}

const PROXY: &str = "10.0.0.1";

#[test]
fn the_usual_headers_count_from_trusted_proxies_only() {
    for header in [
        ("X-Real-IP", "203.0.113.5"),
        ("x-real-ip", "\"[::ffff:203.0.113.5]:80\""),
        ("x-forwarded-for", "6.6.6.6, 203.0.113.5, 10.0.0.2"),
        ("X-Forwarded-For", "203.0.113.5:4711,"),
        ("Forwarded", "for=6.6.6.6, for=203.0.113.5"),
        ("Forwarded", "proto=https;for=\"203.0.113.5:1\""),
    ] {
        for proxy in [at(PROXY), at("::ffff:10.0.0.1"), at("fd00::1"), Remote::Unix, Remote::Proxy(ip(PROXY))] {
            assert_eq!(of(&trusted(None), proxy, &[header]), "203.0.113.5", "{header:?} {proxy:?}");
        }
        for stranger in ["8.8.8.8", "2600::1", "203.0.113.9"] {
            assert_eq!(of(&trusted(None), at(stranger), &[header]), stranger, "{header:?}");
        }
        // These proxies are not configured, and on near networks. So their clients are unknown.
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
fn a_client_whose_headers_disagree_is_unclear() {
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
fn a_header_without_an_address_contradicts_none() {
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
fn a_proxy_that_names_no_client_is_unclear() {
    for rule in [&trusted(None), &trusted(Some("X-Real-IP")), &trusted(Some("X-Forwarded-For"))] {
        for proxy in [at(PROXY), at("192.168.1.1"), Remote::Unix, Remote::Proxy(ip(PROXY))] {
            assert_eq!(of(rule, proxy, &[]), "?", "{proxy:?}");
            for header in ["X-Real-IP", "X-Forwarded-For"] {
                for value in ["unknown", "", "example.com", "fd00::1", "192.168.1.1"] {
                    assert_eq!(of(rule, proxy, &[(header, value)]), "?", "{proxy:?} {header} {value}");
                }
            }
        }
    }
    // A network of trusted proxies may have clients too.
    assert_eq!(of(&trusted(None), at(PROXY), &[("X-Real-IP", "10.0.0.7")]), "10.0.0.7");
    assert_eq!(of(&trusted(None), at(PROXY), &[("X-Forwarded-For", "10.0.0.7, 10.0.0.8")]), "10.0.0.7");
}

#[test]
fn with_x_every_header_counts_and_the_socket_without_one() {
    let options = ClientAddressOptions { proxies: TrustedProxies::Anyone, header: Some(RealIpHeader::x_real_ip()) };
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
    assert_eq!(of(&rule, Remote::Unix, &[]), "?", "it has no address");
}

#[test]
fn requests_of_web_pages_are_not_clients() {
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
        // Node.js sends this header, and so does WebTorrent, which runs on Node.js.
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
fn the_proxy_protocol_counts_where_it_is_expected() {
    let address = |text: &str| Some(SocketAddr::new(ip(text), 1));
    let behind = |proxies: TrustedProxies, socket, named| {
        let rule = ClientAddress::new(ClientAddressOptions { proxies, header: None });
        let source = rule.behind(socket, named);
        (source, of(&rule, source, &[]))
    };
    let proxies = || TrustedProxies::At(vec!["10.0.0.0/8".parse().unwrap()]);
    let named = address("203.0.113.5");
    let client = (at("203.0.113.5"), "203.0.113.5".to_owned());
    for socket in [address("8.8.8.8"), None] {
        assert_eq!(behind(TrustedProxies::default(), socket, named), client);
        assert_eq!(behind(TrustedProxies::Anyone, socket, named).0, client.0);
    }
    assert_eq!(behind(proxies(), address("::ffff:10.0.0.1"), named), client);
    assert_eq!(behind(proxies(), None, named), client);
    for (proxies, socket, named) in [
        (proxies(), "192.168.1.5", named),
        (proxies(), "10.0.0.1", None),
        (proxies(), "10.0.0.1", address("0.0.0.0")),
        (proxies(), "10.0.0.1", address("10.0.0.2")),
        (TrustedProxies::default(), "10.0.0.1", None),
        (TrustedProxies::default(), "8.8.8.8", address("::ffff:0.0.0.0")),
    ] {
        assert_eq!(behind(proxies, address(socket), named).1, "?", "{socket} {named:?}");
    }
    assert_eq!(behind(proxies(), None, None), (Remote::Unix, "?".to_owned()));
    assert_eq!(behind(proxies(), address("8.8.8.8"), named).1, "8.8.8.8");
}

#[test]
fn datagrams_of_a_proxy_without_a_header_are_unclear() {
    let rule = trusted(None);
    assert_eq!(rule.datagram_standing(at("192.168.1.1")), Standing::Unclear);
    assert_eq!(rule.datagram_standing(Remote::Proxy(ip("10.0.0.7"))), Standing::Unclear);
    for client in ["192.168.1.2", "10.0.0.7", "8.8.8.8"] {
        assert_eq!(rule.datagram_standing(at(client)), Standing::Client, "{client}");
    }
}

#[test]
fn each_proxy_is_logged_once_and_their_number_is_limited() {
    let rule = trusted(None);
    assert!(
        rule.is_first_warning(at(PROXY)) && !rule.is_first_warning(at(PROXY)) && rule.is_first_warning(Remote::Unix)
    );
    let warnings = (0..=255).filter(|&n| rule.is_first_warning(Remote::Ip([10, 1, 1, n].into()))).count();
    assert_eq!(warnings, MAX_WARNED - 2);
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
    /// The client's proxy adds the client's address. Whatever the client sends, the result is that address or
    /// "unclear".
    #[test]
    fn forged_headers_never_win(
        lies in proptest::collection::vec((0usize..3, "[ -~]{0,40}|6\\.6\\.6\\.6|for=6\\.6\\.6\\.6|unknown|-|_a|"), 0..4),
        added in 0usize..3,
    ) {
        let (name, _) = USUAL[added];
        // The proxy replaces X-Real-IP. It appends to the other headers, which are lists.
        let kept = lies.iter().filter(|(header, _)| added != 0 || *header != 0);
        let mut sent: Vec<_> = kept.map(|(header, value)| (USUAL[*header].0, value.as_str())).collect();
        sent.push((name, if added == 2 { "for=203.0.113.5" } else { "203.0.113.5" }));
        let known = of(&trusted(None), at(PROXY), &sent);
        prop_assert!(known == "203.0.113.5" || known == "?", "{:?} {:?}", sent, known);
        let named = of(&trusted(Some(name)), at(PROXY), &sent);
        prop_assert_eq!(named, "203.0.113.5", "{:?}", sent);
    }
}
