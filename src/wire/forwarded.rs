//! What proxies write into a request about whose it is: `Forwarded` (RFC 7239), `X-Forwarded-For`, and headers that hold
//! one address, such as `X-Real-IP`.
//!
//! Lists grow to the right: each proxy adds whom it was spoken to by. What stands on the left is hearsay, at worst the
//! client's own invention. So a list is read from the right, for as long as a proxy that is trusted has written it: the
//! first address that is no trusted proxy's is the client's.

use std::net::IpAddr;

use super::announce::parse_ip;

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `for=192.0.2.43;proto=http, for="[2001:db8:cafe::17]:4711"` (RFC 7239, section 4).
    Forwarded,
    /// `192.0.2.43, 2001:db8:cafe::17`; also with ports, and with brackets.
    XForwardedFor,
    /// `192.0.2.43`.
    Single,
}

impl Syntax {
    /// The syntax of the header of that name, in either case. One that is not known holds one address.
    pub fn of(name: &str) -> Self {
        if name.eq_ignore_ascii_case("forwarded") {
            Self::Forwarded
        } else if name.eq_ignore_ascii_case("x-forwarded-for") {
            Self::XForwardedFor
        } else {
            Self::Single
        }
    }
}

/// Whom a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The client at this address, canonical.
    Client(IpAddr),
    /// All are trusted proxies, and this is the first of them: it has asked itself, or does not say who asked it.
    Proxy(IpAddr),
    /// Nobody: it is not there, is empty, or says that it does not say.
    Nobody,
    /// It cannot be read, or says several things.
    Unclear,
}

/// What one element of a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Ip(IpAddr),
    /// Nothing: `unknown`, a name of the proxy's own (RFC 7239, section 6.3), or what programs write for nothing.
    Hidden,
    Junk,
}

/// Whom the lines of one header, in their order, name.
pub fn client<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    syntax: Syntax,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Named {
    let node = match syntax {
        Syntax::Forwarded => forwarded_for,
        Syntax::XForwardedFor => node,
        Syntax::Single => return single(lines, is_trusted),
    };
    let mut named = None;
    for line in lines {
        // Lines are one list (RFC 9110, section 5.3), and later ones stand to the right.
        match in_list(line, node, &is_trusted) {
            Some(Named::Proxy(ip)) => drop(named.get_or_insert(Named::Proxy(ip))),
            Some(decided) => named = Some(decided),
            None => {}
        }
    }
    named.unwrap_or(Named::Nobody)
}

/// Whom one line of a list names. None when it is empty.
fn in_list(line: &[u8], node: impl Fn(&[u8]) -> Node, is_trusted: impl Fn(IpAddr) -> bool) -> Option<Named> {
    let mut leftmost = None;
    let mut rest = Some(line);
    while let Some(line) = rest {
        let (before, element) = split_last(line, b',');
        rest = before;
        if element.trim_ascii().is_empty() {
            continue;
        }
        match node(element) {
            Node::Ip(ip) if is_trusted(ip) => leftmost = Some(Named::Proxy(ip)),
            // It was a trusted proxy that does not say whom it was asked by.
            Node::Hidden => return Some(Named::Nobody),
            Node::Ip(ip) => return Some(Named::Client(ip)),
            Node::Junk => return Some(Named::Unclear),
        }
    }
    leftmost
}

/// Whom a header names that is no list. If it is there several times, or was made a list of on the way, one of them is the
/// proxy's and the others are anybody's: they must be the same.
fn single<'a>(lines: impl IntoIterator<Item = &'a [u8]>, is_trusted: impl Fn(IpAddr) -> bool) -> Named {
    let mut found = None;
    for line in lines {
        let is_empty = line.trim_ascii().is_empty();
        let elements = line.split(|&byte| byte == b',').filter(|element| is_empty || !element.trim_ascii().is_empty());
        for element in elements {
            let node = node(element);
            if *found.get_or_insert(node) != node {
                return Named::Unclear;
            }
        }
    }
    match found {
        Some(Node::Ip(ip)) if is_trusted(ip) => Named::Proxy(ip),
        Some(Node::Ip(ip)) => Named::Client(ip),
        Some(Node::Hidden) | None => Named::Nobody,
        Some(Node::Junk) => Named::Unclear,
    }
}

/// The part behind the last separator that is not in a quoted string, and what is before that separator.
///
/// From the right, because a client may send a quote that it never closes: what the proxy wrote behind it stays whole.
fn split_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut in_quotes = false;
    for (at, &byte) in text.iter().enumerate().rev() {
        let before = text.get(..at).unwrap_or_default();
        if byte == b'"' && !ends_in_escape(before) {
            in_quotes = !in_quotes;
        } else if byte == separator && !in_quotes {
            return (Some(before), text.get(at + 1..).unwrap_or_default());
        }
    }
    (None, text)
}

/// Whether the next byte is escaped: an odd number of backslashes stands before it.
fn ends_in_escape(text: &[u8]) -> bool {
    text.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// The `for` of an element of `Forwarded`. When it is there twice, nobody knows which of them is meant.
fn forwarded_for(element: &[u8]) -> Node {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(pairs) = rest {
        let (before, pair) = split_last(pairs, b';');
        rest = before;
        let Some(value) = value_of_for(pair) else { continue };
        if found.replace(value).is_some() {
            return Node::Junk;
        }
    }
    found.map_or(Node::Hidden, node)
}

fn value_of_for(pair: &[u8]) -> Option<&[u8]> {
    let (name, value) = pair.trim_ascii().split_at_checked(4)?;
    name.eq_ignore_ascii_case(b"for=").then_some(value)
}

/// What programs write that have nothing to say.
const NOTHING: [&[u8]; 6] = [b"", b"-", b"unknown", b"null", b"(null)", b"none"];

/// An address, canonical, with or without quotes, brackets and a port. No escape means anything in an address, so that one
/// with a backslash is none.
fn node(text: &[u8]) -> Node {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text).trim_ascii();
    let host = text.split(|&byte| byte == b':').next().unwrap_or_default();
    let is_nothing = NOTHING.iter().any(|nothing| host.eq_ignore_ascii_case(nothing)) && !text.starts_with(b":");
    if is_nothing || text.starts_with(b"_") {
        return Node::Hidden;
    }
    match std::str::from_utf8(text).ok().and_then(parse_ip) {
        Some(ip) => Node::Ip(ip),
        None => Node::Junk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In these tests all of `10.0.0.0/8` and `fd00::/8` are proxies.
    fn is_trusted(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip.octets()[0] == 10,
            IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
        }
    }

    /// The client's address, that of a `proxy`, `-` for nobody or `?` for what is unclear.
    fn of(syntax: Syntax, lines: &[&str]) -> String {
        match client(lines.iter().map(|line| line.as_bytes()), syntax, is_trusted) {
            Named::Client(ip) => ip.to_string(),
            Named::Proxy(ip) => format!("proxy {ip}"),
            Named::Nobody => "-".to_owned(),
            Named::Unclear => "?".to_owned(),
        }
    }

    #[test]
    fn the_name_decides_the_syntax() {
        assert_eq!(Syntax::of("Forwarded"), Syntax::Forwarded);
        assert_eq!(Syntax::of("x-forwarded-FOR"), Syntax::XForwardedFor);
        assert_eq!(Syntax::of("CF-Connecting-IP"), Syntax::Single);
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_past_trusted_proxies() {
        for (lines, client) in [
            (&["203.0.113.5"][..], "203.0.113.5"),
            (&["6.6.6.6, 203.0.113.5"], "203.0.113.5"),
            (&["6.6.6.6,203.0.113.5 , 10.0.0.1,10.0.0.2"], "203.0.113.5"),
            (&["6.6.6.6", "203.0.113.5", "10.0.0.1"], "203.0.113.5"),
            (&["6.6.6.6", "203.0.113.5", ""], "203.0.113.5"),
            (&["10.0.0.3, 10.0.0.1"], "proxy 10.0.0.3"),
            (&["10.0.0.3", "10.0.0.1"], "proxy 10.0.0.3"),
            (&["203.0.113.5, ,, 10.0.0.1,"], "203.0.113.5"),
            (&["2001:db8::5, fd00::1"], "2001:db8::5"),
            (&["[2001:db8::5]:4711"], "2001:db8::5"),
            (&["203.0.113.5:4711"], "203.0.113.5"),
            (&["::ffff:203.0.113.5"], "203.0.113.5"),
            (&["203.0.113.5, unknown"], "-"),
            (&["203.0.113.5, unknown, 10.0.0.1"], "-"),
            (&["unknown, 203.0.113.5"], "203.0.113.5"),
            (&["<script>, 203.0.113.5"], "203.0.113.5"),
            (&["203.0.113.5, <script>"], "?"),
            (&["203.0.113.5, <script>, 10.0.0.1"], "?"),
            (&["203.0.113.5, localhost"], "?"),
            (&["", ","], "-"),
            (&["Unknown"], "-"),
            (&["-"], "-"),
            (&["_hidden"], "-"),
            (&["6.6.6.6", "unknown", "10.0.0.1"], "-"),
            (&[" \"[2001:db8::5]:4711\" "], "2001:db8::5"),
            (&["\"203.0.113.5\", \"10.0.0.1:80\""], "203.0.113.5"),
            (&["[fe80::5%eth0]:80"], "fe80::5"),
            (&[], "-"),
        ] {
            assert_eq!(of(Syntax::XForwardedFor, lines), client, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_in_every_dress() {
        for (lines, client) in [
            // The examples of RFC 7239, sections 4 and 7.
            (&["For=\"[2001:db8:cafe::17]:4711\""][..], "2001:db8:cafe::17"),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"),
            (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17"),
            (&["for=\"_gazonk\""], "-"),
            (&["for=192.0.2.43, for=\"[2001:db8:cafe::17]\", for=unknown"], "-"),
            (&["for=_hidden, for=_SEVKISEK"], "-"),
            // Past trusted proxies, over several lines.
            (&["for=6.6.6.6, for=192.0.2.43;by=10.0.0.1, for=10.0.0.1"], "192.0.2.43"),
            (&["for=6.6.6.6, for=192.0.2.43", "for=10.0.0.1"], "192.0.2.43"),
            (&["by=10.0.0.2 ; FOR=\"192.0.2.43:80\" ; host=\"a,b;c\""], "192.0.2.43"),
            (&["for=192.0.2.43;ext=\"a \\\", for=6.6.6.6\""], "192.0.2.43"),
            // Without a `for`, or with two, nobody knows.
            (&["for=192.0.2.43, by=10.0.0.1"], "-"),
            (&["proto=https"], "-"),
            (&["for=192.0.2.43;for=6.6.6.6"], "?"),
            (&["192.0.2.43"], "-"),
            (&["for=\"192.0.2.43"], "?"),
            (&["for=\"_hidden:_port\""], "-"),
            (&["for=\"Unknown:4711\""], "-"),
            (&["for=unknown", "for=10.0.0.1"], "-"),
            (&["for=\"192.0.2.43\\\""], "?"),
        ] {
            assert_eq!(of(Syntax::Forwarded, lines), client, "{lines:?}");
        }
    }

    #[test]
    fn what_a_client_writes_does_not_change_what_the_proxy_says() {
        for invented in ["for=\"", "for=6.6.6.6;x=\"", "\\", "for=6.6.6.6, \"\\\"", "\"\"\"", "for=6.6.6.6;x=\"\\\\\\"]
        {
            for element in ["for=192.0.2.43", "for=\"192.0.2.43\"", "for=\"192.0.2.43:1\";by=\"[fd00::1]:2\""] {
                let line = format!("{invented}, {element}");
                assert_eq!(of(Syntax::Forwarded, &[&line]), "192.0.2.43", "{line}");
            }
        }
    }

    #[test]
    fn a_single_address_is_the_only_one() {
        for (lines, client) in [
            (&[" 203.0.113.5 "][..], "203.0.113.5"),
            (&["203.0.113.5", "203.0.113.5"], "203.0.113.5"),
            (&["203.0.113.5,::ffff:203.0.113.5"], "203.0.113.5"),
            (&["203.0.113.5,"], "203.0.113.5"),
            (&["\"[2001:db8::5]:4711\""], "2001:db8::5"),
            (&["fe80::5%eth0"], "fe80::5"),
            (&["10.0.0.5"], "proxy 10.0.0.5"),
            (&["6.6.6.6", "203.0.113.5"], "?"),
            (&["6.6.6.6, 203.0.113.5"], "?"),
            (&["6.6.6.6", ""], "?"),
            (&["6.6.6.6", "unknown"], "?"),
            (&["example.com"], "?"),
            (&["::5::"], "?"),
            (&["", ""], "-"),
            (&["unknown"], "-"),
            (&["(null)"], "-"),
            (&[], "-"),
        ] {
            assert_eq!(of(Syntax::Single, lines), client, "{lines:?}");
        }
    }

    fn written(ip: IpAddr, syntax: Syntax) -> String {
        match (syntax, ip) {
            (Syntax::Forwarded, IpAddr::V4(ip)) => format!("for={ip}"),
            (Syntax::Forwarded, IpAddr::V6(ip)) => format!("for=\"[{ip}]:4711\""),
            _ => ip.to_string(),
        }
    }

    proptest! {
        #[test]
        fn the_client_is_found_behind_any_lie(
            lies in "[ -~]{0,80}", client in any::<[u8; 4]>(), v6 in any::<bool>(),
            proxies in proptest::collection::vec(any::<[u8; 3]>(), 0..4),
        ) {
            let ip: IpAddr = if v6 { [[0x20, 1], [client[0], client[1]]].concat().try_into().map(|start: [u8; 4]| {
                let mut octets = [7; 16];
                octets[..4].copy_from_slice(&start);
                octets.into()
            }).unwrap() } else { client.into() };
            prop_assume!(!is_trusted(ip));
            for syntax in [Syntax::Forwarded, Syntax::XForwardedFor] {
                let mut line = format!("{lies}, {}", written(ip, syntax));
                for [b, c, d] in &proxies {
                    line = format!("{line}, {}", written([10, *b, *c, *d].into(), syntax));
                }
                prop_assert_eq!(of(syntax, &[&line]), ip.to_string(), "{}", line);
                prop_assert_eq!(of(syntax, &[&lies, &line]), ip.to_string(), "{}", line);
            }
        }

        #[test]
        fn any_bytes_are_read(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            for syntax in [Syntax::Forwarded, Syntax::XForwardedFor, Syntax::Single] {
                let _ = client(lines.iter().map(Vec::as_slice), syntax, is_trusted);
            }
        }
    }
}
